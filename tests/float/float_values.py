"""Operands that are hard to get right: boundaries, subnormals, ties, near-cancellations."""

from __future__ import annotations

import random

from float_oracle import Format
from hypothesis import strategies as st


def hard_fraction(fmt: Format, rng: random.Random) -> int:
    mask = (1 << fmt.f) - 1
    kind = rng.randrange(6)
    if kind == 0:
        return rng.choice((0, 1, mask, mask - 1, 1 << (fmt.f - 1), (1 << (fmt.f - 1)) - 1))
    if kind == 1:
        return 1 << rng.randrange(fmt.f)
    if kind == 2:
        return mask ^ (1 << rng.randrange(fmt.f))
    if kind == 3:
        return mask & -(1 << rng.randrange(fmt.f))
    if kind == 4:
        return rng.getrandbits(rng.randrange(1, fmt.f + 1))
    return rng.getrandbits(fmt.f)


def hard_bits(fmt: Format, rng: random.Random, near: int | None = None) -> int:
    """A bit pattern; with `near`, often one whose exponent is within rounding distance of that one's."""
    top = (1 << fmt.e) - 1
    if near is not None and rng.random() < 0.6:
        field = (fmt.magnitude(near) >> fmt.f) + rng.randrange(-fmt.f - 3, fmt.f + 4)
        if rng.random() < 0.1:
            return near ^ rng.choice((0, 1, 1 << (fmt.width - 1), (1 << (fmt.width - 1)) + 1))
    elif rng.random() < 0.5:
        field = rng.choice((0, 0, 1, 2, top, top - 1, top - 2, top >> 1, (top >> 1) + 1, (top >> 1) - 1))
    else:
        field = rng.randrange(top + 1)
    field = min(max(field, 0), top)
    return rng.getrandbits(1) << (fmt.width - 1) | field << fmt.f | hard_fraction(fmt, rng)


def triple(fmt: Format, rng: random.Random) -> tuple[int, int, int]:
    """Three operands; the third is often near the product of the first two."""
    a = hard_bits(fmt, rng)
    b = hard_bits(fmt, rng, a if rng.random() < 0.5 else None)
    field = (fmt.magnitude(a) >> fmt.f) + (fmt.magnitude(b) >> fmt.f) - fmt.emax
    product = min(max(field, 0), (1 << fmt.e) - 1) << fmt.f
    return a, b, hard_bits(fmt, rng, product)


def triples(fmt: Format) -> st.SearchStrategy[tuple[int, int, int]]:
    """The same as a strategy, mixed with uniform bit patterns."""
    word = st.integers(0, (1 << fmt.width) - 1)
    hard = st.integers(0, 2**64 - 1).map(lambda seed: triple(fmt, random.Random(seed)))
    return st.one_of(hard, st.tuples(word, word, word))

"""Integer floating point against exact rational arithmetic: every bit and every flag, in every mode."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import float_oracle as oracle
import pytest
from float_oracle import DOUBLE, FORMATS, HALF, MODES, Format
from float_values import hard_bits, triple, triples
from hypothesis import given, settings
from hypothesis import strategies as st

from trapline.isa.float import arithmetic, compare, convert, fma, formats
from trapline.lang.state import Hart
from trapline.lang.values import U64

HART = Hart()
BY_NAME = pytest.mark.parametrize("fmt", FORMATS, ids=lambda f: f.name)
INTEGERS = {"w": (-(2**31), 2**31 - 1), "wu": (0, 2**32 - 1), "l": (-(2**63), 2**63 - 1), "lu": (0, 2**64 - 1)}
BULK = 1200
OWN = {own.name: own for own in (formats.HALF, formats.SINGLE, formats.DOUBLE)}


def operation(fmt: Format, op: str) -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(OWN[fmt.name], op)
    return found


def run(function: Callable[..., Any], *args: int) -> tuple[int, int]:
    """Call a subset function on U64 operands with clear flags; return bits and flags."""
    HART.fflags = 0
    bits = int(function(HART, *[U64(a) for a in args]))
    return bits, int(HART.fflags)


def check(function: Callable[..., Any], expected: tuple[int, int], *args: int) -> None:
    assert run(function, *args) == expected, [hex(a) for a in args]


def check_arithmetic(fmt: Format, a: int, b: int, c: int, mode: int) -> None:
    for op in ("add", "mul", "div"):
        check(operation(fmt, op), getattr(oracle, op)(fmt, a, b, mode), a, b, mode)
    check(operation(fmt, "sqrt"), oracle.sqrt(fmt, a, mode), a, mode)
    check(operation(fmt, "fma"), oracle.fma(fmt, a, b, c, mode), a, b, c, mode)


@BY_NAME
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_arithmetic_of_any_operands(fmt: Format, data: st.DataObject) -> None:
    """Add, multiply, divide, square root and fused multiply-add give the exact result rounded once."""
    a, b, c = data.draw(triples(fmt))
    check_arithmetic(fmt, a, b, c, data.draw(st.sampled_from(MODES)))


@BY_NAME
def test_arithmetic_in_bulk(fmt: Format) -> None:
    """The same on many operands near ties, cancellations and the ends of the range."""
    rng = random.Random(fmt.width)
    for n in range(BULK):
        check_arithmetic(fmt, *triple(fmt, rng), n % 5)


@BY_NAME
def test_results_around_the_smallest_normal_number(fmt: Format) -> None:
    """Underflow is raised only for an inexact result that is tiny after rounding."""
    least = 1 << fmt.f
    one = fmt.emax << fmt.f
    for mode in MODES:
        for a in range(least - 3, least + 4):
            for b in range(one - 3, one + 4):
                for sign in (0, 1 << (fmt.width - 1)):
                    check(operation(fmt, "mul"), oracle.mul(fmt, a, b | sign, mode), a, b | sign, mode)


def test_every_half_square_root() -> None:
    """Square roots of all half-precision numbers in steps that visit every exponent."""
    for a in range(0, 1 << 16, 7):
        check(operation(HALF, "sqrt"), oracle.sqrt(HALF, a, a % 5), a, a % 5)


@BY_NAME
def test_conversion_between_formats(fmt: Format) -> None:
    """Widening is exact, narrowing rounds once, NaNs become canonical."""
    rng = random.Random(fmt.width + 1)
    for target in FORMATS:
        if target is fmt:
            continue
        function = formats.conversion(OWN[fmt.name], OWN[target.name])
        for n in range(BULK):
            a = hard_bits(fmt, rng)
            if n % 3 == 0 and fmt.width > target.width:  # around what the target can hold
                field = (
                    rng.choice((target.emin - 1, target.emin - target.f, target.emax, 0))
                    + fmt.emax
                    + rng.randrange(-2, 3)
                )
                a = (a & ~fmt.inf) | field << fmt.f
            check(function, oracle.convert(fmt, target, a, n % 5), a, n % 5)


@BY_NAME
@pytest.mark.parametrize("name", INTEGERS)
def test_conversion_to_integers(fmt: Format, name: str) -> None:
    """Out of range gives NV and the nearest integer; 32-bit results are sign-extended."""
    rng = random.Random(fmt.width + 2)
    low, high = INTEGERS[name]
    function = operation(fmt, f"to_{name}")
    for n in range(BULK // 2):
        a = hard_bits(fmt, rng)
        if n % 3:
            field = fmt.emax + rng.choice((-2, -1, 0, 1, fmt.f - 1, fmt.f, 30, 31, 32, 62, 63, 64))
            a = (a & ~fmt.inf) | min(field << fmt.f, fmt.inf)
        value, flags = oracle.to_int(fmt, a, n % 5, low, high)
        if name == "wu" and value >> 31:
            value -= 1 << 32
        check(function, (value & (2**64 - 1), flags), a, n % 5)


@BY_NAME
@pytest.mark.parametrize("name", INTEGERS)
def test_conversion_from_integers(fmt: Format, name: str) -> None:
    """Integers round once; only the low 32 bits count for w and wu; zero is positive."""
    rng = random.Random(fmt.width + 3)
    low, high = INTEGERS[name]
    bits = high.bit_length() + (low < 0)
    function = operation(fmt, f"from_{name}")
    for n in range(BULK // 2):
        raw = rng.getrandbits(rng.randrange(1, 65)) ^ rng.choice((0, 2**64 - 1))
        value = raw & ((1 << bits) - 1)
        if low < 0 and value > high:
            value -= 1 << bits
        check(function, oracle.from_int(fmt, value, n % 5), raw, n % 5)


@BY_NAME
def test_comparison_minimum_and_class(fmt: Format) -> None:
    """feq is quiet, flt and fle signal; a NaN loses in min and max; -0 is below +0 there only."""
    rng = random.Random(fmt.width + 4)
    e, f = fmt.e, fmt.f
    for _ in range(BULK):
        a = hard_bits(fmt, rng)
        b = hard_bits(fmt, rng, a)
        for op in ("eq", "lt", "le"):
            generic = getattr(compare, f"soft_{op}")
            check(lambda h, x, y, g=generic: g(h, x, y, e, f), oracle.compare(fmt, a, b, op), a, b)
        for larger in (False, True):
            check(
                lambda h, x, y, m=larger: compare.soft_pick(h, x, y, m, e, f),
                oracle.pick(fmt, a, b, larger),
                a,
                b,
            )
        assert compare.soft_classify(U64(a), e, f) == oracle.classify(fmt, a), hex(a)


def test_format_parameters_are_values() -> None:
    """The generic functions keep to the subset's types when the format comes as U64 and not as a literal."""
    rng = random.Random(7)
    for n in range(300):
        fmt = FORMATS[n % 3]
        e, f, mode = U64(fmt.e), U64(fmt.f), U64(n % 5)
        a, b, c = (U64(v) for v in triple(fmt, rng))
        results = [
            arithmetic.soft_add(HART, a, b, mode, e, f),
            arithmetic.soft_mul(HART, a, b, mode, e, f),
            arithmetic.soft_div(HART, a, b, mode, e, f),
            arithmetic.soft_sqrt(HART, a, mode, e, f),
            fma.soft_fma(HART, a, b, c, mode, e, f),
            convert.soft_convert(HART, a, mode, e, f, U64(DOUBLE.e), U64(DOUBLE.f)),
            convert.from_signed(HART, a, mode, e, f),
            convert.to_integer(HART, a, mode, U64(2**63 - 1), U64(2**63), e, f),
            compare.soft_le(HART, a, b, e, f),
            compare.soft_pick(HART, a, b, True, e, f),
        ]
        assert all(type(r) is U64 for r in results), [type(r) for r in results]
        assert results[0] == oracle.add(fmt, int(a), int(b), n % 5)[0]

"""Comparison, minimum, maximum and classification, for any format (e, f)."""

from __future__ import annotations

from trapline.isa.float.parts import (
    accrue,
    default_nan,
    exponent_field,
    fraction_field,
    is_infinite,
    is_nan,
    is_signaling,
    is_zero,
    magnitude,
    sign_of,
    signal,
)
from trapline.lang.functions import inline
from trapline.lang.state import Hart
from trapline.lang.values import U64, u64
from trapline.privilege.fields import NV


@inline
def below(a: U64, b: U64, e: U64, f: U64) -> bool:
    """a < b of numbers, with -0 below +0."""
    if sign_of(a, e, f) != sign_of(b, e, f):
        return sign_of(a, e, f) != 0
    if sign_of(a, e, f) != 0:
        return a > b
    return a < b


@inline
def both_zero(a: U64, b: U64, e: U64, f: U64) -> bool:
    """Two zeros of any sign."""
    return magnitude(a | b, e, f) == 0


@inline
def soft_eq(hart: Hart, a: U64, b: U64, e: U64, f: U64) -> U64:
    """a == b, quiet: NV only for a signaling NaN."""
    if is_nan(a, e, f) or is_nan(b, e, f):
        if is_signaling(a, e, f) or is_signaling(b, e, f):
            signal(hart, U64(NV))
        return U64(0)
    return u64(a == b or both_zero(a, b, e, f))


@inline
def soft_lt(hart: Hart, a: U64, b: U64, e: U64, f: U64) -> U64:
    """a < b, signaling: NV for any NaN."""
    if is_nan(a, e, f) or is_nan(b, e, f):
        signal(hart, U64(NV))
        return U64(0)
    return u64(below(a, b, e, f) and not both_zero(a, b, e, f))


@inline
def soft_le(hart: Hart, a: U64, b: U64, e: U64, f: U64) -> U64:
    """a <= b, signaling: NV for any NaN."""
    if is_nan(a, e, f) or is_nan(b, e, f):
        signal(hart, U64(NV))
        return U64(0)
    return u64(not below(b, a, e, f) or both_zero(a, b, e, f))


@inline
def soft_pick(hart: Hart, a: U64, b: U64, larger: bool, e: U64, f: U64) -> U64:
    """minimumNumber, or maximumNumber (larger), of IEEE 754-2019: a NaN loses against a number."""
    if is_nan(a, e, f) or is_nan(b, e, f):
        if is_signaling(a, e, f) or is_signaling(b, e, f):
            accrue(hart, U64(NV))
        if not is_nan(a, e, f):
            return a
        return default_nan(e, f) if is_nan(b, e, f) else b
    return a if below(a, b, e, f) != larger else b


@inline
def soft_classify(a: U64, e: U64, f: U64) -> U64:
    """The class as one bit of ten (F chapter, fclass)."""
    if is_nan(a, e, f):
        return 1 << (8 + ((a >> (f - 1)) & 1))
    negative = sign_of(a, e, f) != 0
    if is_infinite(a, e, f):
        return 1 << (u64(not negative) * 7)
    if is_zero(a, e, f):
        return 1 << (3 + u64(not negative))
    if exponent_field(a, e, f) == 0 and fraction_field(a, f) != 0:
        return 1 << (2 + u64(not negative) * 3)
    return 1 << (1 + u64(not negative) * 5)

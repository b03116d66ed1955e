"""Conversions in integers: between formats, to and from the integers of 32 and 64 bits."""

from __future__ import annotations

from trapline.isa.float.parts import (
    bias,
    infinity,
    is_infinite,
    is_nan,
    is_zero,
    nan_of,
    round_pack,
    rounds_up,
    scale,
    sign_of,
    signal,
    significand,
)
from trapline.lang.functions import inline
from trapline.lang.state import Hart
from trapline.lang.values import U64, clz, signed, u64, unsigned
from trapline.privilege.fields import NV, NX

TIE = 1 << 63  # one half, of a fraction of 64 bits


@inline
def soft_convert(hart: Hart, a: U64, mode: U64, e: U64, f: U64, e2: U64, f2: U64) -> U64:
    """Convert a number of format (e, f) to format (e2, f2)."""
    sign = sign_of(a, e, f)
    if is_nan(a, e, f):
        nan_of(hart, a, a, e, f)
        return ((1 << (e2 + 1)) - 1) << (f2 - 1)
    if is_infinite(a, e, f):
        return (sign << (e2 + f2)) + infinity(e2, f2)
    if is_zero(a, e, f):
        return sign << (e2 + f2)
    return round_pack(hart, sign, scale(a, e, f) - bias(e) + bias(e2), significand(a, e, f), mode, e2, f2)


@inline
def from_integer(hart: Hart, sign: U64, value: U64, mode: U64, e: U64, f: U64) -> U64:
    """Convert an integer given as sign and magnitude."""
    if value == 0:
        return value
    shift = clz(value)
    return round_pack(hart, sign, bias(e) + 63 - signed(shift), value << (shift & 63), mode, e, f)


@inline
def from_signed(hart: Hart, value: U64, mode: U64, e: U64, f: U64) -> U64:
    """Convert a signed integer of 64 bits."""
    sign = value >> 63
    return from_integer(hart, sign, -value if sign != 0 else value, mode, e, f)


@inline
def saturated(hart: Hart, sign: U64, top: U64, bottom: U64) -> U64:
    """The result of a conversion out of range: NV, and the nearest integer there is."""
    signal(hart, U64(NV))
    return U64(0) - bottom if sign != 0 else top


@inline
def to_integer(hart: Hart, a: U64, mode: U64, top: U64, bottom: U64, e: U64, f: U64) -> U64:
    """Convert to an integer between -bottom and top, as 64 bits; a NaN counts as too large.

    An integer out of range raises NV and not NX (F chapter, conversion instructions).
    """
    sign = sign_of(a, e, f)
    if is_nan(a, e, f):
        return saturated(hart, U64(0), top, bottom)
    if is_zero(a, e, f):
        return U64(0)
    power = scale(a, e, f) - bias(e)
    if power > 63 or is_infinite(a, e, f):
        return saturated(hart, sign, top, bottom)
    value = significand(a, e, f)
    whole = U64(0)
    rest = U64(1)  # less than half, but not nothing
    if power >= 0:
        whole = value >> ((63 - unsigned(power)) & 63)
        rest = (value << (unsigned(power) & 63)) << 1
    elif power == -1:
        rest = value
    # With 64 bits of integer no format leaves a fraction, so this cannot wrap.
    whole = whole + u64(rounds_up(sign, mode, whole & 1, rest, U64(TIE)))
    if whole > (bottom if sign != 0 else top):
        return saturated(hart, sign, top, bottom)
    if rest != 0:
        signal(hart, U64(NX))
    return -whole if sign != 0 else whole

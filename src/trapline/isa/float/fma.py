"""Fused multiply-add in integers: a * b + c with one rounding, for any format (e, f).

The product is exact in 128 bits, as two words with the leading one at bit 126; so is the addend.
"""

from __future__ import annotations

from trapline.isa.float.arithmetic import zero_sum
from trapline.isa.float.parts import (
    bias,
    infinity,
    invalid,
    is_infinite,
    is_nan,
    is_special,
    is_zero,
    nan_of,
    round_pack,
    scale,
    shift_right_jam,
    sign_of,
    significand,
)
from trapline.lang.functions import inline
from trapline.lang.state import Hart
from trapline.lang.values import S64, U64, clz, mulhu, signed, u64, unsigned


@inline
def fma_special(hart: Hart, a: U64, b: U64, c: U64, sign: U64, e: U64, f: U64) -> U64:
    """a * b + c where one of them is infinite or a NaN; `sign` is that of the product.

    Infinity times zero raises NV even if c is a quiet NaN (F chapter, NaN propagation).
    """
    if (is_infinite(a, e, f) and is_zero(b, e, f)) or (is_zero(a, e, f) and is_infinite(b, e, f)):
        return invalid(hart, e, f)
    if is_nan(a, e, f) or is_nan(b, e, f):
        nan_of(hart, a, b, e, f)
        return nan_of(hart, c, c, e, f)
    if is_nan(c, e, f):
        return nan_of(hart, c, c, e, f)
    if is_infinite(a, e, f) or is_infinite(b, e, f):
        if is_infinite(c, e, f) and sign != sign_of(c, e, f):
            return invalid(hart, e, f)
        return (sign << (e + f)) + infinity(e, f)
    return c


@inline
def shifted_high(high: U64, count: U64) -> U64:
    """The upper word of a 128-bit number shifted right."""
    return U64(0) if count > 63 else high >> (count & 63)


@inline
def shifted_low(high: U64, low: U64, count: U64) -> U64:
    """The lower word of a 128-bit number shifted right, with what falls out jammed into bit 0."""
    if count == 0:
        return low
    if count > 63:
        return shift_right_jam(high, count - 64) | u64(low != 0)
    return (high << ((64 - count) & 63)) | shift_right_jam(low, count)


@inline
def round_pair(hart: Hart, sign: U64, exponent: S64, high: U64, low: U64, mode: U64, e: U64, f: U64) -> U64:
    """Normalize and round a 128-bit number other than zero; `exponent` belongs to bit 126."""
    top = low if high == 0 else high
    rest = 0 if high == 0 else low
    shift = clz(top)
    shifted = (top << (shift & 63)) | ((rest >> 1) >> ((63 - shift) & 63))
    whole = shifted | u64(rest << (shift & 63) != 0)
    place = exponent + 1 - signed(shift) - signed(u64(high == 0) << 6)
    return round_pack(hart, sign, place, whole, mode, e, f)


@inline
def add_pairs(
    hart: Hart,
    sign: U64,
    exponent: S64,
    high: U64,
    low: U64,
    same: bool,
    high2: U64,
    low2: U64,
    mode: U64,
    e: U64,
    f: U64,
) -> U64:
    """Add (same) or subtract a second, not larger, aligned 128-bit number, and round."""
    if same:
        low_sum = low + low2
        high_sum = high + high2 + u64(low_sum < low)
    else:
        low_sum = low - low2
        high_sum = high - high2 - u64(low < low2)
    if high_sum | low_sum == 0:
        return zero_sum(False, sign, mode, e, f)
    return round_pair(hart, sign, exponent, high_sum, low_sum, mode, e, f)


@inline
def fma_finite(hart: Hart, sign: U64, high: U64, low: U64, exponent: S64, c: U64, mode: U64, e: U64, f: U64) -> U64:
    """A product other than zero, leading one at bit 125 or 126, plus c."""
    normal = high >> 62 != 0
    high = high if normal else (high << 1) | (low >> 63)
    low = low if normal else low << 1
    exponent = exponent - signed(u64(not normal))
    if is_zero(c, e, f):
        return round_pair(hart, sign, exponent, high, low, mode, e, f)
    sign_c = sign_of(c, e, f)
    high_c = significand(c, e, f) >> 1
    gap = exponent - scale(c, e, f)
    if gap > 0 or (gap == 0 and high >= high_c):
        count = unsigned(gap)
        moved_high = shifted_high(high_c, count)
        moved_low = shifted_low(high_c, U64(0), count)
        return add_pairs(hart, sign, exponent, high, low, sign == sign_c, moved_high, moved_low, mode, e, f)
    count = unsigned(-gap)
    moved_high = shifted_high(high, count)
    moved_low = shifted_low(high, low, count)
    return add_pairs(hart, sign_c, scale(c, e, f), high_c, U64(0), sign == sign_c, moved_high, moved_low, mode, e, f)


@inline
def soft_fma(hart: Hart, a: U64, b: U64, c: U64, mode: U64, e: U64, f: U64) -> U64:
    """a * b + c; subtraction and negation flip signs of operands first."""
    sign = sign_of(a, e, f) ^ sign_of(b, e, f)
    if is_special(a, e, f) or is_special(b, e, f) or is_special(c, e, f):
        return fma_special(hart, a, b, c, sign, e, f)
    if is_zero(a, e, f) or is_zero(b, e, f):
        if is_zero(c, e, f):
            return zero_sum(sign == sign_of(c, e, f), sign, mode, e, f)
        return c
    x = significand(a, e, f)
    y = significand(b, e, f) >> 1
    exponent = scale(a, e, f) + scale(b, e, f) - bias(e) + 1
    return fma_finite(hart, sign, mulhu(x, y), x * y, exponent, c, mode, e, f)

"""Addition, multiplication, division and square root in integers, for any format (e, f)."""

from __future__ import annotations

from trapline.isa.float.parts import (
    RDN,
    accrue,
    bias,
    exponent_field,
    fraction_field,
    infinity,
    invalid,
    is_infinite,
    is_nan,
    is_special,
    is_zero,
    magnitude,
    nan_of,
    round_pack,
    scale,
    shift_right_jam,
    sign_of,
    significand,
)
from trapline.lang.functions import inline
from trapline.lang.state import Hart
from trapline.lang.values import U64, clz, mulhu, signed, u64, udiv, unsigned, urem
from trapline.privilege.fields import DZ


@inline
def addend(a: U64, e: U64, f: U64) -> U64:
    """The significand on the scale of add_exponent(), the hidden one at bit 62: a carry fits above it."""
    hidden = u64(exponent_field(a, e, f) != 0) << f
    return (fraction_field(a, f) | hidden) << (62 - f)


@inline
def add_exponent(a: U64, e: U64, f: U64) -> U64:
    """The exponent field, 1 for subnormal numbers and zero."""
    field = exponent_field(a, e, f)
    return field + u64(field == 0)


@inline
def add_special(hart: Hart, a: U64, b: U64, e: U64, f: U64) -> U64:
    """a + b where one of them is infinite or a NaN."""
    if is_nan(a, e, f) or is_nan(b, e, f):
        return nan_of(hart, a, b, e, f)
    if is_infinite(a, e, f) and is_infinite(b, e, f) and a != b:
        return invalid(hart, e, f)
    return a if is_infinite(a, e, f) else b


@inline
def zero_sum(same: bool, sign: U64, mode: U64, e: U64, f: U64) -> U64:
    """An exact zero sum: of zeros of one sign that sign; else positive, but negative when rounding down."""
    return (sign if same else u64(mode == RDN)) << (e + f)


@inline
def soft_add(hart: Hart, a: U64, b: U64, mode: U64, e: U64, f: U64) -> U64:
    """a + b."""
    if is_special(a, e, f) or is_special(b, e, f):
        return add_special(hart, a, b, e, f)
    swap = magnitude(a, e, f) < magnitude(b, e, f)
    large = b if swap else a
    small = a if swap else b
    sign = sign_of(large, e, f)
    same = sign == sign_of(small, e, f)
    exponent = add_exponent(large, e, f)
    aligned = shift_right_jam(addend(small, e, f), exponent - add_exponent(small, e, f))
    total = addend(large, e, f) + (aligned if same else -aligned)
    if total == 0:
        return zero_sum(same, sign, mode, e, f)
    shift = clz(total)
    return round_pack(hart, sign, signed(exponent + 1 - shift), total << (shift & 63), mode, e, f)


@inline
def soft_mul(hart: Hart, a: U64, b: U64, mode: U64, e: U64, f: U64) -> U64:
    """a * b."""
    sign = sign_of(a, e, f) ^ sign_of(b, e, f)
    if is_nan(a, e, f) or is_nan(b, e, f):
        return nan_of(hart, a, b, e, f)
    if is_infinite(a, e, f) or is_infinite(b, e, f):
        if is_zero(a, e, f) or is_zero(b, e, f):
            return invalid(hart, e, f)
        return (sign << (e + f)) + infinity(e, f)
    if is_zero(a, e, f) or is_zero(b, e, f):
        return sign << (e + f)
    x = significand(a, e, f)
    y = significand(b, e, f)
    high = mulhu(x, y) | u64(x * y != 0)
    shift = clz(high)
    exponent = scale(a, e, f) + scale(b, e, f) - bias(e) + 1 - signed(shift)
    return round_pack(hart, sign, exponent, high << (shift & 63), mode, e, f)


@inline
def quotient(x: U64, y: U64, f: U64) -> U64:
    """x / y, or 2 * x / y if x < y, of significands: the leading one at bit 63, the remainder jammed.

    Schoolbook division with digits of 11 bits after the leading one; a remainder has at most f + 1 bits.
    """
    divisor = y >> (63 - f)
    rest = (x - y + (x if x < y else 0)) >> (63 - f)
    digits = U64(1)
    for _ in range(5):
        digits = (digits << 11) | udiv(rest << 11, divisor)
        rest = urem(rest << 11, divisor)
    return (digits << 8) | u64(rest != 0)


@inline
def soft_div(hart: Hart, a: U64, b: U64, mode: U64, e: U64, f: U64) -> U64:
    """a / b."""
    sign = sign_of(a, e, f) ^ sign_of(b, e, f)
    if is_nan(a, e, f) or is_nan(b, e, f):
        return nan_of(hart, a, b, e, f)
    if is_infinite(a, e, f):
        if is_infinite(b, e, f):
            return invalid(hart, e, f)
        return (sign << (e + f)) + infinity(e, f)
    if is_infinite(b, e, f):
        return sign << (e + f)
    if is_zero(b, e, f):
        if is_zero(a, e, f):
            return invalid(hart, e, f)
        accrue(hart, U64(DZ))
        return (sign << (e + f)) + infinity(e, f)
    if is_zero(a, e, f):
        return sign << (e + f)
    x = significand(a, e, f)
    y = significand(b, e, f)
    exponent = scale(a, e, f) - scale(b, e, f) + bias(e)
    return round_pack(hart, sign, exponent - signed(u64(x < y)), quotient(x, y, f), mode, e, f)


@inline
def root(radicand: U64) -> U64:
    """The square root of a number with its leading one at bit 63 or 62: leading one at bit 63, rest jammed.

    Digit by digit: each step takes two bits of the radicand and gives one of the root.
    """
    digits = U64(0)
    rest = U64(0)
    for _ in range(56):
        rest = (rest << 2) | (radicand >> 62)
        radicand = radicand << 2
        trial = (digits << 2) | 1
        fits = rest >= trial
        digits = (digits << 1) | u64(fits)
        rest = rest - (trial if fits else 0)
    return (digits << 8) | u64(rest != 0)


@inline
def soft_sqrt(hart: Hart, a: U64, mode: U64, e: U64, f: U64) -> U64:
    """The square root of a."""
    if is_nan(a, e, f):
        return nan_of(hart, a, a, e, f)
    if is_zero(a, e, f):
        return a
    if sign_of(a, e, f) != 0:
        return invalid(hart, e, f)
    if is_infinite(a, e, f):
        return a
    power = scale(a, e, f) - bias(e)
    odd = unsigned(power) & 1
    radicand = significand(a, e, f) >> (1 - odd)
    return round_pack(hart, sign_of(a, e, f), (power >> 1) + bias(e), root(radicand), mode, e, f)

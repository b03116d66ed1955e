"""Double-precision operations (binary64: 11 exponent bits, 52 fraction bits), a cold function each;
the inline ones take the host's result where isa.float.host allows it.
"""

from __future__ import annotations

from typing import Any

from trapline.isa.float.arithmetic import soft_add, soft_div, soft_mul, soft_sqrt
from trapline.isa.float.convert import from_integer, from_signed, soft_convert, to_integer
from trapline.isa.float.fma import soft_fma
from trapline.isa.float.host import host_may_round, is_normal_or_zero, result_stands
from trapline.lang.floats import host_f64_add, host_f64_div, host_f64_fma, host_f64_mul, host_f64_sqrt
from trapline.lang.functions import cold, inline
from trapline.lang.values import U64, sext


@cold
def double_add_soft(hart: Any, a: U64, b: U64, mode: U64) -> U64:
    """a + b, in integers."""
    return soft_add(hart, a, b, mode, 11, 52)


@inline
def double_add(hart: Any, a: U64, b: U64, mode: U64) -> U64:
    """a + b."""
    if host_may_round(hart, mode):
        result = host_f64_add(a, b)
        if result_stands(result, 11, 52):
            return result
    return double_add_soft(hart, a, b, mode)


@cold
def double_mul_soft(hart: Any, a: U64, b: U64, mode: U64) -> U64:
    """a * b, in integers."""
    return soft_mul(hart, a, b, mode, 11, 52)


@inline
def double_mul(hart: Any, a: U64, b: U64, mode: U64) -> U64:
    """a * b."""
    if host_may_round(hart, mode):
        result = host_f64_mul(a, b)
        if result_stands(result, 11, 52):
            return result
    return double_mul_soft(hart, a, b, mode)


@cold
def double_div_soft(hart: Any, a: U64, b: U64, mode: U64) -> U64:
    """a / b, in integers."""
    return soft_div(hart, a, b, mode, 11, 52)


@inline
def double_div(hart: Any, a: U64, b: U64, mode: U64) -> U64:
    """a / b."""
    if host_may_round(hart, mode):
        result = host_f64_div(a, b)
        if result_stands(result, 11, 52):
            return result
    return double_div_soft(hart, a, b, mode)


@cold
def double_sqrt_soft(hart: Any, a: U64, mode: U64) -> U64:
    """The square root of a, in integers."""
    return soft_sqrt(hart, a, mode, 11, 52)


@inline
def double_sqrt(hart: Any, a: U64, mode: U64) -> U64:
    """The square root of a."""
    if host_may_round(hart, mode):
        result = host_f64_sqrt(a)
        if result_stands(result, 11, 52):
            return result
    return double_sqrt_soft(hart, a, mode)


@cold
def double_fma_soft(hart: Any, a: U64, b: U64, c: U64, mode: U64) -> U64:
    """a * b + c with one rounding, in integers."""
    return soft_fma(hart, a, b, c, mode, 11, 52)


@inline
def double_fma(hart: Any, a: U64, b: U64, c: U64, mode: U64) -> U64:
    """a * b + c with one rounding."""
    if host_may_round(hart, mode) and is_normal_or_zero(a, 11, 52) and is_normal_or_zero(b, 11, 52):
        result = host_f64_fma(a, b, c)
        if is_normal_or_zero(c, 11, 52) and result_stands(result, 11, 52):
            return result
    return double_fma_soft(hart, a, b, c, mode)


@cold
def double_from_half(hart: Any, a: U64, mode: U64) -> U64:
    """Convert from half precision."""
    return soft_convert(hart, a, mode, 5, 10, 11, 52)


@cold
def double_from_single(hart: Any, a: U64, mode: U64) -> U64:
    """Convert from single precision."""
    return soft_convert(hart, a, mode, 8, 23, 11, 52)


@cold
def double_from_w(hart: Any, a: U64, mode: U64) -> U64:
    """Convert from a signed integer of 32 bits."""
    return from_signed(hart, sext(a, 32), mode, 11, 52)


@cold
def double_from_wu(hart: Any, a: U64, mode: U64) -> U64:
    """Convert from an unsigned integer of 32 bits."""
    return from_integer(hart, 0, a & 0xFFFF_FFFF, mode, 11, 52)


@cold
def double_from_l(hart: Any, a: U64, mode: U64) -> U64:
    """Convert from a signed integer of 64 bits."""
    return from_signed(hart, a, mode, 11, 52)


@cold
def double_from_lu(hart: Any, a: U64, mode: U64) -> U64:
    """Convert from an unsigned integer of 64 bits."""
    return from_integer(hart, 0, a, mode, 11, 52)


@cold
def double_to_w(hart: Any, a: U64, mode: U64) -> U64:
    """Convert to a signed integer of 32 bits, sign-extended."""
    return sext(to_integer(hart, a, mode, 0x7FFF_FFFF, 0x8000_0000, 11, 52), 32)


@cold
def double_to_wu(hart: Any, a: U64, mode: U64) -> U64:
    """Convert to an unsigned integer of 32 bits, sign-extended."""
    return sext(to_integer(hart, a, mode, 0xFFFF_FFFF, 0, 11, 52), 32)


@cold
def double_to_l(hart: Any, a: U64, mode: U64) -> U64:
    """Convert to a signed integer of 64 bits."""
    return to_integer(hart, a, mode, 0x7FFF_FFFF_FFFF_FFFF, 0x8000_0000_0000_0000, 11, 52)


@cold
def double_to_lu(hart: Any, a: U64, mode: U64) -> U64:
    """Convert to an unsigned integer of 64 bits."""
    return to_integer(hart, a, mode, 0xFFFF_FFFF_FFFF_FFFF, 0, 11, 52)

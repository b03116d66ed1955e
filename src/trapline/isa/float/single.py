"""Single-precision operations (binary32: 8 exponent bits, 23 fraction bits), a cold function each;
the inline ones take the host's result where isa.float.host allows it.
"""

from __future__ import annotations

from typing import Any

from trapline.isa.float.arithmetic import soft_add, soft_div, soft_mul, soft_sqrt
from trapline.isa.float.convert import from_integer, from_signed, soft_convert, to_integer
from trapline.isa.float.fma import soft_fma
from trapline.isa.float.host import host_may_round, is_normal_or_zero, result_stands
from trapline.lang.floats import host_f32_add, host_f32_div, host_f32_fma, host_f32_mul, host_f32_sqrt
from trapline.lang.functions import cold, inline
from trapline.lang.values import U64, sext


@cold
def single_add_soft(hart: Any, a: U64, b: U64, mode: U64) -> U64:
    """a + b, in integers."""
    return soft_add(hart, a, b, mode, 8, 23)


@inline
def single_add(hart: Any, a: U64, b: U64, mode: U64) -> U64:
    """a + b."""
    if host_may_round(hart, mode):
        result = host_f32_add(a, b)
        if result_stands(result, 8, 23):
            return result
    return single_add_soft(hart, a, b, mode)


@cold
def single_mul_soft(hart: Any, a: U64, b: U64, mode: U64) -> U64:
    """a * b, in integers."""
    return soft_mul(hart, a, b, mode, 8, 23)


@inline
def single_mul(hart: Any, a: U64, b: U64, mode: U64) -> U64:
    """a * b."""
    if host_may_round(hart, mode):
        result = host_f32_mul(a, b)
        if result_stands(result, 8, 23):
            return result
    return single_mul_soft(hart, a, b, mode)


@cold
def single_div_soft(hart: Any, a: U64, b: U64, mode: U64) -> U64:
    """a / b, in integers."""
    return soft_div(hart, a, b, mode, 8, 23)


@inline
def single_div(hart: Any, a: U64, b: U64, mode: U64) -> U64:
    """a / b."""
    if host_may_round(hart, mode):
        result = host_f32_div(a, b)
        if result_stands(result, 8, 23):
            return result
    return single_div_soft(hart, a, b, mode)


@cold
def single_sqrt_soft(hart: Any, a: U64, mode: U64) -> U64:
    """The square root of a, in integers."""
    return soft_sqrt(hart, a, mode, 8, 23)


@inline
def single_sqrt(hart: Any, a: U64, mode: U64) -> U64:
    """The square root of a."""
    if host_may_round(hart, mode):
        result = host_f32_sqrt(a)
        if result_stands(result, 8, 23):
            return result
    return single_sqrt_soft(hart, a, mode)


@cold
def single_fma_soft(hart: Any, a: U64, b: U64, c: U64, mode: U64) -> U64:
    """a * b + c with one rounding, in integers."""
    return soft_fma(hart, a, b, c, mode, 8, 23)


@inline
def single_fma(hart: Any, a: U64, b: U64, c: U64, mode: U64) -> U64:
    """a * b + c with one rounding."""
    if host_may_round(hart, mode) and is_normal_or_zero(a, 8, 23) and is_normal_or_zero(b, 8, 23):
        result = host_f32_fma(a, b, c)
        if is_normal_or_zero(c, 8, 23) and result_stands(result, 8, 23):
            return result
    return single_fma_soft(hart, a, b, c, mode)


@cold
def single_from_half(hart: Any, a: U64, mode: U64) -> U64:
    """Convert from half precision."""
    return soft_convert(hart, a, mode, 5, 10, 8, 23)


@cold
def single_from_double(hart: Any, a: U64, mode: U64) -> U64:
    """Convert from double precision."""
    return soft_convert(hart, a, mode, 11, 52, 8, 23)


@cold
def single_from_w(hart: Any, a: U64, mode: U64) -> U64:
    """Convert from a signed integer of 32 bits."""
    return from_signed(hart, sext(a, 32), mode, 8, 23)


@cold
def single_from_wu(hart: Any, a: U64, mode: U64) -> U64:
    """Convert from an unsigned integer of 32 bits."""
    return from_integer(hart, 0, a & 0xFFFF_FFFF, mode, 8, 23)


@cold
def single_from_l(hart: Any, a: U64, mode: U64) -> U64:
    """Convert from a signed integer of 64 bits."""
    return from_signed(hart, a, mode, 8, 23)


@cold
def single_from_lu(hart: Any, a: U64, mode: U64) -> U64:
    """Convert from an unsigned integer of 64 bits."""
    return from_integer(hart, 0, a, mode, 8, 23)


@cold
def single_to_w(hart: Any, a: U64, mode: U64) -> U64:
    """Convert to a signed integer of 32 bits, sign-extended."""
    return sext(to_integer(hart, a, mode, 0x7FFF_FFFF, 0x8000_0000, 8, 23), 32)


@cold
def single_to_wu(hart: Any, a: U64, mode: U64) -> U64:
    """Convert to an unsigned integer of 32 bits, sign-extended."""
    return sext(to_integer(hart, a, mode, 0xFFFF_FFFF, 0, 8, 23), 32)


@cold
def single_to_l(hart: Any, a: U64, mode: U64) -> U64:
    """Convert to a signed integer of 64 bits."""
    return to_integer(hart, a, mode, 0x7FFF_FFFF_FFFF_FFFF, 0x8000_0000_0000_0000, 8, 23)


@cold
def single_to_lu(hart: Any, a: U64, mode: U64) -> U64:
    """Convert to an unsigned integer of 64 bits."""
    return to_integer(hart, a, mode, 0xFFFF_FFFF_FFFF_FFFF, 0, 8, 23)

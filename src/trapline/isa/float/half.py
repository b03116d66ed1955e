"""Half-precision operations (binary16: 5 exponent bits, 10 fraction bits), a cold function each."""

from __future__ import annotations

from typing import Any

from trapline.isa.float.arithmetic import soft_add, soft_div, soft_mul, soft_sqrt
from trapline.isa.float.convert import from_integer, from_signed, soft_convert, to_integer
from trapline.isa.float.fma import soft_fma
from trapline.lang.functions import cold
from trapline.lang.values import U64, sext


@cold
def half_add(hart: Any, a: U64, b: U64, mode: U64) -> U64:
    """a + b."""
    return soft_add(hart, a, b, mode, 5, 10)


@cold
def half_mul(hart: Any, a: U64, b: U64, mode: U64) -> U64:
    """a * b."""
    return soft_mul(hart, a, b, mode, 5, 10)


@cold
def half_div(hart: Any, a: U64, b: U64, mode: U64) -> U64:
    """a / b."""
    return soft_div(hart, a, b, mode, 5, 10)


@cold
def half_sqrt(hart: Any, a: U64, mode: U64) -> U64:
    """The square root of a."""
    return soft_sqrt(hart, a, mode, 5, 10)


@cold
def half_fma(hart: Any, a: U64, b: U64, c: U64, mode: U64) -> U64:
    """a * b + c with one rounding."""
    return soft_fma(hart, a, b, c, mode, 5, 10)


@cold
def half_from_single(hart: Any, a: U64, mode: U64) -> U64:
    """Convert from single precision."""
    return soft_convert(hart, a, mode, 8, 23, 5, 10)


@cold
def half_from_double(hart: Any, a: U64, mode: U64) -> U64:
    """Convert from double precision."""
    return soft_convert(hart, a, mode, 11, 52, 5, 10)


@cold
def half_from_w(hart: Any, a: U64, mode: U64) -> U64:
    """Convert from a signed integer of 32 bits."""
    return from_signed(hart, sext(a, 32), mode, 5, 10)


@cold
def half_from_wu(hart: Any, a: U64, mode: U64) -> U64:
    """Convert from an unsigned integer of 32 bits."""
    return from_integer(hart, 0, a & 0xFFFF_FFFF, mode, 5, 10)


@cold
def half_from_l(hart: Any, a: U64, mode: U64) -> U64:
    """Convert from a signed integer of 64 bits."""
    return from_signed(hart, a, mode, 5, 10)


@cold
def half_from_lu(hart: Any, a: U64, mode: U64) -> U64:
    """Convert from an unsigned integer of 64 bits."""
    return from_integer(hart, 0, a, mode, 5, 10)


@cold
def half_to_w(hart: Any, a: U64, mode: U64) -> U64:
    """Convert to a signed integer of 32 bits, sign-extended."""
    return sext(to_integer(hart, a, mode, 0x7FFF_FFFF, 0x8000_0000, 5, 10), 32)


@cold
def half_to_wu(hart: Any, a: U64, mode: U64) -> U64:
    """Convert to an unsigned integer of 32 bits, sign-extended."""
    return sext(to_integer(hart, a, mode, 0xFFFF_FFFF, 0, 5, 10), 32)


@cold
def half_to_l(hart: Any, a: U64, mode: U64) -> U64:
    """Convert to a signed integer of 64 bits."""
    return to_integer(hart, a, mode, 0x7FFF_FFFF_FFFF_FFFF, 0x8000_0000_0000_0000, 5, 10)


@cold
def half_to_lu(hart: Any, a: U64, mode: U64) -> U64:
    """Convert to an unsigned integer of 64 bits."""
    return to_integer(hart, a, mode, 0xFFFF_FFFF_FFFF_FFFF, 0, 5, 10)

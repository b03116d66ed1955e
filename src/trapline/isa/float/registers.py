"""What floating-point instructions share: the rounding mode and NaN boxing of narrower numbers."""

from __future__ import annotations

from typing import Any

from trapline.lang.functions import IllegalInstruction, inline
from trapline.lang.values import U64

DYNAMIC = 7
HALF_SIGN, SINGLE_SIGN, DOUBLE_SIGN = 1 << 15, 1 << 31, 1 << 63
HALF_NAN, SINGLE_NAN = 0x7E00, 0x7FC0_0000
HALF_BOX, SINGLE_BOX = 0xFFFF_FFFF_FFFF_0000, 0xFFFF_FFFF_0000_0000


@inline
def rounding_mode(hart: Any, rm: U64) -> U64:
    """The rounding mode of an instruction: its own, or frm for DYN; a reserved one is illegal."""
    mode = hart.frm if rm == DYNAMIC else rm
    if mode > 4:
        raise IllegalInstruction()
    return mode


@inline
def half_of(value: U64) -> U64:
    """The half-precision number in an f register; the canonical NaN if it is not NaN-boxed."""
    return value & 0xFFFF if value >= HALF_BOX else U64(HALF_NAN)


@inline
def single_of(value: U64) -> U64:
    """The single-precision number in an f register; the canonical NaN if it is not NaN-boxed."""
    return value & 0xFFFF_FFFF if value >= SINGLE_BOX else U64(SINGLE_NAN)

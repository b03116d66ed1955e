"""The rounding mode of a floating-point instruction."""

from __future__ import annotations

from trapline.isa.registers import DYNAMIC
from trapline.lang.functions import IllegalInstruction, inline
from trapline.lang.state import Hart
from trapline.lang.values import U64


@inline
def rounding_mode(hart: Hart, rm: U64) -> U64:
    """The rounding mode of an instruction: its own, or frm for DYN; a reserved one is illegal."""
    mode = hart.frm if rm == DYNAMIC else rm
    if mode > 4:
        raise IllegalInstruction()
    return mode

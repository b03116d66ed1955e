"""The transformed instruction that a hart may write to mtinst and htinst (Hypervisor chapter, trap values)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trapline.isa.decode import expanded_bits

if TYPE_CHECKING:
    from trapline.isa.decode import Decoder
    from trapline.lang.state import Hart

LOAD_FIELDS = 0x0000_7FFF  # rd, funct3, opcode
STORE_FIELDS = 0x01F0_707F  # rs2, funct3, opcode
RS1 = 0x000F_8000


def transformed(hart: Hart, decoder: Decoder) -> int:
    """Transform hart.insn, whose explicit access trapped; 0 for an instruction that has no such form.

    The rs1 field becomes Addr. Offset: how far the faulting address lies behind the access's own.
    """
    found = decoder.decode(int(hart.insn))
    if found is None:
        return 0
    access = found.instruction.access
    if access is None or access.size == 0:
        return 0
    bits = expanded_bits(found)
    if access.is_atomic or access.guest:
        bits &= ~RS1
    else:
        bits &= STORE_FIELDS if access.is_store else LOAD_FIELDS
    bits |= (int(hart.trap_tval) - int(hart.access_va) & 0x1F) << 15
    return bits & ~2 if found.length == 2 else bits

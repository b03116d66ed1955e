"""From a raised exception to the trap registers: what the hart does when an instruction traps."""

from __future__ import annotations

from trapline.lang.control import instruction_bits, transformed_instruction
from trapline.lang.functions import cold, inline
from trapline.lang.state import Hart
from trapline.lang.values import U64
from trapline.privilege.causes import ILLEGAL_INST, VIRTUAL_INST
from trapline.privilege.guards import ecall_cause
from trapline.privilege.trap import take_trap

EXPLICIT_ACCESS_CAUSES = 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 13 | 1 << 15 | 1 << 21 | 1 << 23


@cold
def deliver_exception(hart: Hart) -> None:
    """Take the trap described by hart.trap_*, raised by the instruction at hart.pc."""
    if tells_instruction(hart):
        hart.insn = instruction_bits(hart)
    deliver_decoded(hart)


@inline
def transforms_instruction(hart: Hart) -> bool:
    """Whether xtinst gets the transformed instruction of the trap described by hart.trap_*."""
    explicit = (EXPLICIT_ACCESS_CAUSES >> (hart.trap_cause & 63)) & 1 != 0
    return hart.tinst_transformed != 0 and hart.trap_tinst == 0 and explicit


@inline
def tells_instruction(hart: Hart) -> bool:
    """Whether a trap register gets something of the instruction."""
    return hart.trap_cause == ILLEGAL_INST or hart.trap_cause == VIRTUAL_INST or transforms_instruction(hart)


@cold
def deliver_decoded(hart: Hart) -> None:
    """The same where hart.insn has the instruction, if a trap register gets something of it."""
    cause = hart.trap_cause
    tval = hart.trap_tval
    tinst = hart.trap_tinst
    if cause == ILLEGAL_INST or cause == VIRTUAL_INST:
        tval = hart.insn
    elif transforms_instruction(hart):
        tinst = transformed_instruction(hart)
    take_trap(hart, cause, hart.pc, tval, hart.trap_tval2, tinst, hart.trap_gva)


@cold
def raise_illegal(hart: Hart) -> None:
    """Deliver illegal instruction for bits that decode to nothing."""
    hart.trap_cause = ILLEGAL_INST
    hart.trap_tval2 = 0
    hart.trap_tinst = 0
    hart.trap_gva = 0
    deliver_exception(hart)


@inline
def environment_call(hart: Hart) -> None:
    """The trap that ECALL always raises, and its delivery."""
    take_trap(hart, ecall_cause(hart), hart.pc, U64(0), U64(0), U64(0), U64(0))

"""From a raised exception to the trap registers: what both engines do when an instruction traps."""

from __future__ import annotations

from trapline.lang.control import give_up_unless, instruction_bits, transformed_instruction
from trapline.lang.functions import cold, inline
from trapline.lang.state import Hart
from trapline.lang.values import U64
from trapline.privilege.causes import ILLEGAL_INST, VIRTUAL_INST
from trapline.privilege.guards import ecall_cause
from trapline.privilege.mode_change import hosted_level
from trapline.privilege.trap import destination, take_trap, trap_into

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


@inline
def environment_call_to(hart: Hart, to: U64) -> None:
    """The same for compiled code that presumes to which code it goes (modes.TO_M, TO_HS, TO_VS), or else gives up."""
    cause = ecall_cause(hart)
    presumed = destination(hart, cause, U64(0)) == to and hosted_level(hart, to) == 0
    give_up_unless(presumed)
    trap_into(hart, to, cause, hart.pc, U64(0), U64(0), U64(0), U64(0))


@inline
def environment_call_hosted(hart: Hart, to: U64) -> None:
    """The same for compiled code that presumes which hosted level handles it."""
    cause = ecall_cause(hart)
    presumed = destination(hart, cause, U64(0)) == to and hosted_level(hart, to) != 0
    give_up_unless(presumed)
    trap_into(hart, to, cause, hart.pc, U64(0), U64(0), U64(0), U64(0))

"""Instructions of the Privileged spec: trap returns, wait for interrupt, translation fences, Svinval.

The guards decide between illegal and virtual instruction (privilege.guards); they come before any effect.
"""

from __future__ import annotations

from trapline.lang.control import EXIT_WFI, leave
from trapline.lang.facts import Flow
from trapline.lang.functions import inline, instruction
from trapline.lang.state import Hart
from trapline.lang.values import U64
from trapline.privilege.guards import (
    require_machine,
    require_sfence_inval,
    require_sfence_vma,
    require_sret,
    require_wfi,
)
from trapline.privilege.interrupts import interrupt_waits
from trapline.privilege.returns import mret as return_from_machine
from trapline.privilege.returns import sret as return_from_supervisor
from trapline.privilege.tlb_misses import forget_page, forget_translations


@instruction("mret", "0011000 00010 00000 000 00000 1110011", extension="I", flow=Flow.RETURN)
def mret(hart: Hart) -> None:
    require_machine(hart)
    return_from_machine(hart)


@instruction("sret", "0001000 00010 00000 000 00000 1110011", extension="S", flow=Flow.RETURN)
def sret(hart: Hart) -> None:
    require_sret(hart)
    return_from_supervisor(hart)


@instruction("wfi", "0001000 00101 00000 000 00000 1110011", extension="I")
def wfi(hart: Hart) -> None:
    require_wfi(hart)
    # An interrupt that is pending and enabled in mie ends the wait even where it is globally disabled.
    if not interrupt_waits(hart):
        leave(hart, EXIT_WFI)


@inline
def fence_address(hart: Hart, rs1: U64) -> None:
    """Forget the translations of the page at x[rs1], or all of them if rs1 is x0.

    The ASID or VMID operand narrows what must be forgotten, never what may be.
    """
    if rs1 == 0:
        forget_translations(hart)
    else:
        forget_page(hart, hart.x[rs1])


@instruction("sfence.vma rs1, rs2", "0001001 rs2 rs1 000 00000 1110011", extension="S")
def sfence_vma(hart: Hart, rs1: U64) -> None:
    require_sfence_vma(hart)
    fence_address(hart, rs1)


@instruction("sinval.vma rs1, rs2", "0001011 rs2 rs1 000 00000 1110011", extension="S&Svinval")
def sinval_vma(hart: Hart, rs1: U64) -> None:
    require_sfence_vma(hart)
    fence_address(hart, rs1)


@instruction("sfence.w.inval", "0001100 00000 00000 000 00000 1110011", extension="S&Svinval")
def sfence_w_inval(hart: Hart) -> None:
    require_sfence_inval(hart)


@instruction("sfence.inval.ir", "0001100 00001 00000 000 00000 1110011", extension="S&Svinval")
def sfence_inval_ir(hart: Hart) -> None:
    require_sfence_inval(hart)

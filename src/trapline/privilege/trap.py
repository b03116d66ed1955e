"""Trap entry: the only place where a trap is taken as hardware takes it.

(Privileged spec, traps; Hypervisor chapter, trap entry.) Software that redirects a trap, firmware
or hypervisor, writes CSRs instead and returns with mret or sret.
"""

from __future__ import annotations

from trapline.lang.control import jump
from trapline.lang.functions import cold, inline
from trapline.lang.state import Hart
from trapline.lang.values import U64
from trapline.privilege.causes import INTERRUPT, trap_kind
from trapline.privilege.fields import (
    HSTATUS_GVA,
    HSTATUS_SPV,
    HSTATUS_SPVP,
    MSTATUS_GVA,
    MSTATUS_MIE,
    MSTATUS_MPIE,
    MSTATUS_MPP,
    MSTATUS_MPP_SHIFT,
    MSTATUS_MPV,
    MSTATUS_SIE,
    MSTATUS_SPIE,
    MSTATUS_SPP,
)
from trapline.privilege.mode_change import trap_entry
from trapline.privilege.modes import MACHINE, SUPERVISOR, TO_HS, TO_M, TO_VS, change_mode, mode_index


@inline
def handler(tvec: U64, code: U64, interrupt: U64) -> U64:
    """Where xtvec sends a trap: vectored mode is for interrupts only."""
    if interrupt != 0 and tvec & 1 != 0:
        return (tvec & ~3) + (code << 2)
    return tvec & ~3


@inline
def count_trap(hart: Hart, code: U64, interrupt: U64, destination: U64) -> None:
    """One more trap of this code from the present mode to this destination."""
    index = trap_kind(code, interrupt, mode_index(hart), destination)
    hart.trap_count[index] = hart.trap_count[index] + 1


@inline
def enter_m(hart: Hart, cause: U64, epc: U64, tval: U64, tval2: U64, tinst: U64, gva: U64) -> None:
    """Trap into M-mode."""
    old = hart.mstatus
    new = old & ~(MSTATUS_MIE | MSTATUS_MPIE | MSTATUS_MPP | MSTATUS_MPV | MSTATUS_GVA)
    if old & MSTATUS_MIE != 0:
        new = new | MSTATUS_MPIE
    if hart.virt != 0:
        new = new | MSTATUS_MPV
    if gva != 0:
        new = new | MSTATUS_GVA
    hart.mstatus = new | (hart.priv << MSTATUS_MPP_SHIFT)
    hart.mepc = epc
    hart.mcause = cause
    hart.mtval = tval
    hart.mtval2 = tval2
    hart.mtinst = tinst
    jump(hart, handler(hart.mtvec, cause & 63, cause >> 63))
    change_mode(hart, U64(MACHINE), U64(0), (cause >> 63) ^ 1)


@inline
def enter_hs(hart: Hart, cause: U64, epc: U64, tval: U64, tval2: U64, tinst: U64, gva: U64) -> None:
    """Trap into HS-mode; SPVP keeps its value unless the trap came from V=1."""
    old = hart.mstatus
    new = old & ~(MSTATUS_SIE | MSTATUS_SPIE | MSTATUS_SPP)
    if old & MSTATUS_SIE != 0:
        new = new | MSTATUS_SPIE
    if hart.priv != 0:
        new = new | MSTATUS_SPP
    hart.mstatus = new
    hstatus = hart.hstatus & ~(HSTATUS_SPV | HSTATUS_GVA)
    if hart.virt != 0:
        hstatus = (hstatus & ~HSTATUS_SPVP) | HSTATUS_SPV
        if hart.priv != 0:
            hstatus = hstatus | HSTATUS_SPVP
    if gva != 0:
        hstatus = hstatus | HSTATUS_GVA
    hart.hstatus = hstatus
    hart.sepc = epc
    hart.scause = cause
    hart.stval = tval
    hart.htval = tval2
    hart.htinst = tinst
    jump(hart, handler(hart.stvec, cause & 63, cause >> 63))
    change_mode(hart, U64(SUPERVISOR), U64(0), (cause >> 63) ^ 1)


@inline
def enter_vs(hart: Hart, cause: U64, epc: U64, tval: U64) -> None:
    """Trap into VS-mode: V stays 1 and nothing of HS or M changes; interrupts 2, 6, 10 become 1, 5, 9."""
    old = hart.vsstatus
    new = old & ~(MSTATUS_SIE | MSTATUS_SPIE | MSTATUS_SPP)
    if old & MSTATUS_SIE != 0:
        new = new | MSTATUS_SPIE
    if hart.priv != 0:
        new = new | MSTATUS_SPP
    hart.vsstatus = new
    seen = cause
    if cause >> 63 != 0 and (cause & 63 == 2 or cause & 63 == 6 or cause & 63 == 10):
        seen = cause - 1
    hart.vsepc = epc
    hart.vscause = seen
    hart.vstval = tval
    jump(hart, handler(hart.vstvec, seen & 63, seen >> 63))
    change_mode(hart, U64(SUPERVISOR), U64(1), (cause >> 63) ^ 1)


@inline
def destination(hart: Hart, code: U64, interrupt: U64) -> U64:
    """Where a trap goes: M unless medeleg or mideleg has it; HS unless V=1 and hedeleg or hideleg has it."""
    outer = hart.medeleg
    inner = hart.hedeleg
    if interrupt != 0:
        outer = hart.mideleg
        inner = hart.hideleg
        if hart.has_ssaia != 0 and hart.irq_cause == code + 1:
            # An interrupt that mvien or hvien makes virtual goes where update_derived found it.
            return hart.irq_level
    if hart.priv == MACHINE or (outer >> code) & 1 == 0:
        return U64(TO_M)
    if hart.virt == 0 or (inner >> code) & 1 == 0:
        return U64(TO_HS)
    return U64(TO_VS)


@cold
def take_trap(hart: Hart, cause: U64, epc: U64, tval: U64, tval2: U64, tinst: U64, gva: U64) -> None:
    """Deliver a synchronous exception or an interrupt (bit 63) to M, HS or VS; next_pc is its handler.

    For interrupts `cause` has the code in mip (10 for VSEI).
    """
    trap_into(hart, destination(hart, cause & 63, cause >> 63), cause, epc, tval, tval2, tinst, gva)


@trap_entry
def trap_into(hart: Hart, to: U64, cause: U64, epc: U64, tval: U64, tval2: U64, tinst: U64, gva: U64) -> None:
    """The same, where it is known that the trap goes to `to`."""
    interrupt = cause >> 63
    hart.not_retired = hart.not_retired + (interrupt ^ 1)
    count_trap(hart, cause & 63, interrupt, to)
    if to == TO_M:
        enter_m(hart, cause, epc, tval, tval2, tinst, gva)
    elif to == TO_HS:
        enter_hs(hart, cause, epc, tval, tval2, tinst, gva)
    else:
        enter_vs(hart, cause, epc, tval)


@cold
def take_interrupt(hart: Hart) -> None:
    """Deliver the interrupt that update_derived selected, before the instruction at hart.pc."""
    take_trap(hart, INTERRUPT | (hart.irq_cause - 1), hart.pc, U64(0), U64(0), U64(0), U64(0))

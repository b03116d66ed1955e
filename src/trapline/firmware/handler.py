"""The trap handler of hosted firmware: redirect, or emulate and step over, as the model's flags say.

SBI calls, interrupts and what happens in M-mode itself are firmware.firmware's.
"""

from __future__ import annotations

from trapline.firmware.illegal import emulate_illegal
from trapline.firmware.misaligned import emulate_access
from trapline.firmware.redirect import EMULATES_MISALIGNED, FETCHES, WENT_TO_VS, redirect_trap
from trapline.firmware.unprivileged import fetches
from trapline.lang.functions import cold, hosted, inline
from trapline.lang.state import Hart
from trapline.lang.values import U64
from trapline.privilege.causes import (
    ECALL_HS,
    ILLEGAL_INST,
    LOAD_ACCESS,
    LOAD_MISALIGNED,
    STORE_ACCESS,
    STORE_MISALIGNED,
)
from trapline.privilege.fields import MSTATUS_GVA, MSTATUS_MPP_SHIFT, MSTATUS_MPV
from trapline.privilege.modes import MACHINE
from trapline.privilege.returns import mret

# Where a trap went, beside WENT_TO_VS and WENT_TO_HS: nowhere, it is not this handler's; back, past the instruction.
NOT_SERVED, WENT_BACK = 0, 3
# Events, 1 + their place in hart.fw_cost: redirects, a counter that was read, then the accesses that are emulated.
EVENT_ILLEGAL, EVENT_ATOMIC, EVENT_ACCESS, EVENT_PLAIN, EVENT_ILLEGAL_TO_VS, EVENT_AMO, EVENT_CSR_READ = range(1, 8)
EVENT_EMULATED = EVENT_CSR_READ


@inline
def previous_privilege(hart: Hart) -> U64:
    """Where the trap came from: mstatus.MPP."""
    return (hart.mstatus >> MSTATUS_MPP_SHIFT) & 3


@inline
def previous_virtualization(hart: Hart) -> U64:
    """Likewise whether it came from a guest: mstatus.MPV, which M-mode itself never has."""
    return U64(1) if hart.mstatus & MSTATUS_MPV != 0 and previous_privilege(hart) != MACHINE else U64(0)


@inline
def redirect_event(cause: U64, went: U64) -> U64:
    """The event that a redirect of an exception is."""
    event = U64(EVENT_PLAIN)
    if cause == ILLEGAL_INST:
        event = U64(EVENT_ILLEGAL_TO_VS) if went == WENT_TO_VS else U64(EVENT_ILLEGAL)
    elif cause == LOAD_MISALIGNED:
        event = U64(EVENT_ATOMIC)
    elif cause == STORE_MISALIGNED:
        event = U64(EVENT_AMO)
    elif cause == LOAD_ACCESS or cause == STORE_ACCESS:
        event = U64(EVENT_ACCESS)
    return event


@cold
def emulate(hart: Hart, cause: U64, epc: U64, priv: U64, virt: U64) -> U64:
    """Emulate the instruction of the trap in trap_*: the event; 0 if trap_* is to be redirected.

    Newer firmware first fetches the instruction of an access fault for a platform's own emulation (there is none).
    """
    if cause == ILLEGAL_INST:
        return U64(EVENT_CSR_READ) if emulate_illegal(hart, epc, priv, virt) else U64(0)
    if cause == LOAD_MISALIGNED or cause == STORE_MISALIGNED:
        if hart.fw_flags & EMULATES_MISALIGNED == 0:
            return U64(0)
        place = emulate_access(hart, epc, priv, virt)
        return place + EVENT_EMULATED if place != 0 else U64(0)
    if (cause == LOAD_ACCESS or cause == STORE_ACCESS) and hart.fw_flags & FETCHES != 0 and hart.trap_tinst & 1 == 0:
        fetches(hart, epc, priv, virt)
    return U64(0)


@hosted
def serve_trap(hart: Hart) -> U64:
    """Handle the trap that entered M-mode and leave M-mode again: where it went (WENT_*), or NOT_SERVED, nothing done.

    hart.fw_event is what was done, hart.trap_* the trap that was redirected: another than the one that came if an
    access on behalf of the code faulted itself.
    """
    cause = hart.mcause
    priv = previous_privilege(hart)
    virt = previous_virtualization(hart)
    if cause >= 64 or priv == MACHINE or cause == ECALL_HS:
        return U64(NOT_SERVED)
    epc = hart.mepc
    hart.trap_cause = cause
    hart.trap_tval = hart.mtval
    hart.trap_tval2 = hart.mtval2
    hart.trap_tinst = hart.mtinst
    hart.trap_gva = U64(1) if hart.mstatus & MSTATUS_GVA != 0 else U64(0)
    went = U64(WENT_BACK)
    event = emulate(hart, cause, epc, priv, virt)
    if event == 0:
        went = redirect_trap(
            hart,
            hart.trap_cause,
            epc,
            hart.trap_tval,
            hart.trap_tval2,
            hart.trap_tinst,
            hart.trap_gva,
            priv,
            virt,
        )
        event = redirect_event(cause, went)
    hart.fw_event = event
    leave_machine(hart)
    return went


@hosted
def leave_machine(hart: Hart) -> None:
    """Return from M-mode to where mepc points."""
    mret(hart)
    hart.pc = hart.next_pc

"""What a change of mode brings with it, kept out of the text of traps and returns.

A body that enters a mode as the manual says becomes the function that is called: `@trap_entry` and `@trap_return` add
what follows from the new mode.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trapline.lang.control import EXIT_HOSTED_HS, EXIT_HOSTED_M, flush_page, leave, note_return, note_trap
from trapline.lang.functions import cold, inline, named
from trapline.lang.state import Hart
from trapline.lang.values import U64
from trapline.privilege.causes import INST_GUEST_PAGE_FAULT, VIRTUAL_INST
from trapline.privilege.derived import update_derived
from trapline.privilege.fields import HSTATUS_SPV, MSTATUS_MPP_SHIFT, MSTATUS_MPV, MSTATUS_SPP
from trapline.privilege.hpm import count_trap_event
from trapline.privilege.modes import MACHINE, MODE_VS, MODE_VU, SUPERVISOR, TO_HS, TO_M, USER, mode_index

TrapBody = Callable[[Hart, U64, U64, U64, U64, U64, U64, U64], None]

BODIES: dict[Callable[..., None], Callable[..., Any]] = {}  # of the functions that are made here


@inline
def hosted_level(hart: Hart, to: U64) -> U64:
    """Not 0: hosted software, not code, handles what goes there."""
    if to == TO_M:
        return hart.hosted_m
    return hart.hosted_hs if to == TO_HS else U64(0)


@inline
def walked_for_guest(hart: Hart, cause: U64) -> bool:
    """Whether an HLV has walked and seen a fault that the guest, whose cached translation is older, may never take.

    Linux reads the instruction behind an MMIO fault with HLVX and, if that faults, lets the guest try again.
    """
    return hart.virt == 0 and cause >= INST_GUEST_PAGE_FAULT and cause < 64 and cause != VIRTUAL_INST


@cold
def origin_of_trap(hart: Hart) -> U64:
    """The mode index that the trap just taken came from, out of what entry has written."""
    if hart.priv == MACHINE:
        return ((hart.mstatus >> MSTATUS_MPP_SHIFT) & 3) | (U64(4) if hart.mstatus & MSTATUS_MPV != 0 else U64(0))
    if hart.virt != 0:
        return U64(MODE_VS) if hart.vsstatus & MSTATUS_SPP != 0 else U64(MODE_VU)
    spp = U64(SUPERVISOR) if hart.mstatus & MSTATUS_SPP != 0 else U64(USER)
    return spp | (U64(4) if hart.hstatus & HSTATUS_SPV != 0 else U64(0))


def trap_entry(body: TrapBody) -> TrapBody:
    """Make a trap's entry of a body (hart, destination, cause, epc, tval, tval2, tinst, gva)."""
    inline(body)

    @named(body.__name__)
    @inline
    def changed(hart: Hart, to: U64, cause: U64, epc: U64, tval: U64, tval2: U64, tinst: U64, gva: U64) -> None:
        if walked_for_guest(hart, cause):
            flush_page(hart, tval)
        body(hart, to, cause, epc, tval, tval2, tinst, gva)
        follow_trap(hart, to, cause, epc)

    BODIES[changed] = body
    return changed


@inline
def leave_to_hosted(hart: Hart, to: U64, cause: U64) -> None:
    """Hosted software handles the trap."""
    hart.exit_arg = cause
    leave(hart, EXIT_HOSTED_M if to == TO_M else EXIT_HOSTED_HS)


@cold
def follow_trap(hart: Hart, to: U64, cause: U64, epc: U64) -> None:
    """What follows a trap: hosted software may handle it, somebody may look on, and what is derived is another."""
    if hosted_level(hart, to) != 0:
        leave_to_hosted(hart, to, cause)
    if hart.hpm_traps != 0:
        count_trap_event(hart, cause >> 63, origin_of_trap(hart))
    note_trap(hart, to, cause, epc)
    update_derived(hart)


def trap_return(body: Callable[[Hart], U64]) -> Callable[[Hart], None]:
    """Make a return from a trap of a body that gives the index of the mode that it enters."""
    inline(body)

    @named(body.__name__)
    @cold
    def changed(hart: Hart) -> None:
        left = mode_index(hart)
        body(hart)
        follow_return(hart, left)

    BODIES[changed] = body
    return changed


@cold
def follow_return(hart: Hart, left: U64) -> None:
    """What follows a return from the mode `left`."""
    note_return(hart, left)
    update_derived(hart)

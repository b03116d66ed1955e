"""Zawrs: wait on a reservation set. A stall ends by an interrupt, as that of wfi, or by time."""

from __future__ import annotations

from trapline.lang.control import EXIT_WFI, leave
from trapline.lang.functions import cold, instruction
from trapline.lang.state import Hart
from trapline.privilege.guards import require_wrs_nto
from trapline.privilege.interrupts import interrupt_waits
from trapline.privilege.memory import NO_RESERVATION


@cold
def stall(hart: Hart) -> None:
    """Let others run if the reservation is still held and no interrupt waits."""
    if hart.reservation != NO_RESERVATION and not interrupt_waits(hart):
        leave(hart, EXIT_WFI)


@instruction("wrs.nto", "000000001101 00000 000 00000 1110011", extension="Zawrs")
def wrs_nto(hart: Hart) -> None:
    require_wrs_nto(hart)
    stall(hart)


@instruction("wrs.sto", "000000011101 00000 000 00000 1110011", extension="Zawrs")
def wrs_sto(hart: Hart) -> None:
    stall(hart)

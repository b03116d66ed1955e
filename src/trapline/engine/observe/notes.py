"""What the specification notes (lang.control.note_trap and others), for whoever looks on."""

from __future__ import annotations

from trapline.engine.observe.stops import stop_on_access, stop_on_atomic, stop_on_split, stop_on_trap
from trapline.engine.observe.trace import trace_return, trace_trap
from trapline.engine.observe.trips import observe_return, observe_trap
from trapline.lang.functions import hosted, inline
from trapline.lang.state import Hart
from trapline.lang.values import U64
from trapline.privilege.mode_change import hosted_level, origin_of_trap
from trapline.privilege.modes import MACHINE, TO_HS, TO_M, TO_VS


@hosted
def note_trap(hart: Hart, to: U64, cause: U64, epc: U64) -> None:
    """A trap was taken to a level."""
    if hart.observe_base != 0:
        observe_trap(hart, cause, epc)
    if hart.trace_base != 0:
        trace_trap(hart, to, cause, epc, hosted_level(hart, to))
    if hart.stop_traps != 0:
        stop_on_trap(hart, cause, epc, origin_of_trap(hart), to)


@hosted
def note_return(hart: Hart, left: U64) -> None:
    """A mode, by its index, was left by mret or sret."""
    level = U64(TO_VS) if left >> 2 != 0 else U64(TO_HS)
    if left == MACHINE:
        level = U64(TO_M)
    if hart.observe_base != 0:
        observe_return(hart, level)
    if hart.trace_base != 0:
        trace_return(hart, level)


@inline
@hosted
def note_access(hart: Hart, va: U64, pa: U64, size: U64, access: U64) -> None:
    """An access is about to be made, of a kind that protection.py numbers as stops.py shifts a bit."""
    if hart.stops_base != 0:
        stop_on_access(hart, va, pa, size, U64(1) << (access & 63))


@inline
@hosted
def note_split(hart: Hart, va: U64, size: U64, pa: U64, first: U64, rest: U64, access: U64) -> None:
    """The same of one whose bytes behind the first ones lie at `rest`."""
    if hart.stops_base != 0:
        stop_on_split(hart, va, size, pa, first, rest, U64(1) << (access & 63))


@inline
@hosted
def note_atomic(hart: Hart, va: U64, pa: U64, size: U64) -> None:
    """The same of an AMO."""
    if hart.stops_base != 0:
        stop_on_atomic(hart, va, pa, size)


NOTES = {f.__name__: f for f in (note_trap, note_return, note_access, note_split, note_atomic)}

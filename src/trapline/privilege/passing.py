"""Time that passes without instructions: a hart waits, or it spins (Zihintpause).

A hart that pauses waits for another one, or for time. PAUSES of them end its run, so that others have their turn, and
have taken as long as so many times PAUSE_COST instructions: spinning is not executed for whole turns.
"""

from __future__ import annotations

from trapline.lang.control import EXIT_TIMER, leave
from trapline.lang.functions import cold, hosted, inline
from trapline.lang.state import Hart
from trapline.lang.values import U64, udiv
from trapline.privilege.derived import update_derived
from trapline.privilege.interrupts import time_now, update_timers

PAUSES, PAUSE_COST = 64, 100  # 100 ns a pause, where a second is 10^9 instructions


@hosted
def pass_time(hart: Hart, tick: U64) -> None:
    """Let the hart's time pass to `tick` without instructions; with it, the deadlines of Sstc and their interrupts."""
    now = time_now(hart)
    if tick > now:
        hart.time_offset = hart.time_offset + (tick - now)
        update_timers(hart)
        update_derived(hart)


@cold
def rest(hart: Hart) -> None:
    """The last pause before others run."""
    leave(hart, EXIT_TIMER)


@inline
def paused(hart: Hart) -> None:
    """A pause has been executed."""
    if hart.pauses & (PAUSES - 1) == PAUSES - 1:
        rest(hart)
    hart.pauses = hart.pauses + 1


@inline
def is_tired(hart: Hart) -> bool:
    """Whether pauses have taken time that has not passed."""
    return hart.pauses >= PAUSES and hart.pauses * PAUSE_COST >= hart.time_ratio


@hosted
def pass_pauses(hart: Hart) -> None:
    """Let it pass."""
    pass_time(hart, time_now(hart) + udiv(hart.pauses * PAUSE_COST, hart.time_ratio))
    hart.pauses = 0

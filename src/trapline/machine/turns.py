"""The turns of a board's harts, as both engines take them: fixed lengths, exact timer deadlines, sleep and wake-up.

A turn is cut at the hart's next timer deadline, so that a timer interrupt is taken at an exact instruction. A sleeping
hart's clock advances without instructions. The rounds are those of session.turns.
"""

from __future__ import annotations

from trapline.engine.observe.trace import is_much_unread
from trapline.lang.control import EXIT_BREAK, EXIT_HOSTED_M, EXIT_LIMIT, EXIT_STOP, EXIT_TIMER, EXIT_WFI, run_engine
from trapline.lang.devices import ASK_ARRIVED, ASK_DEVICES, ASK_LEFT, DeviceState, ask_host
from trapline.lang.functions import cold, hosted, inline
from trapline.lang.state import Hart
from trapline.lang.values import U64, urem
from trapline.machine.devices.clint import clint_tick
from trapline.privilege.derived import update_derived
from trapline.privilege.fields import ENVCFG_STCE
from trapline.privilege.interrupts import interrupt_waits, time_now, update_timers
from trapline.privilege.memory import NO_RESERVATION
from trapline.privilege.passing import is_tired, pass_pauses, pass_time
from trapline.session.turns import AGES, FOREVER, NO_TICK, rounds_of


@inline
def nearer(wait: U64, now: U64, compare: U64) -> U64:
    """The shorter of two waits: one in ticks, and that until a clock, `now` at present, reaches `compare`."""
    if compare > now and compare - now < wait:
        return compare - now
    return wait


@inline
def ticks_to_deadline(hart: Hart, io: DeviceState, number: U64) -> U64:
    """Ticks until the hart's next timer deadline (mtimecmp, stimecmp, vstimecmp), or AGES."""
    now = time_now(hart)
    wait = nearer(U64(AGES), now, io.mtimecmp[number])
    if hart.has_sstc != 0 and hart.menvcfg & ENVCFG_STCE != 0:
        wait = nearer(wait, now, hart.stimecmp)
        if hart.has_h != 0 and hart.henvcfg & ENVCFG_STCE != 0:
            wait = nearer(wait, now + hart.htimedelta, hart.vstimecmp)
    return wait


@inline
def ticks_to_event(hart: Hart, io: DeviceState, number: U64) -> U64:
    """The same, or ticks until the next turn of devices."""
    wait = ticks_to_deadline(hart, io, number)
    now = time_now(hart)
    if io.turn_due == NO_TICK:
        return wait
    if io.turn_due <= now:
        return U64(0)
    return nearer(wait, now, io.turn_due)


@cold
def tick(hart: Hart, io: DeviceState, number: U64) -> None:
    """Bring the hart's timer interrupts up to date with its time, and give devices the turns that are due."""
    clint_tick(hart, io, number)
    if hart.time_offset != hart.timer_offset or hart.time_ratio != hart.timer_ratio:
        update_timers(hart)
        update_derived(hart)
    elif hart.instret >= hart.timer_due:
        update_derived(hart)
    if io.turn_tired != 0 or io.turn_due <= time_now(hart):
        ask_host(hart, io, ASK_DEVICES, number)


@cold
def wakes(hart: Hart, io: DeviceState, number: U64, until: U64) -> bool:
    """Pass a sleeping hart's time; whether it woke before `until`."""
    for _ in range(FOREVER):
        if interrupt_waits(hart) or io.turn_stop != 0:
            break
        wait = ticks_to_event(hart, io, number)
        if wait >= AGES or time_now(hart) + wait >= until:
            break
        pass_time(hart, time_now(hart) + wait)
        tick(hart, io, number)
    if not interrupt_waits(hart):
        if io.turn_stop == 0:
            # Also after a deadline whose interrupt is not enabled: it wakes nobody.
            pass_time(hart, until)
        return False
    io.turn_asleep[number] = 0
    return True


@inline
def attempts(hart: Hart, io: DeviceState, number: U64, until: U64) -> U64:
    """How many attempts the hart may make now: to its next event, the end of the turn, the budget or the goal."""
    ticks = until - time_now(hart)
    wait = ticks_to_event(hart, io, number)
    if wait < ticks:
        ticks = wait
    limit = ticks * hart.time_ratio
    over = urem(hart.instret, hart.time_ratio)
    limit = limit - over if limit > over else U64(1)
    if io.turn_budget - io.turn_done < limit:
        limit = io.turn_budget - io.turn_done
    if io.turn_slice < limit:
        limit = io.turn_slice
    if io.turn_goal_of == number + 1:
        left = io.turn_goal - hart.instret if io.turn_goal > hart.instret else U64(0)
        if left < limit:
            limit = left
    return limit


@inline
def stall(hart: Hart, io: DeviceState, number: U64, until: U64) -> None:
    """A wfi or wrs.* stalls."""
    if hart.reservation == NO_RESERVATION:
        if not interrupt_waits(hart):
            io.turn_asleep[number] = 1
        return
    # With a reservation it may be wrs.*, whose stall ends by itself, and wfi may end early: go on after
    # this turn. Losing the reservation is always allowed, and the next wfi sleeps.
    hart.reservation = NO_RESERVATION
    if io.clint_harts > 1:
        pass_time(hart, until)


@inline
def react(hart: Hart, io: DeviceState, number: U64, until: U64, reason: U64) -> None:
    """Do what the reason asks for which the hart left the engine."""
    if reason == EXIT_WFI:
        stall(hart, io, number, until)
    elif reason == EXIT_STOP:
        io.turn_stop = 1
    elif reason != EXIT_LIMIT and reason != EXIT_TIMER:
        if reason == EXIT_BREAK:
            io.turn_stop = 1
        ask_host(hart, io, ASK_LEFT, number | reason << 8)


@hosted
def hart_turn(hart: Hart, io: DeviceState, number: U64) -> None:
    """Let one hart run up to the tick turn_until."""
    until = io.turn_until
    for _ in range(FOREVER):
        if io.turn_stop != 0 or io.turn_done >= io.turn_budget:
            break
        tick(hart, io, number)
        if time_now(hart) >= until:
            break
        if io.turn_asleep[number] != 0 and not wakes(hart, io, number, until):
            break
        limit = attempts(hart, io, number, until)
        before = hart.instret
        hart.turn_end = before + limit
        reason = hart.stop_then  # a hosted level whose turn a stop came before: 1 M, 2 HS
        if reason == 0:
            reason = run_engine(hart, limit)
        else:
            hart.stop_then = 0
            reason = reason + (EXIT_HOSTED_M - 1)
        hart.turn_end = 0
        io.turn_done = io.turn_done + (hart.instret - before)
        if is_tired(hart):
            pass_pauses(hart)
        react(hart, io, number, until, reason)
        if hart.trace_base != 0 and is_much_unread(hart):
            io.turn_stop = 1  # traps to hosted software leave the engine without a look at the ring
        if io.turn_goal_of == number + 1 and hart.instret >= io.turn_goal:
            io.turn_goal_of = 0
            io.turn_stop = 1
            ask_host(hart, io, ASK_ARRIVED, number)


@hosted
def note_awake(hart: Hart, io: DeviceState, number: U64) -> None:
    """turn_found: not 0 if a hart that was asked can run."""
    if io.turn_asleep[number] == 0 or interrupt_waits(hart):
        io.turn_found = 1


@hosted
def note_event(hart: Hart, io: DeviceState, number: U64) -> None:
    """turn_found: the tick of the earliest event of the harts that were asked."""
    wait = ticks_to_event(hart, io, number)
    if wait < AGES and time_now(hart) + wait < io.turn_found:
        io.turn_found = time_now(hart) + wait


@hosted
def pass_on(hart: Hart, io: DeviceState, number: U64) -> None:
    """Pass a sleeping hart's time to the tick turn_found."""
    pass_time(hart, io.turn_found)
    tick(hart, io, number)


@inline
def nothing_more(io: DeviceState) -> None:
    """A round of harts has only their turns."""


@inline
def is_cut(io: DeviceState) -> bool:
    """Whether the round ends with the turn that has just been."""
    return io.turn_stop != 0 or io.turn_done >= io.turn_budget


take_turns = rounds_of(
    "take_turns",
    turn=hart_turn,
    note_ready=note_awake,
    note_event=note_event,
    pass_on=pass_on,
    begun=nothing_more,
    ends=is_cut,
)

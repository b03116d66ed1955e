"""Rounds of turns as both engines take them: a board's harts, a VM's vCPUs.

Time is counted in instructions. In each round everyone runs until the same tick. The loop of rounds stands here; what a
turn is, who can run and what event comes next, the target says by functions `(hart, io, number)`, each for one hart
(machine.turns, kvm.turns). The words are those of lang.devices (`turn_`); session.schedule puts them there.
"""

from __future__ import annotations

from collections.abc import Callable

from trapline.lang.devices import HARTS, DeviceState, on_hart
from trapline.lang.functions import cold, hosted, inline, named
from trapline.lang.state import Hart
from trapline.lang.values import U64
from trapline.privilege.interrupts import time_now

QUANTUM = 20_000  # attempts of a turn where several take turns; part of the behaviour
AGES = 1 << 60  # ticks: thousands of years; software writes all ones to switch a timer off
NO_TICK = 0xFFFF_FFFF_FFFF_FFFF
FOREVER = 1 << 62

OfHart = Callable[[Hart, DeviceState, U64], None]


def of_all(of_hart: OfHart) -> Callable[[DeviceState], None]:
    """The same for each hart in turn."""

    @inline
    def of_each(io: DeviceState) -> None:
        for number in range(HARTS):
            if number < io.clint_harts:
                on_hart(io.hart_at[number], of_hart, io, number)

    return of_each


@cold
def note_time(hart: Hart, io: DeviceState, number: U64) -> None:
    """turn_found: the earliest time."""
    if time_now(hart) < io.turn_found:
        io.turn_found = time_now(hart)


note_times = of_all(note_time)


def rounds_of(
    name: str,
    *,
    turn: OfHart,
    note_ready: OfHart,
    note_event: OfHart,
    pass_on: OfHart,
    begun: Callable[[DeviceState], None],
    ends: Callable[[DeviceState], bool],
) -> Callable[[Hart, DeviceState], None]:
    """Return the loop of rounds of a target, a root of what is compiled.

    `turn` lets a hart run up to the tick turn_until; `note_ready` makes turn_found 1 if it can run; `note_event` makes
    turn_found the tick of its next event if that is earlier; `pass_on` passes its time, asleep, to turn_found. `begun`
    is for what comes at the beginning of a round, `ends` says whether the round is cut short behind a turn.
    """
    note_all_ready, note_events, pass_all_on = of_all(note_ready), of_all(note_event), of_all(pass_on)

    @inline
    def begin_round(io: DeviceState) -> None:
        io.turn_found = NO_TICK
        note_times(io)
        if io.turn_found > io.turn_now:
            io.turn_now = io.turn_found
        io.turn_round = io.turn_now + io.turn_ticks
        begun(io)

    @inline
    def all_wait(io: DeviceState) -> bool:
        io.turn_found = 0
        note_all_ready(io)
        return io.turn_found == 0

    @inline
    def skips(io: DeviceState) -> bool:
        # All wait: pass the time to the next event; False, with nothing done, if that is Python's to do.
        if io.turn_skips == 0:
            return False
        io.turn_found = NO_TICK
        note_events(io)
        if io.turn_found >= io.turn_latest:
            return False
        if io.turn_found > io.turn_now:
            io.turn_now = io.turn_found
        pass_all_on(io)
        return io.turn_stop == 0

    @hosted
    @named(name)
    def take_rounds(hart: Hart, io: DeviceState) -> None:
        """Rounds, until Python has to look outside. `hart` is the first, and only stands for the engine."""
        for _ in range(FOREVER):
            if io.turn_next == 0:
                begin_round(io)
                if io.turn_stop != 0:
                    return
            io.turn_until = io.turn_round if io.turn_round < io.turn_latest else io.turn_latest
            if io.turn_until <= io.turn_now:
                io.turn_until = io.turn_now + 1
            first = io.turn_next
            for number in range(HARTS):
                if number < io.clint_harts and number + 1 >= first:
                    on_hart(io.hart_at[number], turn, io, number)
                    if ends(io):
                        io.turn_next = number + 1
                        return
            io.turn_now = io.turn_until
            io.turn_next = 0
            io.turn_rounds = io.turn_rounds - 1
            if io.turn_rounds == 0 or io.turn_now >= io.turn_latest:
                return
            if all_wait(io) and not skips(io):
                return

    return take_rounds

"""The deterministic schedule of a board's harts: fixed turns, exact timer deadlines, sleep.

Time is counted in instructions. In each round every hart runs until the same tick; a turn is cut at
the hart's next timer deadline, so that a timer interrupt is taken at an exact instruction. A sleeping
hart's clock advances without instructions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Protocol

from msgspec import Meta

from trapline.engine.api import Engine
from trapline.engine.stop_points import hosted_then
from trapline.lang.control import EXIT_BREAK, EXIT_LIMIT, EXIT_STOP, EXIT_TIMER, EXIT_WFI
from trapline.lang.state import Hart
from trapline.machine.clint import advance, time_of
from trapline.machine.plain_types import Bits
from trapline.privilege.memory import NO_RESERVATION

QUANTUM = 20_000  # instructions of a turn when several harts take turns; part of the behaviour


class Board(Protocol):
    """What the schedule asks of the machine around the harts."""

    def tick(self, index: int) -> None:
        """Bring the hart's timer interrupts up to date with its time."""

    def deadline(self, index: int) -> int | None:
        """Return the tick, later than now, of the hart's next timer interrupt."""

    def wakes(self, index: int) -> bool:
        """Return whether a sleeping hart has a reason to go on."""

    def handle(self, index: int, reason: int) -> None:
        """Serve another exit of the engine (a hosted level)."""

    def stopped(self, index: int) -> None:
        """A hart came back for a stop (engine.stop_points)."""

    def arrived(self, index: int) -> None:
        """A hart is at the goal."""


class Schedule:
    """Runs the harts; `stop_requested` ends the run at the next boundary.

    A round that a budget or a stop cuts short goes on where it was: how a run is cut changes nothing.
    """

    snapshot_skips = ("engine", "slice", "goal")  # not the machine's
    snapshot_types: ClassVar = {
        "_next": lambda schedule: Annotated[int, Meta(ge=0, lt=len(schedule.harts))] | None,
        **dict.fromkeys(("_now", "_until", "retired"), Bits(62)),
    }

    def __init__(self, harts: Sequence[Hart], engine: Engine, board: Board, slice_instructions: int) -> None:
        self.harts = harts
        self.engine = engine
        self.board = board
        self.slice = slice_instructions
        self.asleep = [False] * len(harts)
        self.stop_requested = False
        self.retired = 0
        self._now = 0
        self._next: int | None = None  # the hart whose turn it is, in a round that was cut short
        self.goal: tuple[int, int] | None = None  # a hart, and the instret at which the run ends for it, once
        self._until = 0  # the tick at which the round ends

    def round(self, budget: int | None, latest: int | None = None) -> int:
        """Let each hart run up to the next common tick (not beyond `latest`); return the instructions retired."""
        harts = self.harts
        if self._next is None:
            self._now = max(self._now, min(time_of(h) for h in harts))
            quantum = self.slice if len(harts) == 1 else QUANTUM
            self._until = self._now + max(1, quantum // int(harts[0].time_ratio))
        until = self._until if latest is None else max(min(self._until, latest), self._now + 1)
        done = 0
        for index in range(self._next or 0, len(harts)):
            done += self._turn(index, until, None if budget is None else budget - done)
            if self.stop_requested or (budget is not None and done >= budget):
                self._next = index if len(harts) > 1 else None
                break
        else:
            self._now, self._next = until, None
        self.retired += done
        return done

    def all_asleep(self) -> bool:
        """Return whether no hart can run before some event."""
        return all(self.asleep) and not any(self.board.wakes(i) for i in range(len(self.harts)))

    def next_deadline(self) -> int | None:
        """Return the earliest timer deadline of all harts."""
        found = [d for i in range(len(self.harts)) if (d := self.board.deadline(i)) is not None]
        return min(found) if found else None

    def skip_to(self, tick: int) -> None:
        """All harts sleep: move every clock to `tick`."""
        for index, hart in enumerate(self.harts):
            advance(hart, tick)
            self.board.tick(index)
        self._now, self._next = max(self._now, tick), None

    def _turn(self, index: int, until: int, budget: int | None) -> int:
        hart, done = self.harts[index], 0
        while not self.stop_requested and (budget is None or done < budget):
            self.board.tick(index)
            if time_of(hart) >= until:
                break
            if self.asleep[index] and not self._sleep(index, until):
                break
            limit = self._instructions_to(index, until)
            if budget is not None:
                limit = min(limit, budget - done)
            before = int(hart.instret)
            limit = min(limit, self.slice)
            goal = self.goal[1] if self.goal is not None and self.goal[0] == index else None
            if goal is not None:
                limit = max(0, min(limit, goal - before))
            hart.turn_end = before + limit
            reason = hosted_then(hart) or int(self.engine.run(hart, limit))
            hart.turn_end = 0
            done += int(hart.instret) - before
            self._react(index, reason, until)
            if goal is not None and int(hart.instret) >= goal:
                self.goal, self.stop_requested = None, True
                self.board.arrived(index)
        return done

    def _sleep(self, index: int, until: int) -> bool:
        """Pass a sleeping hart's time; return whether it woke before `until`."""
        hart = self.harts[index]
        while not self.board.wakes(index) and not self.stop_requested:
            deadline = self.board.deadline(index)
            if deadline is None or deadline >= until:
                break
            advance(hart, deadline)
            self.board.tick(index)
        if not self.board.wakes(index):
            if self.stop_requested:
                return False
            # Also after a deadline whose interrupt is not enabled: it wakes nobody.
            advance(hart, until)
            return False
        self.asleep[index] = False
        return True

    def _instructions_to(self, index: int, until: int) -> int:
        hart = self.harts[index]
        deadline = self.board.deadline(index)
        tick = until if deadline is None else min(until, deadline)
        ratio = int(hart.time_ratio)
        return max(1, (tick - time_of(hart)) * ratio - int(hart.instret) % ratio)

    def _react(self, index: int, reason: int, until: int) -> None:
        if reason in (EXIT_LIMIT, EXIT_TIMER):
            return
        if reason == EXIT_STOP:
            self.stop_requested = True
        elif reason == EXIT_WFI:
            self._stall(index, until)
        elif reason == EXIT_BREAK:
            self.stop_requested = True
            self.board.stopped(index)
        else:
            self.board.handle(index, reason)

    def _stall(self, index: int, until: int) -> None:
        hart = self.harts[index]
        if int(hart.reservation) == NO_RESERVATION:
            self.asleep[index] = not self.board.wakes(index)
            return
        # With a reservation it may be wrs.*, whose stall ends by itself, and wfi may end early: go on after
        # this turn. Losing the reservation is always allowed, and the next wfi sleeps.
        hart.reservation = NO_RESERVATION
        if len(self.harts) > 1:
            advance(hart, until)

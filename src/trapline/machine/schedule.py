"""The schedule of a board's harts (session.schedule), and what their turns ask of the machine around them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, ClassVar, Protocol

from trapline.engine.api import Engine
from trapline.lang.control import EXIT_BREAK
from trapline.lang.devices import ASK_ARRIVED, ASK_DEVICES, ASK_LEFT, DeviceState
from trapline.lang.state import Hart
from trapline.machine.devices.clint import time_of
from trapline.machine.turns import note_awake, note_event, pass_on, take_turns
from trapline.session.schedule import Rounds, Target
from trapline.session.state.plain_types import Bits, Limits
from trapline.session.turns import NO_TICK, OfHart


class Board(Target, Protocol):
    """What the schedule asks of the machine around the harts."""

    def handle(self, index: int, reason: int) -> None:
        """Serve another exit of the engine (a hosted level)."""

    def stopped(self, index: int) -> None:
        """A hart came back for a stop (engine.stop_points)."""

    def arrived(self, index: int) -> None:
        """A hart is at the goal."""


class Schedule(Rounds):
    """Runs the harts; `stop_requested` ends the run at the next boundary. A round of one hart is never left open."""

    # Not the machine's.
    snapshot_skips = ("_target", "engine", "io", "loop", "slice", "goal", "longer", "most")
    snapshot_types: ClassVar = {
        "_next": lambda schedule: Annotated[int, Limits(ge=0, lt=len(schedule.harts))] | None,
        **dict.fromkeys(("_now", "_until", "retired"), Bits(62)),
    }

    def __init__(
        self, harts: Sequence[Hart], engine: Engine, board: Board, slice_instructions: int, io: DeviceState
    ) -> None:
        super().__init__(board, harts, io, take_turns)
        self.engine = engine
        self.board = board
        self.slice = slice_instructions
        self.asleep = [False] * len(harts)
        self.retired = 0
        self._now = 0
        self._next: int | None = None  # the hart whose turn it is, in a round that was cut short
        self.goal: tuple[int, int] | None = None  # a hart, and the instret at which the run ends for it, once
        self._until = 0  # the tick at which the round ends
        asks = {ASK_DEVICES: self._devices, ASK_LEFT: self._left, ASK_ARRIVED: self._arrived}
        io.answers |= {ask: partial(self._answer, answer) for ask, answer in asks.items()}
        for hart in harts:
            hart.on_run = partial(self._run, hart)  # type: ignore[method-assign]

    @property
    def stop_requested(self) -> bool:
        """Whether the harts come back at the next boundary."""
        return self.io.turn_stop != 0

    @stop_requested.setter
    def stop_requested(self, value: bool) -> None:
        self.io.turn_stop = int(value)

    @property
    def open_round(self) -> tuple[int, int] | None:
        """As Rounds has it."""
        return None if self._next is None else (self._next, self._until)

    @open_round.setter
    def open_round(self, value: tuple[int, int] | None) -> None:
        self._next, self._until = (None, 0) if value is None or len(self.harts) == 1 else value

    def round(self, budget: int | None, latest: int | None = None, *, skips: bool = False, times: int = 1) -> int:
        """Let each hart run up to the next common tick (not beyond `latest`); return the instructions retired.

        With `skips` time passes between rounds where all harts sleep. `times` as many rounds are taken as there are in
        a slice.
        """
        self.io.turn_latest, self.io.turn_skips = NO_TICK if latest is None else latest, int(skips)
        self.longer, self.most = times, Rounds.most * times
        try:
            return self.take(self.engine, self.slice, self.slice, budget)
        finally:
            self.retired += int(self.io.turn_done)

    def put(self) -> None:
        """Put what Python knows into the words."""
        super().put()
        io = self.io
        io.turn_now = self._now
        for index, asleep in enumerate(self.asleep):
            io.turn_asleep[index] = int(asleep)
        io.turn_goal_of, io.turn_goal = (0, 0) if self.goal is None else (self.goal[0] + 1, self.goal[1])

    def get(self) -> None:
        """Take it out again."""
        super().get()
        self._now = int(self.io.turn_now)
        self.asleep[:] = [self.io.turn_asleep[index] != 0 for index in range(len(self.harts))]
        if self.io.turn_goal_of == 0:
            self.goal = None

    def _run(self, hart: Hart, limit: int) -> int:
        return int(self.engine.run(hart, limit))

    # --- what the turns ask ---
    def _answer(self, answer: Callable[[int], None], value: int) -> None:
        """An error ends the turns: native code brings it along when it comes back."""
        try:
            answer(value)
        except BaseException:
            self.stop_requested = True
            raise

    def _devices(self, index: int) -> None:
        """Give devices the turn that is due at the time of this hart."""
        if self.board.turns.tick(time_of(self.harts[index])):
            self.stop_requested = True  # look at the limits of the run
        self.note_devices()

    def _left(self, value: int) -> None:
        index, reason = value & 0xFF, value >> 8
        if reason == EXIT_BREAK:
            self.board.stopped(index)
        else:
            self.board.handle(index, reason)

    def _arrived(self, index: int) -> None:
        self.goal = None
        self.board.arrived(index)

    # --- between rounds ---
    def can_run(self, number: int) -> bool:
        """Return whether a hart does not sleep, or an interrupt waits."""
        return not self.asleep[number] or self._ask(note_awake, number, 0) != 0

    def event_of(self, number: int) -> int | None:
        """Return the tick of a hart's next timer, or of a turn of devices before that."""
        found = self._ask(note_event, number, NO_TICK)
        return found if found != NO_TICK else None

    def pass_time(self, number: int, tick: int) -> None:
        """Let a sleeping hart's time pass to `tick`, and give devices the turns that are due."""
        self._ask(pass_on, number, tick)

    def skip_to(self, tick: int) -> None:
        """All harts sleep: move every clock to `tick`."""
        super().skip_to(tick)
        self._now, self._next = max(self._now, tick), None

    def _ask(self, function: OfHart, number: int, found: int) -> int:
        self.put()
        self.io.turn_found = found
        self.harts[number].call(function, self.io, number)
        return int(self.io.turn_found)

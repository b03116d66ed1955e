"""The deterministic schedule of a board's harts, as the machine around them sees it.

The turns themselves are machine.turns, which runs in native code with the native engine: Python looks in some hundred
times a second, and where a device or a person wants something.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, ClassVar, Protocol

from trapline.engine.api import Engine
from trapline.lang.control import EXIT_BREAK
from trapline.lang.devices import ASK_ARRIVED, ASK_DEVICES, ASK_LEFT, DeviceState
from trapline.lang.state import Hart
from trapline.machine.devices.clint import advance
from trapline.machine.turns import note_awake, note_event, take_turns, tick
from trapline.session.state.plain_types import Bits, Limits
from trapline.session.turns import NO_TICK, QUANTUM


class Board(Protocol):
    """What the schedule asks of the machine around the harts."""

    def devices_due(self) -> tuple[int | None, bool]:
        """Return the tick at which devices want to go on, and whether they have done much."""

    def resume_devices(self, index: int) -> None:
        """Give devices the turn that is due at the time of this hart."""

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

    snapshot_skips = ("engine", "io", "slice", "goal")  # not the machine's
    snapshot_types: ClassVar = {
        "_next": lambda schedule: Annotated[int, Limits(ge=0, lt=len(schedule.harts))] | None,
        **dict.fromkeys(("_now", "_until", "retired"), Bits(62)),
    }

    def __init__(
        self, harts: Sequence[Hart], engine: Engine, board: Board, slice_instructions: int, io: DeviceState
    ) -> None:
        self.harts = harts
        self.engine = engine
        self.board = board
        self.io = io
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

    def round(self, budget: int | None, latest: int | None = None, *, skips: bool = False) -> int:
        """Let each hart run up to the next common tick (not beyond `latest`); return the instructions retired.

        The native engine takes as many such rounds at once as there are in `slice`. With `skips` time passes between
        them where all harts sleep.
        """
        io, quantum = self.io, self.slice if len(self.harts) == 1 else QUANTUM
        io.turn_ticks = max(1, quantum // int(self.harts[0].time_ratio))
        io.turn_slice, io.turn_rounds = self.slice, max(1, self.slice // quantum)
        io.turn_latest = NO_TICK if latest is None else latest
        io.turn_skips = int(skips)
        # However long a round is, Python sees to Ctrl-C.
        most = 2 * max(self.slice, quantum * len(self.harts))
        io.turn_done, io.turn_budget = 0, most if budget is None else min(budget, most)
        self._put()
        try:
            self._call(take_turns)
        finally:
            self._get()
            self.retired += int(io.turn_done)
        return int(io.turn_done)

    def devices_changed(self) -> None:
        """Devices have other plans than when they were last asked."""
        due, tired = self.board.devices_due()
        self.io.turn_due, self.io.turn_tired = NO_TICK if due is None else due, int(tired)

    def _put(self) -> None:
        """Everything into the words of the turns."""
        io = self.io
        io.turn_now, io.turn_round, io.turn_next = self._now, self._until, 0 if self._next is None else self._next + 1
        for index, asleep in enumerate(self.asleep):
            io.turn_asleep[index] = int(asleep)
        io.turn_goal_of, io.turn_goal = (0, 0) if self.goal is None else (self.goal[0] + 1, self.goal[1])
        self.devices_changed()

    def _get(self) -> None:
        io = self.io
        self._now, self._until = int(io.turn_now), int(io.turn_round)
        self._next = int(io.turn_next) - 1 if io.turn_next != 0 else None
        for index in range(len(self.harts)):
            self.asleep[index] = io.turn_asleep[index] != 0
        if io.turn_goal_of == 0:
            self.goal = None

    def _call(self, function: Callable[..., None]) -> None:
        """Call what runs harts: in native code, unless somebody stands before the engine and looks at each run."""
        native = getattr(type(self.engine), "call_turns", None)
        if native is not None:
            native(self.engine, function, self.harts[0], self.io)
        else:
            function(self.harts[0], self.io)

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
        self.board.resume_devices(index)
        self.devices_changed()

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
    def _ask(self, function: Callable[..., Any], found: int) -> int:
        self._put()
        self.io.turn_found = found
        for index, hart in enumerate(self.harts):
            hart.call(function, self.io, index)
        return int(self.io.turn_found)

    def all_asleep(self) -> bool:
        """Return whether no hart can run before some event."""
        return all(self.asleep) and self._ask(note_awake, 0) == 0

    def next_deadline(self) -> int | None:
        """Return the earliest event of all harts: a timer, or a turn of devices."""
        found = self._ask(note_event, NO_TICK)
        return found if found != NO_TICK else None

    def skip_to(self, tick_: int) -> None:
        """All harts sleep: move every clock to `tick_`."""
        for index, hart in enumerate(self.harts):
            advance(hart, tick_)
            hart.call(tick, self.io, index)
        self._now, self._next = max(self._now, tick_), None

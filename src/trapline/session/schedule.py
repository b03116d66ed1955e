"""The deterministic schedule of a board's harts or a VM's vCPUs, as Python sees it.

The turns themselves (session.turns) run in native code with the native engine: Python looks in some hundred times a
second, and where a device or a person wants something. A round that a budget or a stop cuts short goes on where it was:
how a run is cut changes nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol

from trapline.engine.api import Engine
from trapline.lang.devices import DeviceState
from trapline.lang.state import Hart
from trapline.session.turns import NO_TICK, QUANTUM

_LOOK_SECONDS, _MOST_TIMES = 0.004, 16  # between looks of Python, each 30 to 100 us; times the usual attempts


class Stride:
    """How many times the usual attempts a run makes before Python looks where nothing waits for that."""

    times = 1

    def fit(self, seconds: float) -> None:
        """The last ones took so long: the next shall take neither a moment nor long."""
        if seconds < _LOOK_SECONDS:
            self.times = min(self.times * 2, _MOST_TIMES)
        elif seconds > 3 * _LOOK_SECONDS:
            self.times = max(self.times // 2, 1)


class Turns(Protocol):
    """Devices that have work for later."""

    due: int | None = None  # the tick at which they want to go on
    tired: bool = False  # they have done much since `tick` was last called

    def tick(self, now: int) -> bool:
        """Let them go on, if that is due; return whether limits should be looked at."""
        return False


class NoTurns(Turns):
    """Nothing is ever left for later."""


class Target(Protocol):
    """A board or a VM."""

    turns: Turns


class Rounds(ABC):
    """Has harts take turns by `loop` (session.turns), and speaks with it through the words of `io`.

    `open_round` is the hart whose turn it is in a round that was cut short, and the tick at which that round ends.
    """

    open_round: tuple[int, int] | None
    longer = 1  # times as many rounds before Python looks as there are in a run's attempts
    most = 2  # times these attempts, however long a round is

    def __init__(
        self, target: Target, harts: Sequence[Hart], io: DeviceState, loop: Callable[[Hart, DeviceState], None]
    ) -> None:
        self._target = target
        self.harts = harts
        self.io = io
        self.loop = loop

    def take(self, engine: Engine, attempts: int, alone: int, budget: int | None) -> int:
        """Let each hart run up to the next common tick, until Python has to look; return the attempts that were made.

        As many rounds are taken at once as there are in `attempts`; `longer` times as many where the budget is no
        smaller, as it is where a person looks on. One of a hart that is alone has `alone` attempts.
        """
        io, several = self.io, len(self.harts) > 1
        length = QUANTUM if several else alone
        io.turn_ticks = max(1, length // int(self.harts[0].time_ratio))
        rounds = max(1, attempts // length)
        if budget is None or budget >= attempts:
            rounds *= self.longer
        io.turn_slice, io.turn_rounds = attempts, rounds
        # However long a round is, Python sees to Ctrl-C.
        most = self.most * max(attempts, QUANTUM * len(self.harts) if several else 0)
        io.turn_done, io.turn_budget = 0, most if budget is None else min(budget, most)
        self.put()
        try:
            engine.call_turns(self.loop, self.harts[0], io)
        finally:
            self.get()
        return int(io.turn_done)

    def put(self) -> None:
        """Put what Python knows into the words."""
        next_, until = self.open_round or (-1, 0)
        self.io.turn_next, self.io.turn_round = next_ + 1, until
        self.note_devices()

    def get(self) -> None:
        """Take it out again."""
        next_, until = int(self.io.turn_next), int(self.io.turn_round)
        self.open_round = None if next_ == 0 else (next_ - 1, until)

    def note_devices(self) -> None:
        """Devices may have other plans than when they were last asked."""
        turns = self._target.turns
        self.io.turn_due, self.io.turn_tired = NO_TICK if turns.due is None else turns.due, int(turns.tired)

    def next_event(self) -> int | None:
        """Return the earliest tick at which something happens though all wait: a timer, or a turn of devices."""
        ticks = [tick for number in range(len(self.harts)) if (tick := self.event_of(number)) is not None]
        return min(ticks, default=None)

    def all_wait(self) -> bool:
        """Return whether no hart can run before some event."""
        return not any(map(self.can_run, range(len(self.harts))))

    def skip_to(self, tick: int) -> None:
        """All wait: move every clock to `tick`."""
        for number in range(len(self.harts)):
            self.pass_time(number, tick)

    @abstractmethod
    def can_run(self, number: int) -> bool:
        """Return whether a hart can run."""

    @abstractmethod
    def event_of(self, number: int) -> int | None:
        """Return the tick of a hart's next event, or of a turn of devices before that."""

    @abstractmethod
    def pass_time(self, number: int, tick: int) -> None:
        """Let the time of a hart that waits pass."""

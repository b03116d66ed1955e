"""One life for a run: what a board and a guest of a hypervisor have in common while they run.

A run ends once, for one reason. In between it looks at its limits, at what is typed and at the world outside, and the
monitor may hold it.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Generic, TypeVar

from trapline.lang.control import EXIT_STOP, leave
from trapline.lang.state import Hart
from trapline.people import grouped
from trapline.session.hooks import Hooked, Until
from trapline.session.observe.trap_counts import instructions_by_mode
from trapline.session.outside import Outside
from trapline.session.schedule import Stride
from trapline.session.terminal.console import Console
from trapline.session.terminal.later_monitor import LaterMonitor
from trapline.session.terminal.panic import PanicCheck
from trapline.session.terminal.sigint import on_ctrl_c

IDLE_STEP = 0.1  # seconds between looks at Ctrl-C while waiting for input

Ended = tuple[str, int, str]  # reason, code, message
Result = TypeVar("Result")


def limit_reached(done: int, most: int | None, seconds: float | None) -> str:
    """Say which limit ended a run that has made so many instructions."""
    if most is not None and done >= most:
        return f"the limit of {grouped(most)} instructions was reached"
    return f"the limit of {seconds} s was reached"


class Session(Hooked, ABC, Generic[Result]):
    """A board or a guest, from the first to the last instruction of a run."""

    harts: list[Hart]
    console: Console
    on_round: Callable[[], None] | None
    _outside: Outside
    _panic: PanicCheck
    _stride: Stride
    _ended: Ended | None
    _held_name: ClassVar[str]  # what the monitor holds
    _asking_name: ClassVar[str]  # who asks for a reset
    _user_modes: ClassVar[Sequence[str]]  # what a kernel that has panicked never returns to
    _running: bool

    def _begin(self, monitor: str, ratio: int) -> None:
        """Connect the console, with its monitor, and what looks for panics."""
        self._ended = None
        self.on_round = None  # called some hundred times a second while it runs
        self._stride = Stride()
        self.console.deliver = self._receive
        self.console.monitor = LaterMonitor(monitor, self, self.console.show)
        self._panic = PanicCheck(self.console.panic, self._user_instructions, self.position, ratio)

    @abstractmethod
    def position(self) -> tuple[int, int]:
        """Return where it is: instructions, ticks."""

    def interrupt(self, reason: str, message: str) -> None:
        """End the run after the instruction under way: from outside, or from the console."""
        self._end(reason, 0, message)
        for hart in self.harts:
            leave(hart, EXIT_STOP)

    def _user_instructions(self) -> int:
        found = [instructions_by_mode(hart) for hart in self.harts]
        return sum(by_mode[mode] for by_mode in found for mode in self._user_modes)

    def attend(self, look: Callable[[], None] | None) -> None:
        """Have a debugger called whenever the run looks outside: often while it runs, each 0.1 s while it idles."""
        self._outside.on_poll = look

    def show_to(self, look: Callable[[], None] | None) -> None:
        """Have somebody called at the same times who only looks on."""
        self._outside.on_watch = look

    def look(self) -> Ended | None:
        """Pass typed input on while nothing runs; return reason, code and message if the user ends the run."""
        self._ended = None
        self._receive()
        self._outside.watched()
        self.console.flush()
        self._time_stood_still()
        return self._ended

    def _end(self, reason: str, code: int, message: str, hart: Hart | None = None) -> None:
        """End the run, if nothing has yet; `hart` is the one that did it."""
        if self._ended is None:
            self._ended = (reason, code, message)

    @abstractmethod
    def _ending(self, code: int) -> str:
        """What it means that the program ends with a code."""

    def _finish(self, hart: Hart, code: int) -> None:
        self._told("exit", code, self._ending(code), hart)

    def _reset(self, hart: Hart) -> None:
        self._told("reset", 0, f"the {self._asking_name} asked for a reset", hart)

    def _told(self, reason: str, code: int, message: str, hart: Hart | None = None) -> None:
        """The program ends the run; after a panic of its kernel that is why."""
        if self._panic.panicked():
            self._end("panic", 1, self.console.panic.describe(), hart)
        self._end(reason, code, message, hart)

    def run(
        self,
        max_instructions: int | None = None,
        max_seconds: float | None = None,
        *,
        until: Until = None,
        limit: int | None = None,
    ) -> Result:
        """Run until the program ends, a limit is reached, or the user stops it; may be called again.

        `until` ends it, with the reason "stop", before an address or a symbol is executed, behind a text (bytes) on
        the console, or at a trap for which a function of `TakenTrap` returns True. `limit` is max_instructions.
        """
        most = self._limit(max_instructions, limit)
        with self._until(until):
            self._ended = None
            end_time = None if max_seconds is None else time.monotonic() + max_seconds
            self._prepare(end_time)
            self._running = True
            try:
                return self._result(*self._live(most, max_seconds, end_time))
            finally:
                self._running = False

    @abstractmethod
    def _prepare(self, end_time: float | None) -> None:
        """Before a run, which ends at a time of time.monotonic()."""

    @abstractmethod
    def _go(self, most: int | None) -> int:
        """Execute instructions for a while, and return how many."""

    @abstractmethod
    def _result(self, reason: str, code: int, message: str, instructions: int) -> Result:
        """Return how the run has ended."""

    def _live(
        self, max_instructions: int | None, max_seconds: float | None, end_time: float | None
    ) -> tuple[str, int, str, int]:
        """Run until something ends it; return reason, code, message and the instructions."""
        done = 0
        try:
            with on_ctrl_c(lambda: self._end("interrupted", 130, "Ctrl-C")):
                while self._ended is None:
                    left = None if max_instructions is None else max_instructions - done
                    if left is not None and left <= 0:
                        self._end("limit", 0, limit_reached(done, done + left, None))
                    elif end_time is not None and time.monotonic() >= end_time:
                        self._end("limit", 0, limit_reached(done, None, max_seconds))
                    elif self.console.held:
                        self._hold()
                    else:
                        done += self._go(left)
        finally:
            self.console.flush()
        return *self._ended, done

    def _is_alone(self) -> bool:
        """Whether nobody may type or send, and nobody is called (`on_round`), between two pieces of a run."""
        return not self._outside.live and self.on_round is None

    def _look_outside(self) -> None:
        """Between two pieces of a run: who looks on, what is typed or comes in, whether its kernel has panicked."""
        if self.on_round is not None:
            self.on_round()
        self.console.flush()
        self._receive()
        self._outside.poll()
        if self._panic.spins():
            self._end("panic", 1, self.console.panic.describe())

    def _hold(self) -> None:
        """The monitor holds it: time stands still."""
        self._outside.poll()
        if not self._receive() and not self.console.wait(IDLE_STEP):
            self._end("stuck", 1, f"the monitor holds the {self._held_name}, and nobody can type cont")
        self._time_stood_still()

    def _time_stood_still(self) -> None:
        """Real time has passed in which nothing ran."""

    def _receive(self) -> bool:
        """Pass typed bytes on; return whether there were any."""
        data = self.console.poll(self.position(), self._unread())
        if self.console.quit_requested:
            self._end("quit", 0, self.console.quit_how)
        if self.console.reset_requested:
            self.console.reset_requested = False
            self._end("restart", 0, "system_reset")
        if data:
            self._take_typed(data)
        return bool(data)

    @abstractmethod
    def _unread(self) -> int:
        """How many typed bytes the program has yet to read."""

    @abstractmethod
    def _take_typed(self, data: bytes) -> None:
        """Give typed bytes to the program's console device."""

    def _stop_at_text(self, text: bytes) -> None:
        self.interrupt("stop", f"the console shows {text.decode(errors='backslashreplace')!r}")

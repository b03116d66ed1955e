"""The user's side of the serial port: a terminal in raw mode, a pipe, or a script.

An input source says which bytes have arrived; every arrival is logged with the hart's position
(instructions retired, ticks), so that a session replays exactly.
"""

from __future__ import annotations

import contextlib
import os
import select
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from trapline.dataclass import dataclass
from trapline.session.terminal.aside import Aside
from trapline.session.terminal.console_texts import Watched
from trapline.session.terminal.panic import PanicWatch
from trapline.session.terminal.sigint import on_death, on_stop
from trapline.session.terminal.terminal_guard import guarded

if TYPE_CHECKING:
    from trapline.session.state.kept_state import KeptState
    from trapline.session.terminal.later_monitor import LaterMonitor

CTRL_A = 0x01
MOST_UNREAD = 64 << 10  # bytes of input that wait for the machine
MOST_LOGGED = 16 << 20  # bytes of input that the log holds
_MOST_OUT = 64 << 10  # bytes that go out at a time
HELP = (
    b"\r\nCtrl-A x  end the run\r\nCtrl-A c  switch between the guest's console and the monitor\r\n"
    b"Ctrl-A l  the live view, and back\r\nCtrl-A Ctrl-A  send Ctrl-A\r\nCtrl-A h  this help\r\n"
)
Position = tuple[int, int]  # instructions retired, ticks


class InputSource(Protocol):
    """Where typed bytes come from."""

    keyboard: bool  # a person's terminal: Ctrl-A is understood
    live: bool  # someone may still write: an idle machine waits for real

    def poll(self, position: Position) -> bytes:
        """Return what has arrived by now, without waiting."""
        ...

    def wait(self, seconds: float | None) -> bool:
        """Wait for input, for at most `seconds`; return whether more can ever come."""
        ...

    def next_position(self) -> Position | None:
        """Return the position at which the next bytes are due, if that is known."""
        ...

    def on_output(self, data: bytes) -> bool:
        """The guest wrote `data`; return whether that makes input due at once."""
        ...


class NoInput:
    """Nothing is ever typed."""

    keyboard = False
    live = False

    def poll(self, position: Position) -> bytes:
        """Return nothing."""
        return b""

    def wait(self, seconds: float | None) -> bool:
        """Return that nothing comes."""
        return False

    def next_position(self) -> Position | None:
        """Return that nothing is due."""
        return None

    def on_output(self, data: bytes) -> bool:
        """Ignore it."""
        return False


class Replay(NoInput):
    """Bytes at recorded positions: the log of an earlier session, or a schedule made by hand."""

    def __init__(self, events: Sequence[tuple[Position, bytes]]) -> None:
        self._events = list(events)

    def poll(self, position: Position) -> bytes:
        """Return the bytes that were due up to `position`."""
        data = b""
        while self._events and position >= self._events[0][0]:
            data += self._events.pop(0)[1]
        return data

    def next_position(self) -> Position | None:
        """Return the next recorded position."""
        return self._events[0][0] if self._events else None


class Script(NoInput):
    """Answers to prompts: each (expected, answer) pair sends `answer` once the guest has written `expected`."""

    def __init__(self, steps: Sequence[tuple[bytes, bytes]]) -> None:
        self._steps = list(steps)
        self._seen = b""
        self._due = b""

    @property
    def finished(self) -> bool:
        """Whether every expected text has appeared."""
        return not self._steps

    def on_output(self, data: bytes) -> bool:
        """Match the output so far against the next prompt."""
        self._seen += data
        while self._steps and (at := self._seen.find(self._steps[0][0])) >= 0:
            expected, answer = self._steps.pop(0)
            self._seen = self._seen[at + len(expected) :]
            self._due += answer
        return bool(self._due)

    def poll(self, position: Position) -> bytes:
        """Return the answers whose prompts have appeared."""
        data, self._due = self._due, b""
        return data

    def wait(self, seconds: float | None) -> bool:
        """Return whether an answer is waiting to be read."""
        return bool(self._due)


class Again(NoInput):
    """Input that came before, at the same positions, and then what still comes from where it came."""

    def __init__(self, events: Sequence[tuple[Position, bytes]], source: InputSource) -> None:
        self.left, self.source = list(events), source
        self.keyboard, self.live = source.keyboard, source.live

    def poll(self, position: Position) -> bytes:
        """Return what had arrived up to `position`; behind the last of it, what arrives."""
        if not self.left:
            return self.source.poll(position)
        data = b""
        while self.left and position >= self.left[0][0]:
            data += self.left.pop(0)[1]
        return data

    def wait(self, seconds: float | None) -> bool:
        """Wait for new input, if nothing old is left."""
        return bool(self.left) or self.source.wait(seconds)

    def next_position(self) -> Position | None:
        """Return where the next bytes came."""
        return self.left[0][0] if self.left else self.source.next_position()

    def on_output(self, data: bytes) -> bool:
        """Tell the source."""
        return self.source.on_output(data)


@dataclass(frozen=True, slots=True)
class ConsoleMark:
    """A place in a console's session: bytes written and input logged up to there, and what follows from them."""

    written: int
    events: int
    logged: int
    unfinished: bytes
    source: KeptState


class FileInput(NoInput):
    """A file descriptor: terminal, pipe or file.

    Behind an open pipe is a program that answers in its own time, as a person does: it is live until its end.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._ended = False
        self.keyboard = os.isatty(descriptor)
        kind = os.fstat(descriptor).st_mode
        self.live = self.keyboard or stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind)

    def poll(self, position: Position) -> bytes:
        """Read what is there."""
        if self._ended or not self._ready(0):
            return b""
        data = os.read(self.descriptor, 4096)
        if not data:
            self._end()
        return data

    def wait(self, seconds: float | None) -> bool:
        """Wait for input; at the end of a file no more comes."""
        if not self._ended:
            self._ready(seconds)
        return not self._ended

    def _ready(self, seconds: float | None) -> bool:
        try:
            return bool(select.select([self.descriptor], [], [], seconds)[0])
        except (OSError, ValueError):
            self._end()
            return False

    def _end(self) -> None:
        self._ended, self.live = True, False


READER_GONE = "nobody reads the console any more"


class Console:
    """Joins an input source and an output sink, and understands Ctrl-A where a person types."""

    def __init__(
        self,
        output: Callable[[bytes], Any] | None = None,
        source: InputSource | None = None,
        *,
        escape: bool | None = None,
    ) -> None:
        self._output = output or (lambda data: None)
        self.source: InputSource = source or NoInput()
        self._escape = self.source.keyboard if escape is None else escape
        self._after_escape = False
        self._buffer = bytearray()
        self.log: list[tuple[Position, bytes]] = []  # of the first MOST_LOGGED bytes
        self._logged = 0
        self._written = self._shown = 0  # bytes that the guest has written, and up to where they have been shown
        self._full = False
        self.quit_requested = self.reset_requested = False
        self.on_stderr = False  # whether the output goes to standard error
        self.unfinished = b""  # what the guest has written since its last newline, of a long line the end
        self.lost = ""  # why the rest of the guest's output could not be handed on
        self._reader_gone = False
        self._told: list[Watched] = []
        self.monitor: LaterMonitor | None = None
        self._in_monitor = False
        self.aside: Aside | None = None  # while another program has the terminal
        self.on_live: Callable[[], object] | None = None  # opens the live view
        self.raw_again: Callable[[], object] = lambda: None  # gives the terminal its mode again
        self.on_death: Callable[[], object] = lambda: None  # a signal ends the process
        self.panic = PanicWatch()
        self.deliver: Callable[[], object] | None = None  # called when output makes input due at once

    def write(self, data: bytes) -> None:
        """The guest transmits; lines go out at once, the rest at the next `flush`."""
        self._buffer += data
        if data[-1:] == b"\n" or len(self._buffer) >= 4096:
            self.flush()
        for watched in tuple(self._told):
            watched.feed(data)
        if self.source.on_output(data) and self.deliver is not None:
            self.deliver()

    def flush(self) -> None:
        """Hand on what the guest has transmitted."""
        if self._buffer:
            data, self._buffer = bytes(self._buffer), bytearray()
            for at in range(0, len(data), _MOST_OUT):
                self.panic.feed(data[at : at + _MOST_OUT])
            known = max(0, self._shown - self._written)
            self._written += len(data)
            self._hand_on(data, known)

    def tell(self, owner: Any, text: bytes, function: Callable[[Any], object], stop: Callable[[], object]) -> None:
        """Call a function whenever the guest has written a text, and `stop` if it returns True."""
        if not text:
            raise ValueError("an empty text is always there: name one")
        self._told.append(Watched(owner, text, function, stop))

    def forget(self, owner: Any) -> None:
        """Call what an owner asked for no more."""
        self._told = [watched for watched in self._told if watched.owner is not owner]

    def _hand_on(self, data: bytes, known: int = 0) -> None:
        """Write to the sink what is not `known`; without a reader the run ends, with a full disk it goes on unseen."""
        if self.lost:
            return
        self.unfinished = (self.unfinished + data).rpartition(b"\n")[2][-_MOST_OUT:]
        if self.aside is not None:
            self.aside.keep(data[known:])
            return
        try:
            if known < len(data):
                self._output(data[known:])
        except OSError as error:
            self.lost = error.strerror or str(error)
            if isinstance(error, BrokenPipeError):
                self._reader_gone = self.quit_requested = True

    # --- checkpoints ---
    def mark(self) -> ConsoleMark:
        """Where the session is now."""
        self.flush()
        source = self.source.source if isinstance(self.source, Again) else self.source
        kept = () if isinstance(source, FileInput) else (source,)
        from trapline.session.state.kept_state import KeptState  # not part of every start

        return ConsoleMark(self._written, len(self.log), self._logged, self.unfinished, KeptState(kept, (), ()))

    def go_back(self, mark: ConsoleMark, *, quiet: bool) -> None:
        """Begin again at a mark: what came from outside after it comes again; `quiet`: what was shown is not shown."""
        self.flush()
        self._shown = max(self._shown, self._written) if quiet else 0
        for watched in self._told:
            watched.restart()
        self._written, self._logged, self.unfinished = mark.written, mark.logged, mark.unfinished
        source: InputSource = self.source
        left = self.log[mark.events :]
        del self.log[mark.events :]
        if isinstance(source, Again):
            left = left + source.left
            source = source.source
        mark.source.put_back()
        self.source = Again(left, source) if left and isinstance(source, FileInput) else source

    @property
    def held(self) -> bool:
        """Whether the monitor holds the machine."""
        return self.monitor is not None and self.monitor.stopped

    @property
    def quit_how(self) -> str:
        """What ended the run."""
        if self._reader_gone:
            return READER_GONE
        return "in the monitor" if self.monitor is not None and self.monitor.quit_requested else "Ctrl-A x"

    def show(self, data: bytes) -> None:
        """Write what is not the guest's."""
        self.flush()
        self._hand_on(data)

    def again(self, line: bytes) -> None:
        """Show once more what is on the screen already: not new output of the guest's."""
        with contextlib.suppress(OSError):
            self._output(line)

    def poll(self, position: Position, unread: int = 0) -> bytes:
        """Return input that has arrived for a guest, which has left so many bytes unread.

        With too many a file or pipe waits; what a person types then is lost, but for Ctrl-A.
        """
        if self.aside is not None:
            return b""
        self._full = unread >= MOST_UNREAD and self.source.next_position() is None
        if self._full and not self._escape:
            return b""
        data = self.source.poll(position)
        if data and self._escape:
            data = self._filter(data)
        if self._full:
            return b""
        if data and self._logged < MOST_LOGGED:
            self._logged += len(data)
            self.log.append((position, data))
        return data

    def wait(self, seconds: float | None) -> bool:
        """Sleep until input arrives; return whether any can still come."""
        self.flush()
        if self.aside is not None:
            return self.aside.wait(seconds)
        if self._full and not self._escape:
            time.sleep(seconds or 0)  # there is input, and nobody who takes it
            return self.source.live
        return self.source.wait(seconds)

    def _filter(self, data: bytes) -> bytes:
        passed = bytearray()
        for byte in data:
            if not self._after_escape:
                if byte == CTRL_A:
                    self._after_escape = True
                elif self.aside is not None:
                    self._behind_live(byte)
                elif self._in_monitor:
                    self._command(byte)
                else:
                    passed.append(byte)
                continue
            self._after_escape = False
            if byte in b"xX":
                self.quit_requested = True
            elif byte in b"cC" and self.monitor is not None:
                self._switch(self.monitor)
            elif byte in b"lL" and self.on_live is not None:
                self.on_live()
            elif byte == CTRL_A:
                passed.append(CTRL_A)
            else:
                self.show(HELP)
        return bytes(passed)

    def escape_typed(self) -> None:
        """The live view has read a Ctrl-A whose second key is still to come."""
        self._after_escape = True

    def _behind_live(self, byte: int) -> None:
        """A key that came in one piece with what opened the live view is for the view: q closes it again."""
        if byte in b"qQ" and self.on_live is not None:
            self.on_live()

    def _switch(self, monitor: LaterMonitor) -> None:
        self._in_monitor = not self._in_monitor
        self.show(b"\r\n" if self._in_monitor else b"\r\n[the guest's console]\r\n")
        if self._in_monitor:
            monitor.prompt()

    def _command(self, byte: int) -> None:
        if self.monitor is not None:
            self.monitor.type(bytes((byte,)))
            self.quit_requested = self.quit_requested or self.monitor.quit_requested
            self.reset_requested = self.reset_requested or self.monitor.reset_requested


@contextlib.contextmanager
def terminal(descriptor: int | None = None) -> Iterator[Console]:
    """The process's own terminal (or pipe) as a console; raw mode ends with the block, whatever happens."""
    fd = _stdin() if descriptor is None else descriptor
    console = Console(_to_stdout, FileInput(fd) if fd is not None else NoInput())
    if fd is None or not os.isatty(fd):
        yield console
        return
    import termios

    saved = termios.tcgetattr(fd)
    mode = _raw(saved)

    def leave() -> None:
        termios.tcsetattr(fd, termios.TCSANOW, saved)

    def die() -> None:
        console.on_death()
        leave()

    def enter() -> None:
        with contextlib.suppress(OSError):
            if os.tcgetpgrp(fd) != os.getpgrp():
                return  # in the background: the terminal is another one's
        termios.tcsetattr(fd, termios.TCSANOW, mode)

    console.raw_again = enter
    with guarded(fd, saved, mode), on_death(die), on_stop(leave, enter):
        try:
            termios.tcsetattr(fd, termios.TCSAFLUSH, mode)
            yield console
        finally:
            console.flush()
            termios.tcsetattr(fd, termios.TCSADRAIN, saved)


def _raw(mode: list[Any]) -> list[Any]:
    """Return a terminal's mode with raw input; output keeps its processing: "\n" still returns the carriage."""
    import termios

    iflag, oflag, cflag, lflag, *speeds, characters = mode
    iflag &= ~(termios.BRKINT | termios.ICRNL | termios.INPCK | termios.ISTRIP | termios.IXON)
    cflag = cflag & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    lflag &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN | termios.ISIG)
    characters = list(characters)
    characters[termios.VMIN], characters[termios.VTIME] = 1, 0
    return [iflag, oflag, cflag, lflag, *speeds, characters]


def _stdin() -> int | None:
    try:
        return sys.stdin.fileno()
    except (AttributeError, OSError, ValueError):
        return None


def _to_stdout(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()

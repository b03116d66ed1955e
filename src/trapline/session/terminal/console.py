"""The user's side of the serial port: a terminal in raw mode, a pipe, or a script.

An input source says which bytes have arrived; every arrival is logged with the hart's position
(instructions retired, ticks), so that a session replays exactly.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from trapline.dataclass import dataclass
from trapline.session.terminal.aside import Aside
from trapline.session.terminal.panic import PanicWatch
from trapline.session.terminal.sigint import on_death, on_stop
from trapline.session.terminal.sources import Again, FileInput, InputSource, NoInput, Position, listens
from trapline.session.terminal.terminal_guard import guarded

if TYPE_CHECKING:
    from trapline.session.state.kept_state import KeptState
    from trapline.session.terminal.console_texts import Watched
    from trapline.session.terminal.later_monitor import LaterMonitor

CTRL_A = 0x01
MOST_UNREAD = 64 << 10  # bytes of input that wait for the machine
MOST_LOGGED = 16 << 20  # bytes of input that the log holds
_MOST_OUT = 64 << 10  # bytes that go out at a time
HELP = (
    b"\r\nCtrl-A x  end the run\r\nCtrl-A c  switch between the guest's console and the monitor\r\n"
    b"Ctrl-A l  the live view, and back\r\nCtrl-A Ctrl-A  send Ctrl-A\r\nCtrl-A h  this help\r\n"
)


class Line(Protocol):
    """A serial port that may hold what the guest has transmitted."""

    def hold(self, *, lines: bool) -> None:
        """Hand on whole lines, or each byte at once."""

    def drain(self) -> None:
        """Hand on what is held."""


@dataclass(frozen=True, slots=True)
class ConsoleMark:
    """A place in a console's session: bytes written and input logged up to there, and what follows from them."""

    written: int
    events: int
    logged: int
    unfinished: bytes
    source: KeptState


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
        self._line: Line | None = None
        self._told: list[Watched] = []
        self.source = source or NoInput()
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
        self.monitor: LaterMonitor | None = None
        self._in_monitor = False
        self.aside: Aside | None = None  # while another program has the terminal
        self.on_live: Callable[[], object] | None = None  # opens the live view
        self.raw_again: Callable[[], object] = lambda: None  # gives the terminal its mode again
        self.on_death: Callable[[], object] = lambda: None  # a signal ends the process
        self.panic = PanicWatch()
        self.deliver: Callable[[], object] | None = None  # called when output makes input due at once

    @property
    def source(self) -> InputSource:
        """Where typed bytes come from."""
        return self._source

    @source.setter
    def source(self, source: InputSource) -> None:
        self._source = source
        self._listen()

    def connect(self, line: Line) -> None:
        """Take a serial port's output, by lines where nobody waits for each byte."""
        self._line = line
        self._listen()

    def _listen(self) -> None:
        if self._line is not None:
            self._line.drain()
            self._line.hold(lines=not self._told and not listens(self._source))

    def write(self, data: bytes) -> None:
        """The guest transmits; lines go out at once, the rest at the next `flush`."""
        if self._line is not None:
            self._line.drain()
        self._buffer += data
        if data[-1:] == b"\n" or len(self._buffer) >= 4096:
            self.flush()
        for watched in tuple(self._told):
            watched.feed(data)
        if self.source.on_output(data) and self.deliver is not None:
            self.deliver()

    def flush(self) -> None:
        """Hand on what the guest has transmitted."""
        if self._line is not None:
            self._line.drain()
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
        from trapline.session.terminal.console_texts import Watched  # not part of every start

        self._told.append(Watched(owner, text, function, stop))
        self._listen()

    def forget(self, owner: Any) -> None:
        """Call what an owner asked for no more."""
        self._told = [watched for watched in self._told if watched.owner is not owner]
        self._listen()

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

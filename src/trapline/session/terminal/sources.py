"""Where typed bytes come from: nothing, a terminal or pipe, recorded positions, or answers to what the guest writes."""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Sequence
from typing import Protocol

Position = tuple[int, int]  # instructions retired, ticks


class InputSource(Protocol):
    """Where typed bytes come from."""

    keyboard: bool  # a person's terminal: Ctrl-A is understood
    live: bool  # someone may still write: an idle machine waits for real

    def poll(self, position: Position) -> bytes:
        """Return what has arrived by now, without waiting."""

    def wait(self, seconds: float | None) -> bool:
        """Wait for input, for at most `seconds`; return whether more can ever come."""

    def next_position(self) -> Position | None:
        """Return the position at which the next bytes are due, if that is known."""

    def on_output(self, data: bytes) -> bool:
        """The guest wrote `data`; return whether that makes input due at once.

        It gets each byte when it is written, unless the source says that it does not listen (`listens`).
        """


def listens(source: InputSource) -> bool:
    """Whether a source wants to see each byte of output when it is written."""
    return bool(getattr(source, "listens", True))


class NoInput:
    """Nothing is ever typed."""

    keyboard = False
    live = False
    listens = False  # whether `on_output` must see each byte when it is written

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
        self.listens = True
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
        self.listens = listens(source)

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

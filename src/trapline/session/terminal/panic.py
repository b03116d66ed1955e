"""Noticing on a console that a Linux kernel has panicked (kernel/panic.c, Linux 6.12).

vpanic() prints "Kernel panic - not syncing: WHY"; without panic= it prints "---[ end Kernel panic - not syncing: WHY
]---" at last and then spins for ever, with interrupts on and every other hart stopped. A program can print the same
text, but then user code runs on: whoever asks must check that none did.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from trapline.session.state.plain_types import U64

_SEEN, _ENDED = b"Kernel panic - not syncing: ", b"---[ end Kernel panic - not syncing"
_LONGEST = 1024  # bytes of a line that are looked at
_REMEDIES = {
    "VFS: Unable to mount root fs": "give it an initramfs with --initrd FILE, or a disk and root=",
    "No working init found": "the initramfs or disk has no init that runs here",
    "Requested init": "the command line names an init that does not run here",
    "Attempted to kill init": "its first process ended",
}


class PanicWatch:
    """Reads what a kernel writes to its console, line by line."""

    snapshot_types: ClassVar = {"message": str, "_line": bytes}

    def __init__(self) -> None:
        self.message = ""  # what the kernel said, empty if there was no panic
        self.ended = False  # its last words are out: it spins now
        self.on_seen: Callable[[], object] = lambda: None
        self._line = b""

    def feed(self, data: bytes) -> None:
        """The guest wrote these bytes."""
        *lines, rest = (self._line + data).split(b"\n")
        self._line = rest[-_LONGEST:]
        for line in lines:
            if _SEEN not in line and not self.message:
                continue
            if _ENDED in line:
                self.ended = bool(self.message)
            elif _SEEN in line:
                self.message = line.partition(_SEEN)[2].strip().decode("latin-1")
                self.ended = False
                self.on_seen()

    def forget(self) -> None:
        """It was no panic: user code went on."""
        self.message, self.ended = "", False

    def describe(self) -> str:
        """Return one line about it, with what to do if that is known."""
        remedy = next((text for begin, text in _REMEDIES.items() if self.message.startswith(begin)), "")
        return f"the kernel panicked: {self.message}" + (f" ({remedy})" if remedy else "")


class PanicCheck:
    """Whether a panic on the console is one: no user code since, and a hart that spins rather than sleeps.

    `user()` counts instructions of the modes that a panicked kernel never returns to; `position()` is (instructions,
    ticks).
    """

    SPIN = 2_000_000  # instructions behind the last words
    snapshot_skips = ("_ratio",)
    snapshot_types: ClassVar = {"_since": tuple[U64, U64] | None}

    def __init__(
        self, watch: PanicWatch, user: Callable[[], int], position: Callable[[], tuple[int, int]], ratio: int
    ) -> None:
        self.watch, self._user, self._position, self._ratio = watch, user, position, ratio
        self._user_then = 0
        self._since: tuple[int, int] | None = None
        watch.forget()
        watch.on_seen = self._seen

    def _seen(self) -> None:
        self._user_then, self._since = self._user(), None

    def panicked(self) -> bool:
        """Return whether the console showed a panic and no user code has run since."""
        if self.watch.message and self._user() != self._user_then:
            self.watch.forget()
        return bool(self.watch.message)

    def spins(self) -> bool:
        """Return whether a panicked kernel does nothing any more."""
        if not self.watch.ended or not self.panicked():
            return False
        now = self._position()
        if self._since is None:
            self._since = now
            return False
        done, ticks = now[0] - self._since[0], now[1] - self._since[1]
        if ticks * self._ratio > 2 * done + 1_000_000:
            # It sleeps in between: an idle kernel, whose console showed somebody else's words.
            self._since = now
            return False
        return done >= self.SPIN

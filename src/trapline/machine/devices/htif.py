"""Host-target interface: how bare test programs print and exit (the `tohost`/`fromhost` words of riscv-tests).

A command is one 64-bit word: device in bits 63..56, command in 55..48, payload below. Device 0 is
the system-call proxy (an odd payload is an exit code), device 1 the console.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterable
from typing import ClassVar

from trapline.lang.given import whole
from trapline.lang.state import Hart
from trapline.lang.state.words import WATCHER
from trapline.session.regions import Regions
from trapline.session.state.plain_types import U8, U64

PAGE = 4096
SYS_WRITE, SYS_EXIT = 64, 93
_MOST = 1 << 20  # bytes of a write; the program is told how many were taken
_LONELY_HALF = 1000  # instructions after which a lone 32-bit store counts as the whole command


class Htif:
    """Serves the commands; `watch` makes every store to `tohost` known to it, `poll` works without that.

    `refuse` ends the run of a program that asks for what is not served, and gets a line that names it. `later` is
    called when something is left for the next `poll` (`waits`).
    """

    snapshot_skips = ("tohost", "fromhost", "_page")
    snapshot_types: ClassVar = {"_half_since": U64 | None, "_typed": deque[U8]}

    def __init__(
        self,
        regions: Regions,
        tohost: int,
        fromhost: int | None,
        finish: Callable[[Hart, int], None],
        output: Callable[[bytes], None],
        typed: deque[int] | None = None,
        *,
        refuse: Callable[[Hart, str], None],
        later: Callable[[], None] = lambda: None,
    ) -> None:
        whole("tohost", tohost)
        whole("fromhost", 0 if fromhost is None else fromhost)
        if tohost % 8 or (fromhost or 0) % 8:
            raise ValueError(f"tohost {tohost:#x} and fromhost {fromhost or 0:#x} must be aligned to 8 bytes")
        self._regions, self.tohost, self.fromhost = regions, tohost, fromhost
        self._finish, self._output, self._refuse, self._later = finish, output, refuse, later
        self._typed = deque() if typed is None else typed
        self._page = tohost & -PAGE
        self._memory = regions.view(self._page, PAGE)
        self._half_since: int | None = None
        self._waiting_read = False
        self.watched = False

    def watch(self, harts: Iterable[Hart]) -> None:
        """Be told of every store to tohost, so that a command is served at once."""
        for hart in harts:
            hart.watch_base, hart.watch_end = self.tohost, self.tohost + 8
            hart.devices[WATCHER] = self
        self.watched = True

    def store(self, hart: Hart, offset: int, size: int, value: int) -> None:
        """The word is RAM and already written; a store that completes it is a command."""
        at = offset if offset < 1 << 63 else 0
        if (at, size) in ((0, 8), (4, 4)):
            self._serve(hart)
        elif 0 <= at < 8:
            # The low half: the high half follows, unless the program is one that stores only this half.
            if at == 0 and self._half_since is not None:
                self._serve(hart)
            else:
                self._half_since = int(hart.instret)
                self._later()

    @property
    def waits(self) -> bool:
        """Whether `poll` may have something to do."""
        return not self.watched or self._waiting_read or self._half_since is not None

    def poll(self, hart: Hart) -> None:
        """Between slices: serve a lone half, or, where nobody watches, any command."""
        if self._waiting_read:
            self._answer_read()
        lonely = self._half_since is not None and int(hart.instret) - self._half_since >= _LONELY_HALF
        if lonely or not self.watched:
            self._serve(hart)

    def _serve(self, hart: Hart) -> None:
        self._half_since = None
        at = self.tohost - self._page
        command = int.from_bytes(self._memory[at : at + 8], "little")
        if command == 0:
            return
        device, action, payload = command >> 56, command >> 48 & 0xFF, command & (1 << 48) - 1
        if (device, action) == (0, 0) and payload & 1:
            self._finish(hart, payload >> 1)
            return
        self._regions.view(self.tohost, 8, write=True)[:] = bytes(8)
        match device, action:
            case 0, 0:
                self._system_call(hart, payload)
                self._respond(1)
            case 1, 0:
                self._waiting_read = True
                self._answer_read()
                if self._waiting_read:
                    self._later()
            case 1, 1:
                self._output(bytes((payload & 0xFF,)))
            case _:
                self._refuse(hart, f"tohost command {command:#018x}: no device {device} with command {action}")

    def _system_call(self, hart: Hart, block: int) -> None:
        try:
            number, a0, a1, a2 = struct.unpack("<4Q", self._regions.read(block, 32))
        except ValueError as error:
            self._refuse(hart, f"tohost system call with arguments outside memory: {error}")
            return
        if number == SYS_EXIT:
            self._finish(hart, a0 & 0xFF)
            return
        if number != SYS_WRITE:
            self._refuse(hart, f"tohost system call {number} is not served (write 64 and exit 93 are)")
            return
        try:
            data = self._regions.read(a1, min(a2, _MOST))
            result = len(data) if a0 in (1, 2) else -9  # EBADF
        except ValueError:
            data, result = b"", -14  # EFAULT
        if result > 0:
            self._output(data)
        self._regions.write(block, struct.pack("<q", result))

    def _answer_read(self) -> None:
        if self._typed:
            self._waiting_read = False
            self._respond(1 << 56 | 0x100 | self._typed.popleft())

    def _respond(self, value: int) -> None:
        if self.fromhost is not None:
            self._regions.write(self.fromhost, value.to_bytes(8, "little"))

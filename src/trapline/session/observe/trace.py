"""Reading the rings of engine.observe.trace, and records of what is in them."""

from __future__ import annotations

import ctypes
import mmap
import struct
from collections.abc import Iterator, Sequence

from trapline.dataclass import dataclass
from trapline.engine.observe import trace as layout
from trapline.lang.host_pages import anonymous
from trapline.lang.state import Hart
from trapline.privilege.derived import update_derived
from trapline.privilege.modes import DESTINATION_NAMES, MODE_NAMES

_ENTRY = struct.Struct("<8Q")
_RING = 1 << 17  # entries; a hart comes back when half of them are unread
MOST_LAST = 1 << 24


@dataclass(frozen=True, slots=True)
class Traced:
    """A trap to `level` from `mode`, or a return of `level` to `mode`; `epc` of a return is where it goes on."""

    hart: int
    returns: bool
    instret: int
    level: str
    mode: str
    cause: int
    epc: int
    tval: int
    tval2: int
    a0: int = 0  # what a call asks for: a0 and the low words of a6 and a7; of a return a0 and a1
    a1: int = 0
    a6: int = 0
    a7: int = 0


class TraceRing:
    """The ring of one hart."""

    def __init__(self, hart: Hart, number: int, entries: int, enough: int) -> None:
        self._block: mmap.mmap = anonymous(layout.ENTRIES + entries * layout.ENTRY_BYTES)
        self._words = memoryview(self._block)[: layout.ENTRIES].cast("Q")
        self._hart, self._number, self._entries = hart, number, entries
        self._words[layout.MASK // 8], self._words[layout.ENOUGH // 8] = entries - 1, enough
        hart.trace_base = ctypes.addressof(ctypes.c_char.from_buffer(self._block))
        hart.call(update_derived)

    def end(self) -> None:
        """Write no more."""
        self._hart.trace_base = 0
        self._hart.call(update_derived)

    def take(self) -> tuple[bytes, int]:
        """Return the entries that are unread, oldest first, and how many were overwritten before they could be."""
        count, read = self._words[layout.COUNT // 8], self._words[layout.READ // 8]
        lost = max(0, count - read - self._entries)
        first, size = (read + lost) % self._entries, count - read - lost
        self._words[layout.READ // 8] = count
        start = layout.ENTRIES + first * layout.ENTRY_BYTES
        part = min(size, self._entries - first)
        data = self._block[start : start + part * layout.ENTRY_BYTES]
        return data + self._block[layout.ENTRIES : layout.ENTRIES + (size - part) * layout.ENTRY_BYTES], lost


class Tracer:
    """The rings of some harts: everything (`last` None), or the last traps and returns of each alone.

    `entries` is what a ring for everything holds, a power of two; a hart comes back to be read when it is half full.
    """

    def __init__(self, harts: Sequence[Hart], last: int | None = None, entries: int = _RING) -> None:
        self.last, self.lost = last, 0
        entries, enough = (entries, entries // 2) if last is None else (1 << max(1, last - 1).bit_length(), 0)
        self._rings = [TraceRing(hart, number, entries, enough) for number, hart in enumerate(harts)]

    def take(self) -> list[tuple[int, bytes]]:
        """What has come since, by hart; with `last`, what is left of the end."""
        found = []
        for number, ring in enumerate(self._rings):
            data, lost = ring.take()
            if self.last is None:
                self.lost += lost
            else:
                data = data[-self.last * layout.ENTRY_BYTES :]
            if data:
                found.append((number, data))
        return found

    def end(self) -> None:
        """Trace no more."""
        for ring in self._rings:
            ring.end()


def records(hart: int, data: bytes) -> Iterator[Traced]:
    """Read entries."""
    for what, instret, cause, epc, tval, tval2, a0, asked in _ENTRY.iter_unpack(data):
        level, mode, returns = DESTINATION_NAMES[what >> 8 & 3], MODE_NAMES.get(what & 7, "?"), bool(what >> 16)
        a1, tval2 = (tval2, 0) if returns else (0, tval2)
        calls = a0, a1, asked >> 32, asked & 0xFFFF_FFFF
        yield Traced(hart, returns, instret, level, mode, cause, epc, tval, tval2, *calls)

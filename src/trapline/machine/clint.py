"""Core-local interruptor: software interrupts, mtimecmp, mtime (SiFive CLINT; ACLINT spec, MSWI and MTIMER).

Time is not a counter of its own: mtime is what the reading hart's time CSR shows, so that it
follows the instruction count.
"""

from __future__ import annotations

from collections.abc import Sequence

from trapline.lang.control import EXIT_TIMER, leave
from trapline.lang.state import LAYOUT, Hart
from trapline.lang.values import MASK64
from trapline.machine.lines import MSIP, MTIP, set_line
from trapline.privilege.derived import update_derived
from trapline.privilege.interrupts import update_timers

MTIMECMP = 0x4000
MTIME = 0xBFF8
_NEVER = MASK64
_INSTRET, _RATIO, _OFFSET = (LAYOUT.fields[name].index for name in ("instret", "time_ratio", "time_offset"))


def time_of(hart: Hart) -> int:
    """Return the hart's time CSR, in ticks."""
    # Asked many times a turn: the words themselves are several times faster than the fields.
    words = hart.mem
    return words[_INSTRET] // words[_RATIO] + words[_OFFSET] & MASK64


def time_changed(hart: Hart) -> None:
    """After a change of time_offset: the deadlines of Sstc, and the interrupts that follow from them."""
    hart.call(update_timers)
    hart.call(update_derived)


def advance(hart: Hart, tick: int) -> None:
    """Let the hart's time pass to `tick` without instructions."""
    now = time_of(hart)
    if tick > now:
        hart.time_offset = int(hart.time_offset) + tick - now
        time_changed(hart)


class Clint:
    """The device; one for all harts of a board, hart number = index."""

    def __init__(self, harts: Sequence[Hart]) -> None:
        self.harts = harts
        self.msip = [0] * len(harts)
        self.mtimecmp = [_NEVER] * len(harts)

    def tick(self, index: int) -> None:
        """Bring MTIP of one hart up to date with its time."""
        hart = self.harts[index]
        set_line(hart, MTIP, time_of(hart) >= self.mtimecmp[index])

    def load(self, hart: Hart, offset: int, size: int) -> int:
        """Read msip, mtimecmp or mtime; the rest of the page is zero."""
        shift = 8 * (offset & 7)
        mask = (1 << 8 * size) - 1
        if offset < 4 * len(self.msip):
            return self.msip[offset // 4] & mask if offset % 4 == 0 else 0
        if MTIMECMP <= offset < MTIMECMP + 8 * len(self.mtimecmp):
            return self.mtimecmp[(offset - MTIMECMP) // 8] >> shift & mask
        if MTIME <= offset < MTIME + 8:
            return time_of(hart) >> shift & mask
        return 0

    def store(self, hart: Hart, offset: int, size: int, value: int) -> None:
        """Write msip, mtimecmp or mtime."""
        if offset < 4 * len(self.msip):
            if offset % 4 == 0:
                self._store_msip(offset // 4, value & 1)
        elif MTIMECMP <= offset < MTIMECMP + 8 * len(self.mtimecmp):
            index = (offset - MTIMECMP) // 8
            self.mtimecmp[index] = _insert(self.mtimecmp[index], offset & 7, size, value)
            self.tick(index)
            if self.harts[index] is hart:
                leave(hart, EXIT_TIMER)
        elif MTIME <= offset < MTIME + 8:
            self._set_time(hart, _insert(time_of(hart), offset & 7, size, value))

    def _store_msip(self, index: int, value: int) -> None:
        self.msip[index] = value
        set_line(self.harts[index], MSIP, value != 0)

    def _set_time(self, hart: Hart, value: int) -> None:
        change = value - time_of(hart)
        for index, other in enumerate(self.harts):
            other.time_offset = int(other.time_offset) + change
            time_changed(other)
            self.tick(index)
        leave(hart, EXIT_TIMER)


def _insert(old: int, byte: int, size: int, value: int) -> int:
    mask = (1 << 8 * size) - 1
    return (old & ~(mask << 8 * byte) | (value & mask) << 8 * byte) & MASK64

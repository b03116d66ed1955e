"""When the next timer interrupt of a hart is due: mtimecmp, stimecmp, vstimecmp (Sstc)."""

from __future__ import annotations

from collections.abc import Sequence

from trapline.lang.state import LAYOUT, Hart
from trapline.lang.values import MASK64
from trapline.machine.clint import Clint, time_of
from trapline.privilege.derived import update_derived

_STCE = 1 << 63
_HAS_SSTC, _HAS_H, _MENVCFG, _HENVCFG = (
    LAYOUT.fields[name].index for name in ("has_sstc", "has_h", "menvcfg", "henvcfg")
)
_NEVER = 1 << 60  # ticks: thousands of years; software writes all ones to switch a timer off


class TimerLines:
    """The three comparators of each hart; `clint` holds the first, CSRs the others."""

    def __init__(self, harts: Sequence[Hart], clint: Clint | None) -> None:
        self._harts = harts
        self._clint = clint
        self._seen = [(False, False)] * len(harts)

    def tick(self, index: int) -> None:
        """Raise what has become due: MTIP in mip; STIP and VSTIP are derived from the CSRs."""
        hart = self._harts[index]
        if self._clint is not None:
            self._clint.tick(index)
        now = time_of(hart)
        levels = (_due(hart, now, virtual=False), _due(hart, now, virtual=True))
        if levels != self._seen[index]:
            self._seen[index] = levels
            hart.call(update_derived)

    def deadline(self, index: int) -> int | None:
        """Return the first tick after now at which a comparator becomes due."""
        hart = self._harts[index]
        now = time_of(hart)
        waits = []
        if self._clint is not None and self._clint.mtimecmp[index] > now:
            waits.append(self._clint.mtimecmp[index] - now)
        for virtual in (False, True):
            if _enabled(hart, virtual):
                compare, clock = _comparator(hart, now, virtual)
                if compare > clock:
                    waits.append(compare - clock)
        nearest = min(waits, default=_NEVER)
        return now + nearest if nearest < _NEVER else None


def _enabled(hart: Hart, virtual: bool) -> bool:
    words = hart.mem
    if words[_HAS_SSTC] == 0 or not words[_MENVCFG] & _STCE:
        return False
    return not virtual or bool(words[_HAS_H] != 0 and words[_HENVCFG] & _STCE)


def _comparator(hart: Hart, now: int, virtual: bool) -> tuple[int, int]:
    if virtual:
        return int(hart.vstimecmp), now + int(hart.htimedelta) & MASK64
    return int(hart.stimecmp), now


def _due(hart: Hart, now: int, *, virtual: bool) -> bool:
    if not _enabled(hart, virtual):
        return False
    compare, clock = _comparator(hart, now, virtual)
    return clock >= compare

"""Goldfish real-time clock, deterministic: it shows a fixed date plus the hart's time."""

from __future__ import annotations

from trapline.lang.state import Hart
from trapline.machine.clint import time_of

TIME_LOW, TIME_HIGH = 0x00, 0x04
EPOCH = 1_700_000_000  # seconds; any fixed date, so that the same inputs give the same trace


class Rtc:
    """Time registers only; the alarm never rings."""

    def __init__(self, timebase: int) -> None:
        self._timebase = timebase
        self._high = 0

    def load(self, hart: Hart, offset: int, size: int) -> int:
        """Reading the low half latches the high half."""
        if offset == TIME_LOW:
            now = EPOCH * 10**9 + time_of(hart) * 10**9 // self._timebase
            self._high = now >> 32 & 0xFFFF_FFFF
            return now & 0xFFFF_FFFF
        return self._high if offset == TIME_HIGH else 0

    def store(self, hart: Hart, offset: int, size: int, value: int) -> None:
        """Setting the clock or the alarm has no effect."""

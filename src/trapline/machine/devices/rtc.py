"""Goldfish real-time clock, deterministic: it shows a fixed date plus the hart's time."""

from __future__ import annotations

from trapline.lang.devices import DeviceState, Registers
from trapline.lang.functions import hosted
from trapline.lang.state import Hart
from trapline.lang.values import U64, udiv, urem
from trapline.machine.devices.clint import clock_is_calm, clock_read
from trapline.privilege.interrupts import time_now

TIME_LOW, TIME_HIGH = 0x00, 0x04
EPOCH = 1_700_000_000  # seconds; any fixed date, so that the same inputs give the same trace
_NANOSECONDS = 1_000_000_000


@hosted
def rtc_calm(hart: Hart, io: DeviceState, offset: U64, size: U64) -> bool:
    """Whether a read moves no time."""
    return offset != TIME_LOW or clock_is_calm(hart, io)


@hosted
def rtc_load(hart: Hart, io: DeviceState, offset: U64, size: U64) -> U64:
    """The time in nanoseconds; reading the low half latches the high half. The alarm never rings."""
    if offset == TIME_LOW:
        ticks = time_now(hart)
        fraction = udiv(urem(ticks, io.rtc_timebase) * _NANOSECONDS, io.rtc_timebase)
        now = (udiv(ticks, io.rtc_timebase) + EPOCH) * _NANOSECONDS + fraction
        io.rtc_high = now >> 32
        clock_read(hart, io)
        return now & 0xFFFF_FFFF
    return io.rtc_high if offset == TIME_HIGH else U64(0)


@hosted
def rtc_store(hart: Hart, io: DeviceState, offset: U64, size: U64, value: U64) -> None:
    """Setting the clock or the alarm has no effect."""


class Rtc(Registers):
    """The device."""

    on_load, on_store, on_calm = rtc_load, rtc_store, rtc_calm

    def __init__(self, io: DeviceState, timebase: int) -> None:
        super().__init__(io)
        io.rtc_timebase = timebase

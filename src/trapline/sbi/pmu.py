"""Performance Monitoring Unit extension (EID 0x504D55 "PMU"): firmware counters.

There are no hardware counters here: cycle and instret are read as CSRs. Snapshots and event info are
optional functions of the specification and are not offered.
"""

from __future__ import annotations

from typing import ClassVar

from trapline.dataclass import dataclass, field
from trapline.lang.values import MASK64
from trapline.sbi import numbers
from trapline.sbi.call import Extension, SbiCall, SbiOutcome, failure, result, success
from trapline.sbi.host import SbiHost
from trapline.sbi.numbers import Eid, FirmwareEvent, SbiError
from trapline.session.state.plain_types import U64

FIRMWARE_EVENT_TYPE = 0xF
CONFIG_FLAGS = 0xFF
INFO_FIRMWARE = 1 << 63
_EVENTS = frozenset(int(e) for e in FirmwareEvent)


@dataclass(slots=True)
class Counter:
    """One firmware counter; `event` is None until it is configured."""

    snapshot_types: ClassVar = {"event": U64 | None}

    event: int | None = None
    value: int = 0
    running: bool = False


@dataclass(slots=True)
class PmuState:
    """The firmware counters of one hart."""

    counters: list[Counter] = field(default_factory=lambda: [Counter() for _ in range(16)])

    def count(self, event: FirmwareEvent) -> None:
        """Add one to every running counter of this event."""
        for counter in self.counters:
            if counter.running and counter.event == event:
                counter.value = counter.value + 1 & MASK64


def count_event(host: SbiHost, event: FirmwareEvent) -> None:
    """Count a firmware event of the host's hart, if it has counters."""
    if host.pmu is not None:
        host.pmu.count(event)


def _selected(pmu: PmuState, base: int, mask: int) -> list[int] | None:
    chosen = [base + n for n in range(64) if mask >> n & 1]
    return chosen if chosen and chosen[-1] < len(pmu.counters) else None


def num_counters(host: SbiHost, call: SbiCall) -> SbiOutcome:
    """Return how many counters there are."""
    return success(len(_state(host).counters))


def counter_get_info(host: SbiHost, call: SbiCall) -> SbiOutcome:
    """Describe a counter: all of them are firmware counters."""
    if call.args[0] >= len(_state(host).counters):
        return failure(SbiError.INVALID_PARAM)
    return success(INFO_FIRMWARE)


def counter_config_matching(host: SbiHost, call: SbiCall) -> SbiOutcome:
    """Find a stopped counter of the set that can count the event, and configure it."""
    pmu = _state(host)
    base, mask, flags, event, data = call.args[:5]
    chosen = _selected(pmu, base, mask)
    if chosen is None or flags & ~CONFIG_FLAGS:
        return failure(SbiError.INVALID_PARAM)
    if flags & numbers.SKIP_MATCH:
        number = chosen[0]
        if pmu.counters[number].event is None:
            return failure(SbiError.INVALID_PARAM)
    else:
        code = event & 0xFFFF
        if event >> 16 != FIRMWARE_EVENT_TYPE or code not in _EVENTS or data:
            return failure(SbiError.NOT_SUPPORTED)
        free = [n for n in chosen if not pmu.counters[n].running and pmu.counters[n].event in (None, code)]
        if not free:
            return failure(SbiError.NOT_SUPPORTED)
        number = free[0]
        pmu.counters[number].event = code
    counter = pmu.counters[number]
    if flags & numbers.CLEAR_VALUE:
        counter.value = 0
    if flags & numbers.AUTO_START:
        counter.running = True
    return success(number)


def counter_start(host: SbiHost, call: SbiCall) -> SbiOutcome:
    """Start a set of counters; those that already run are an error, the others start."""
    pmu = _state(host)
    base, mask, flags, initial = call.args[:4]
    chosen = _selected(pmu, base, mask)
    if chosen is None or flags & ~(numbers.SET_INIT_VALUE | numbers.INIT_SNAPSHOT):
        return failure(SbiError.INVALID_PARAM)
    if flags & numbers.INIT_SNAPSHOT:
        return failure(SbiError.NO_SHMEM)
    if any(pmu.counters[n].event is None for n in chosen):
        return failure(SbiError.INVALID_PARAM)
    error = SbiError.SUCCESS
    for counter in (pmu.counters[n] for n in chosen):
        if counter.running:
            error = SbiError.ALREADY_STARTED
            continue
        counter.running = True
        if flags & numbers.SET_INIT_VALUE:
            counter.value = initial
    return result(error)


def counter_stop(host: SbiHost, call: SbiCall) -> SbiOutcome:
    """Stop a set of counters, and with RESET forget their events."""
    pmu = _state(host)
    base, mask, flags = call.args[:3]
    chosen = _selected(pmu, base, mask)
    if chosen is None or flags & ~(numbers.STOP_RESET | numbers.TAKE_SNAPSHOT):
        return failure(SbiError.INVALID_PARAM)
    if flags & numbers.TAKE_SNAPSHOT:
        return failure(SbiError.NO_SHMEM)
    error = SbiError.SUCCESS
    for counter in (pmu.counters[n] for n in chosen):
        if not counter.running:
            error = SbiError.ALREADY_STOPPED
        counter.running = False
        if flags & numbers.STOP_RESET:
            counter.event = None
    return result(error)


def counter_fw_read(host: SbiHost, call: SbiCall) -> SbiOutcome:
    """Return the value of a configured firmware counter."""
    counters = _state(host).counters
    if call.args[0] >= len(counters) or counters[call.args[0]].event is None:
        return failure(SbiError.INVALID_PARAM)
    return success(counters[call.args[0]].value)


def counter_fw_read_hi(host: SbiHost, call: SbiCall) -> SbiOutcome:
    """Return 0: on RV64 the value has no upper half."""
    outcome = counter_fw_read(host, call)
    return success() if outcome.error == SbiError.SUCCESS else outcome


def _state(host: SbiHost) -> PmuState:
    if not isinstance(host.pmu, PmuState):
        raise TypeError("the profile offers pmu, but its host has no PmuState")
    return host.pmu


PMU = Extension(
    "pmu",
    Eid.PMU,
    (0, 3),
    {
        0: num_counters,
        1: counter_get_info,
        2: counter_config_matching,
        3: counter_start,
        4: counter_stop,
        5: counter_fw_read,
        6: counter_fw_read_hi,
    },
    settled={0: 0, 1: 1},
    optional=frozenset((7, 8)),
)

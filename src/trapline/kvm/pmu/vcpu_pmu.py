"""The guest's PMU: SBI PMU calls served over the host's perf and KVM's own event counts (vcpu_pmu.c).

A guest has one only on a host with Sscofpmf: without privilege filters its counters would count the
hypervisor too. The numbers of hardware and firmware counters are what the host's driver finds: cycle, instret and
29 others, whose events are those of the board (docs/counters.md). Firmware events are counted once for each
event, not for each counter. Where KVM differs from the SBI specification, so does this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from trapline.dataclass import dataclass, field
from trapline.kvm.pmu.perf_event import (
    FIRMWARE,
    HARDWARE,
    HW_CYCLES,
    HW_INSTRUCTIONS,
    RAW_V2,
    PerfEvent,
    event_type,
    host_event,
)
from trapline.kvm.uapi.numbers import IRQ_PMU_OVF
from trapline.lang.values import MASK64
from trapline.privilege.hpm import HPM_END
from trapline.sbi import numbers
from trapline.sbi.call import SbiCall, SbiOutcome, failure, result, success
from trapline.sbi.numbers import FirmwareEvent, SbiError
from trapline.session.state.plain_types import U64, Limits

if TYPE_CHECKING:
    from trapline.kvm.vcpu import Vcpu

FIRMWARE_COUNTERS = 22  # SBI_PMU_FW_MAX
MAX_COUNTERS = 64  # RISCV_KVM_MAX_COUNTERS
FIXED_COUNTERS, HARDWARE_COUNTERS = (
    3,
    HPM_END,
)  # cycle, a hole for time, instret; with those of the hart that take any event
CYCLE, TIME, INSTRET = 0, 1, 2
CSR_CYCLE = 0xC00

SNAPSHOT_SIZE = 4096  # overflow mask, 64 values, reserved
NO_SHMEM = MASK64
EVENT_INFO_SIZE = 16  # u32 event index, u32 output, u64 event data
MAX_EVENTS = 1 << 16  # more is an allocation that fails

# KVM counts what it really does for a guest's sfence.vma: an hfence.vvma.
_AS_HFENCE = {
    FirmwareEvent.SFENCE_VMA_SENT: FirmwareEvent.HFENCE_VVMA_SENT,
    FirmwareEvent.SFENCE_VMA_ASID_SENT: FirmwareEvent.HFENCE_VVMA_ASID_SENT,
}


@dataclass(slots=True)
class Pmc:
    """One virtual counter: struct kvm_pmc."""

    snapshot_skips: ClassVar = ("firmware", "info")
    snapshot_types: ClassVar = {
        "event": U64 | None,
        "perf": PerfEvent | None,
        "overflows_at": U64 | None,
    }

    firmware: bool
    info: int
    event: int | None = None
    value: int = 0
    started: bool = False
    perf: PerfEvent | None = None
    overflows_at: int | None = None  # the perf event's count; KVM arms it once for each start
    overflown: bool = False

    def after_restore(self) -> None:
        """Refuse an event that nobody counts."""
        if self.firmware and self.event is not None and self.event & 0xFFFF >= FIRMWARE_COUNTERS:
            raise ValueError(f"no firmware event {self.event:#x}")

    @property
    def in_use(self) -> bool:
        """Whether an event was put on it."""
        return self.event is not None


@dataclass(slots=True)
class FirmwareCount:
    """How often KVM did something for the guest, while that is counted."""

    value: int = 0
    started: bool = False


@dataclass(slots=True)
class VcpuPmu:
    """The counters of one vCPU: struct kvm_pmu."""

    snapshot_types: ClassVar = {
        "snapshot": U64 | None,
        "shared": Annotated[bytearray, Limits(min_length=SNAPSHOT_SIZE, max_length=SNAPSHOT_SIZE)],
    }

    vcpu: Vcpu
    counters: list[Pmc | None] = field(default_factory=list)
    events: list[FirmwareCount] = field(default_factory=list)
    snapshot: int | None = None
    armed: bool = False
    counting: bool = False  # a firmware event is counted
    shared: bytearray = field(default_factory=lambda: bytearray(SNAPSHOT_SIZE))  # KVM's copy of the snapshot

    def __post_init__(self) -> None:
        """Lay out the counters: hardware ones first, then the firmware's."""
        for n in range(HARDWARE_COUNTERS + FIRMWARE_COUNTERS):
            if n == TIME:
                self.counters.append(None)
                continue
            firmware = n >= HARDWARE_COUNTERS
            info = 63 << 12 | (1 << 63 if firmware else CSR_CYCLE + n)
            self.counters.append(Pmc(firmware, info))
        self.events = [FirmwareCount() for _ in range(FIRMWARE_COUNTERS)]

    # --- counting ---
    def count(self, event: FirmwareEvent, times: int = 1) -> None:
        """Count a firmware event, if the guest wants it counted."""
        counted = self.events[_AS_HFENCE.get(event, event)]
        if counted.started:
            counted.value += times

    def _release(self, pmc: Pmc) -> None:
        if pmc.perf is not None:
            pmc.perf.disable(self.vcpu.hart)
            pmc.perf = None

    def _accumulate(self, pmc: Pmc, perf: PerfEvent) -> int:
        """Return the counter's value; KVM adds perf's whole count to it at every reading."""
        value = pmc.value + perf.read(self.vcpu.hart) & MASK64
        if self.vcpu.policy.has_bug("pmu-reads-add-up"):
            pmc.value = value
        return value

    def read(self, number: int) -> int | None:
        """Return a counter's value; None if there is no such counter or nothing is counted."""
        pmc = self.counters[number] if number < len(self.counters) else None
        if pmc is None:
            return None
        if pmc.firmware:
            if pmc.event is None:
                # Before the check came, the word behind the events was read.
                return None if self.vcpu.policy.has_feature("pmu-checks-events") else 0
            pmc.value = self.events[pmc.event & 0xFFFF].value
            return pmc.value
        return self._accumulate(pmc, pmc.perf) if pmc.perf is not None else None

    def reset(self) -> None:
        """A vCPU reset forgets all events and the snapshot memory."""
        for pmc in self.counters:
            if pmc is not None and pmc.in_use:
                self._release(pmc)
                pmc.value, pmc.event, pmc.started = 0, None, False
                pmc.overflows_at, pmc.overflown = None, False
        self.events = [FirmwareCount() for _ in range(FIRMWARE_COUNTERS)]
        self.snapshot = None
        self.armed = self.counting = False

    # --- SBI calls ---
    def serve(self, call: SbiCall) -> SbiOutcome:
        """Serve one call of the extension."""
        a = call.args
        match call.fid:
            case 0:
                return success(len(self.counters))
            case 1:
                return self._info(a[0])
            case 2:
                found = self._config_matching(a[0], a[1], a[2], a[3], a[4])
                self._arm()
                return found
            case 3:
                error = self._start(a[0], a[1], a[2], a[3])
                self._arm()
                return result(error)
            case 4:
                error = self._stop(a[0], a[1], a[2])
                self._arm()
                return result(error)
            case 5:
                value = self.read(a[0])
                return failure(SbiError.INVALID_PARAM) if value is None else success(value)
            case 6 if self.vcpu.policy.has_feature("pmu-snapshot"):
                return success()  # the upper half, on RV32
            case 7 if self.vcpu.policy.has_feature("pmu-snapshot"):
                return result(self._set_snapshot(a[0], a[1], a[2]))
            case 8 if self.vcpu.policy.has_feature("pmu-event-info"):
                return result(self._event_info(a[0], a[1], a[2], a[3]))
        return failure(SbiError.NOT_SUPPORTED)

    def _info(self, number: int) -> SbiOutcome:
        """Describe a counter; those past the last one are described as zero."""
        if number == MAX_COUNTERS and self.vcpu.policy.has_bug("pmu-info-past-the-end"):
            return success(
                int(self.events[FirmwareEvent.MISALIGNED_STORE].started)
            )  # struct kvm_pmu: fw_event lies behind pmc
        if number >= MAX_COUNTERS or number == TIME:
            return failure(SbiError.INVALID_PARAM)
        pmc = self.counters[number] if number < len(self.counters) else None
        return success(pmc.info if pmc is not None else 0)

    def _selected(self, base: int, mask: int) -> list[tuple[int, int]] | None:
        """Return (bit, counter) of a set of counters, None if one of them does not exist.

        Where the sum of base and mask may wrap, counters that do not exist are passed over.
        """
        last = base + mask.bit_length() - 1
        if self.vcpu.policy.has_bug("pmu-mask-wraps"):
            last &= MASK64
        if not mask or last >= len(self.counters):
            return None
        chosen = [(n, base + n & MASK64) for n in range(64) if mask >> n & 1]
        return [(n, number) for n, number in chosen if number < len(self.counters)]

    def _config_matching(self, base: int, mask: int, flags: int, index: int, data: int) -> SbiOutcome:
        chosen = self._selected(base, mask)
        if chosen is None:
            return failure(SbiError.INVALID_PARAM)
        kind, code = event_type(index), index & 0xFFFF
        if kind == FIRMWARE and code >= FIRMWARE_COUNTERS:
            return failure(SbiError.NOT_SUPPORTED)
        if flags & numbers.SKIP_MATCH:
            number = chosen[0][1]
            pmc = self.counters[number]
            if pmc is None or not pmc.in_use:
                return failure(SbiError.FAILED)
        else:
            found = self._find(chosen, kind, code)
            if found is None:
                return failure(SbiError.NOT_SUPPORTED)
            number, pmc = found
        counted = host_event(index, data)
        if kind == RAW_V2 and not self.vcpu.policy.has_feature("pmu-event-info"):
            counted = None  # they came together, with version 3.0 of the SBI
        if kind == FIRMWARE:
            self.events[code].started = self.events[code].started or bool(flags & numbers.AUTO_START)
        elif counted is None:
            return failure(SbiError.NOT_SUPPORTED)  # the host's perf knows no such event
        else:
            self._create_perf_event(pmc, number, counted, flags)
        pmc.event = index
        return success(number)

    def _find(self, chosen: list[tuple[int, int]], kind: int, code: int) -> tuple[int, Pmc] | None:
        """Cycles and instructions have counters of their own, whatever was asked for."""
        fixed = {HW_CYCLES: CYCLE, HW_INSTRUCTIONS: INSTRET}.get(code) if kind == HARDWARE else None
        if fixed is not None:
            pmc = self.counters[fixed]
            return (fixed, pmc) if pmc is not None else None
        for _, number in chosen:
            pmc = self.counters[number]
            if pmc is not None and number >= FIXED_COUNTERS and pmc.firmware is (kind == FIRMWARE):
                if not pmc.in_use:
                    return number, pmc
        return None

    def _create_perf_event(self, pmc: Pmc, number: int, event: int, flags: int) -> None:
        pmc.overflows_at = None
        self._release(pmc)
        pmc.perf = PerfEvent(not flags & numbers.SET_UINH, not flags & numbers.SET_SINH, event, number)
        if flags & numbers.CLEAR_VALUE:
            pmc.value = 0
        if flags & numbers.AUTO_START:
            pmc.perf.enable(self.vcpu.hart)

    def _start(self, base: int, mask: int, flags: int, initial: int) -> SbiError:
        """Start counters; what was never configured is passed over in silence."""
        chosen = self._selected(base, mask)
        if chosen is None:
            return SbiError.INVALID_PARAM
        snapshot = bool(flags & numbers.INIT_SNAPSHOT) and self.vcpu.policy.has_feature("pmu-snapshot")
        if snapshot:
            if self.snapshot is None:
                return SbiError.NO_SHMEM
            shared = self.vcpu.sbi.try_read(self.snapshot, SNAPSHOT_SIZE)
            if shared is None:
                return SbiError.FAILED
            self.shared[:] = shared
        error = SbiError.SUCCESS
        for bit, number in chosen:
            pmc = self.counters[number]
            if pmc is None or pmc.event is None:
                continue
            pmc.overflown = False
            if flags & numbers.SET_INIT_VALUE:
                pmc.value = initial
            elif snapshot:
                pmc.value = int.from_bytes(self.shared[8 + 8 * bit : 16 + 8 * bit], "little")
            if not self._start_one(pmc, pmc.event):
                error = SbiError.ALREADY_STARTED
        return error

    def _start_one(self, pmc: Pmc, event: int) -> bool:
        if pmc.firmware:
            counted = self.events[event & 0xFFFF]
            if counted.started:
                return False
            counted.started, counted.value = True, pmc.value
        elif pmc.perf is not None:
            if pmc.started:
                return False
            pmc.perf.enable(self.vcpu.hart)
            pmc.overflows_at = pmc.perf.read(self.vcpu.hart) + (-pmc.value & MASK64 or MASK64)
            pmc.started = True
        return True

    def _stop(self, base: int, mask: int, flags: int) -> SbiError:
        chosen = self._selected(base, mask)
        if chosen is None:
            return SbiError.INVALID_PARAM
        snapshot = bool(flags & numbers.TAKE_SNAPSHOT) and self.vcpu.policy.has_feature("pmu-snapshot")
        if snapshot and self.snapshot is None:
            return SbiError.NO_SHMEM
        error, changed = SbiError.SUCCESS, False
        for bit, number in chosen:
            pmc = self.counters[number]
            if pmc is None or pmc.event is None:
                continue
            if not self._stop_one(pmc, pmc.event):
                error = SbiError.ALREADY_STOPPED
            if snapshot and error is SbiError.SUCCESS:
                self._fold(pmc, pmc.event, flags)
                self._note_in_snapshot(bit, pmc)
                changed = True
            if flags & numbers.STOP_RESET:
                self._release(pmc)
                pmc.event = pmc.overflows_at = None
                pmc.overflown = False
                if snapshot:
                    self._set_overflow(bit, on=False)
                    changed = True
        if changed and not self._write_snapshot() and not self.vcpu.policy.has_bug("pmu-snapshot-failure-silent"):
            return SbiError.FAILED
        return error

    def _fold(self, pmc: Pmc, event: int, flags: int) -> None:
        """Bring a counter's value up to date for the snapshot, where stopping it has not done that."""
        policy = self.vcpu.policy
        if pmc.firmware and policy.has_bug("fw-counter-reset-on-restart"):
            pmc.value = self.events[event & 0xFFFF].value
        # KVM has let go of the perf event by now if the counter is also reset.
        if pmc.perf is not None and policy.has_bug("pmu-reads-add-up") and not flags & numbers.STOP_RESET:
            pmc.value = pmc.value + pmc.perf.read(self.vcpu.hart) & MASK64

    def _stop_one(self, pmc: Pmc, event: int) -> bool:
        if pmc.firmware:
            counted = self.events[event & 0xFFFF]
            if not counted.started:
                return False
            counted.started = False
            if not self.vcpu.policy.has_bug("fw-counter-reset-on-restart"):
                pmc.value = counted.value
        elif pmc.perf is not None:
            if not pmc.started:
                return False
            pmc.perf.disable(self.vcpu.hart)
            pmc.started = False
            pmc.overflows_at = None
            if not self.vcpu.policy.has_bug("pmu-reads-add-up"):
                pmc.value, pmc.perf.total = pmc.value + pmc.perf.total & MASK64, 0
        return True

    def _note_in_snapshot(self, bit: int, pmc: Pmc) -> None:
        """Value and overflow of a counter; bits count from the base of the call."""
        if pmc.overflown:
            self._set_overflow(bit, on=True)
        self.shared[8 + 8 * bit : 16 + 8 * bit] = pmc.value.to_bytes(8, "little")

    def _set_overflow(self, bit: int, *, on: bool) -> None:
        byte = self.shared[bit >> 3]
        self.shared[bit >> 3] = byte | 1 << (bit & 7) if on else byte & ~(1 << (bit & 7))

    def _write_snapshot(self) -> bool:
        return self.snapshot is not None and self.vcpu.sbi.try_write(self.snapshot, bytes(self.shared))

    # --- overflow ---
    def _arm(self) -> None:
        """Remember whether a counter may overflow, and whether firmware events are counted."""
        self.counting = any(event.started for event in self.events)
        self.armed = any(pmc is not None and pmc.overflows_at is not None for pmc in self.counters[:HARDWARE_COUNTERS])

    def until_overflow(self) -> int:
        """Return how many instructions of the guest must pass before a counter can overflow."""
        left = [
            pmc.overflows_at - pmc.perf.read(self.vcpu.hart)
            for pmc in self.counters[:HARDWARE_COUNTERS]
            if pmc is not None and pmc.perf is not None and pmc.overflows_at is not None
        ]
        return max(0, min(left, default=MASK64))

    def check_overflow(self) -> None:
        """The host's counter overflowed: note it and send the guest its interrupt, if that can reach it."""
        for pmc in self.counters[:HARDWARE_COUNTERS]:
            if (
                pmc is None
                or pmc.perf is None
                or pmc.overflows_at is None
                or pmc.perf.read(self.vcpu.hart) < pmc.overflows_at
            ):
                continue
            pmc.overflows_at, pmc.overflown = None, True
            self._arm()
            if self.vcpu.policy.has_feature("pmu-snapshot"):
                self.vcpu.set_interrupt(IRQ_PMU_OVF)

    def _set_snapshot(self, low: int, high: int, flags: int) -> SbiError:
        if flags:
            return SbiError.INVALID_PARAM
        if low == high == NO_SHMEM:
            self.snapshot = None
            return SbiError.SUCCESS
        if high or not self.vcpu.sbi.writable_slot(low):
            return SbiError.INVALID_ADDRESS
        self.snapshot = None
        self.shared[:] = bytes(SNAPSHOT_SIZE)
        if not self.vcpu.sbi.try_write(low, bytes(SNAPSHOT_SIZE)):
            named = self.vcpu.policy.has_feature("shmem-invalid-address")
            return SbiError.INVALID_ADDRESS if named else SbiError.FAILED
        self.snapshot = low
        return SbiError.SUCCESS

    def _event_info(self, low: int, high: int, number: int, flags: int) -> SbiError:
        """Say of each event in shared memory whether the host can count it."""
        wraps = self.vcpu.policy.has_bug("pmu-event-info-wraps")
        if flags or low & 15 or number == 0 or (number * EVENT_INFO_SIZE >> 64 and not wraps):
            return SbiError.INVALID_PARAM
        if high:
            return SbiError.INVALID_ADDRESS
        if number > MAX_EVENTS:
            return SbiError.FAILED
        entries = self.vcpu.sbi.try_read(low, number * EVENT_INFO_SIZE)
        if entries is None:
            return SbiError.FAILED
        answered = bytearray(entries)
        for at in range(0, len(answered), EVENT_INFO_SIZE):
            index = int.from_bytes(answered[at : at + 4], "little")
            answered[at + 4 : at + 8] = int(_countable(index)).to_bytes(4, "little")
        return SbiError.SUCCESS if self.vcpu.sbi.try_write(low, bytes(answered)) else SbiError.INVALID_ADDRESS


def _countable(index: int) -> bool:
    """Whether the host's driver takes the event: of the standard ones those of the board, raw and firmware all."""
    return event_type(index) == FIRMWARE or host_event(index, 0) is not None


def guest_pmu(vcpu: Vcpu) -> VcpuPmu | None:
    """Return the PMU of a vCPU, None where the host or this KVM has none to give."""
    offered = any(rule.name == "PMU" for rule in vcpu.policy.sbi)
    return VcpuPmu(vcpu) if offered and vcpu.hart.has_sscofpmf != 0 else None

"""Running probes: one VM for all events, and for each the route that was observed.

A route is built from what the machine did: records of traps that left the guest, the compiled trap
counters and instruction counts of the hart, the log that the guest's own handler wrote, KVM's
statistics. The policy is given to the VM and not looked at here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING

from trapline.engine.api import Engine
from trapline.firmware.exit_log import HARDWARE_MODE
from trapline.firmware.firmware import Firmware
from trapline.firmware.models import FirmwareModel
from trapline.kvm.gstage import PAGE
from trapline.kvm.report.cost import estimate
from trapline.kvm.report.death import Death
from trapline.kvm.report.trace import TrapRecord
from trapline.kvm.run_stop import RunStop
from trapline.kvm.uapi.numbers import Exit
from trapline.kvm.uapi.slots import SlotKind
from trapline.kvm.vcpu import Vcpu
from trapline.kvm.vm import Vm
from trapline.lab.firmware_names import firmware_named
from trapline.lab.probe import image
from trapline.lab.probe.image import Entry, Image
from trapline.lab.routes import Arrival, GuestSees
from trapline.lab.settings import Settings
from trapline.lang.state.words import LAYOUT
from trapline.privilege.causes import INTERRUPT, STORE_GUEST_PAGE_FAULT
from trapline.privilege.fields import HSTATUS_GVA, MSTATUS_GVA, MSTATUS_SPP
from trapline.privilege.isa_string import DEFAULT_ISA, extensions
from trapline.privilege.modes import MODE_NAMES, MODE_VS, MODE_VU
from trapline.session.observe.trap_counts import WORDS as TRAP_WORDS
from trapline.session.observe.trap_counts import counted, trap_at, trap_words

if TYPE_CHECKING:
    from trapline.lang.state import Hart

LIMIT = 4_000  # instructions that a probe may take from its entry to its end
_PIECE, _FOR_EVER = 200, 100  # of them at a time; of a trap that comes back as often, nothing new is to be learned
GUEST_MODES = (MODE_VU, MODE_VS)
# The hart's counters of traps and exits, and as many zeros.
_COUNTED = tuple(
    (LAYOUT.fields[name].index, memoryview(bytes(LAYOUT.fields[name].count * 8)).cast("Q"))
    for name in ("trap_count", "exit_count", "exit_firmware")
)
_NO_TRAPS = memoryview(bytes(TRAP_WORDS * 8)).cast("Q")
_MODE_INSTRET = LAYOUT.fields["mode_instret"].index


class ProbeError(Exception):
    """A probe did not reach its event: something below the lab is broken."""


@dataclass(frozen=True, slots=True)
class GuestTrap:
    """A row of the compiled counters: a trap that hardware took from the guest during the event."""

    cause: int
    origin: str
    destination: str
    count: int


@dataclass(slots=True)
class Observation:
    """What one probe did, from the mark before the event to the mark behind it."""

    entry: Entry
    end: str = ""  # "" reached the end, else killed, hung, vmm
    records: list[TrapRecord] = field(default_factory=list)
    costs: list[tuple[str, int, str]] = field(default_factory=list)  # level, instructions, source
    arrivals: list[Arrival] = field(default_factory=list)
    traps: list[GuestTrap] = field(default_factory=list)
    log: list[GuestSees] = field(default_factory=list)
    instructions: dict[str, int] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    exits: list[str] = field(default_factory=list)
    death: Death | None = None
    menvcfg: int = 0  # what the firmware switched on for the levels below


class ProbeVm:
    """A VM with the probe image in it; `run` raises one event."""

    limit = LIMIT

    def __init__(
        self,
        settings: Settings,
        *,
        isa: str = DEFAULT_ISA,
        engine: str | Engine = "native",
        firmware: FirmwareModel | None = None,
        only: frozenset[str] | None = None,
        nested: bool = False,
    ) -> None:
        self.settings, self.isa, self.engine, self.only, self.nested = settings, isa, engine, only, nested
        self._model = firmware
        # In the last run, before its mark too: causes that arrived in HS, and those of all traps that the hart took.
        self.causes: set[int] = set()
        self.raised: set[int] = set()
        self.own: set[int] = set()  # of the causes those that are not the write of MARK or END
        self.firmware_came = False  # one of them went to M-mode
        self.image: Image = self._assemble()
        self._build()

    def _assemble(self) -> Image:
        return image.build(frozenset(extensions(self.isa)), self.only)

    def _build(self) -> None:
        s = self.settings
        firmware = Firmware(self._model or firmware_named(s.firmware), host_fwft=s.host_fwft)
        self.vm = Vm(
            s.policy, firmware=firmware, isa=self.isa, engine=self.engine, misaligned=s.misaligned, nested=self.nested
        )
        self.vm.add_memory(image.RAM, image.RAM_SIZE)
        self.vm.add_memory(image.HOLE, image.HOLE_SIZE, SlotKind.HOLE)
        self.vm.add_memory(image.READ_ONLY, image.READ_ONLY_SIZE, SlotKind.READ_ONLY)
        self.vm.add_memory(image.PROT_NONE, image.PROT_NONE_SIZE, SlotKind.NONE)
        for at, data in image.parts(self.image.data):
            self.vm.write_memory(image.RAM + at, data)
        self.vm.write_memory(image.READ_ONLY_UNTOUCHED, image.UNTOUCHED)
        self.vm.devices = tuple((at, at + PAGE) for at in (image.FINISHER, image.MMIO_PAGE))
        self.vm.on_trap = self._on_trap
        self.engine = self.vm.engine
        self._now = Observation(self.image.entries[0])
        for gpa in (*range(image.RAM, image.RAM + 0x1_0000, PAGE), image.TABLE, image.LOG, image.SCRATCH):
            self._map(gpa)
        self._map(image.HOLE)
        self._map(image.READ_ONLY)
        self._more()

    def _more(self) -> None:
        """What else is in the VM (lab.nested.probe)."""

    def _start(self, entry: Entry) -> None:
        """Put the vCPU where a probe begins."""
        self.vcpu.reset(entry.start, 0)

    def _lost(self, data: int) -> str:
        """Name the end that a write of something else to the test finisher means."""
        return "lost"

    def begin(self) -> Hart:
        """Put the vCPU where the first probe begins; return its hart."""
        self._start(self.image.entries[0])
        return self.vcpu.hart

    def _map(self, gpa: int) -> None:
        """Map a page now, so that no event pays for a first touch that is not its own."""
        slot = self.vm.slots.find(gpa)
        if slot is not None:
            self.vm.map_page(slot, gpa, write=slot.writable)

    @property
    def vcpu(self) -> Vcpu:
        """The only vCPU."""
        return self.vm.vcpus[0]

    # --- watching ---
    def _on_trap(self, record: TrapRecord) -> None:
        now = self._now
        now.records.append(record)
        if "M" in record.path:
            self.firmware_came = True
            now.costs.append(("M", record.m_instructions, record.m_source))
            now.arrivals.append(self._arrival_m(record))
        if "HS" in record.path:
            arrived = {record.cause, int(self.vcpu.hart.scause)}
            self.causes |= arrived
            if record.gpa != image.FINISHER or record.cause != STORE_GUEST_PAGE_FAULT or record.end != "vmm":
                self.own |= arrived
            cost = estimate(record.how[-1], record.end, self.settings.policy.release)
            now.costs.append(("HS", cost.hs, cost.source))
            now.arrivals.append(self._arrival_hs(record))

    def _arrival_m(self, record: TrapRecord) -> Arrival:
        """Read the machine CSRs, of which firmware has changed mepc and the modes in mstatus since the trap."""
        hart = self.vcpu.hart
        gva = bool(int(hart.mstatus) & MSTATUS_GVA)
        tval2, tinst = int(hart.mtval2), int(hart.mtinst)
        return Arrival("M", int(hart.mcause), record.epc, int(hart.mtval), tval2, tinst, gva, record.origin)

    def _arrival_hs(self, record: TrapRecord) -> Arrival:
        """Read the HS-level CSRs, which KVM has not changed since the trap."""
        hart = self.vcpu.hart
        return Arrival(
            "HS",
            int(hart.scause),
            int(hart.sepc),
            int(hart.stval),
            int(hart.htval),
            int(hart.htinst),
            bool(int(hart.guest_hstatus) & HSTATUS_GVA),
            record.origin,
            delegated=bool(int(hart.hedeleg) >> (record.cause & 63) & 1 and not record.cause & INTERRUPT),
        )

    # --- running ---
    def run(self, entry: Entry) -> Observation:
        """Raise one event and say what happened."""
        vm, vcpu = self.vm, self.vcpu
        vm.write_memory(image.LOG, bytes(image.RECORD * 8))
        self._forget()
        self.causes.clear()
        self.own.clear()
        self.raised.clear()
        self.firmware_came = False
        trap_words(vcpu.hart)[:] = _NO_TRAPS
        if vm.gstage.unmap(entry.virgin, PAGE):
            vm.flush_all()
        self._start(entry)
        self._now = now = Observation(entry, menvcfg=int(vcpu.hart.menvcfg))
        if not self._until(image.MARK, now):
            raise ProbeError(f"{entry.event.id} from {entry.mode}: {self._why(now)}")
        if self._read_log():
            raise ProbeError(f"{entry.event.id} from {entry.mode}: an exception before the event: {self._read_log()}")
        now.records.clear()
        now.costs.clear()
        now.arrivals.clear()
        now.exits.clear()
        before = self._begin_counting()
        reached = self._until(image.END, now)
        self._measure(now, before, reached)
        if now.end == "hung":
            self._build()
        return now

    def _forget(self) -> None:
        """Drop what the last probe left open: the END write that KVM has not completed, a death."""
        vcpu = self.vcpu
        vcpu.csr_insn = vcpu.death = None
        vcpu.hart.kvm_mmio_open = 0
        vcpu.sbi.return_open = False

    def _why(self, now: Observation) -> str:
        last = now.records[-1].route() if now.records else "no trap"
        return f"the event was not reached ({now.end or 'no end'}; last: {last})"

    def _until(self, mark: int, now: Observation) -> bool:
        """Run until the guest writes `mark` to the test finisher; what ends it otherwise stands in now.end."""
        vcpu = self.vcpu
        end = int(vcpu.hart.instret) + self.limit
        while True:
            left = end - int(vcpu.hart.instret)
            stop = vcpu.run(max(1, min(left, _PIECE)))
            if stop is RunStop.EXIT:
                mmio = vcpu.kvm_run.mmio
                if vcpu.kvm_run.exit_reason is Exit.MMIO and mmio.phys_addr == image.FINISHER and mmio.is_write:
                    now.end = "" if mmio.data == mark else self._lost(mmio.data)
                    return mmio.data == mark
                if not self._serve(now):
                    return False
            elif stop is RunStop.BLOCKED and (tick := vcpu.timer.deadline()) is not None:
                vcpu.advance(tick)
            elif stop is not RunStop.LIMIT or left <= _PIECE or _goes_round(now.records):
                now.end = "killed" if stop is RunStop.ERROR else "hung"
                now.death = vcpu.death
                return False

    def _serve(self, now: Observation) -> bool:
        """Answer an exit as a VMM without devices does; return whether the guest can go on."""
        run = self.vcpu.kvm_run
        now.exits.append(run.exit_reason.name)
        if run.exit_reason is Exit.MMIO:
            run.mmio.data = 0
        elif run.exit_reason not in (Exit.RISCV_SBI, Exit.RISCV_CSR) or len(now.exits) > 8:
            now.end = "vmm"
            return False
        return True

    def _begin_counting(self) -> tuple[list[int], dict[str, int]]:
        """Forget the traps and exits of before: what is counted from now on is the event's."""
        hart, stats = self.vcpu.hart, self.vcpu.stats
        self._note(_traps(hart, None))
        for index, nothing in _COUNTED:
            hart.mem[index : index + len(nothing)] = nothing
        stats.routes.clear()
        stats.firmware.clear()
        stats.fold(hart)
        return hart.mem[_MODE_INSTRET : _MODE_INSTRET + 8].tolist(), {**stats.kvm, **stats.generic}

    def _note(self, traps: list[GuestTrap]) -> None:
        self.raised |= {trap.cause for trap in traps}
        self.firmware_came |= any(trap.destination == "M" for trap in traps)

    def _read_log(self) -> list[GuestSees]:
        return read_log(self.vm.read_memory(image.LOG, image.RECORD * 8))

    def _measure(self, now: Observation, before: tuple[list[int], dict[str, int]], reached: bool) -> None:
        """Take differences; the write of END itself is the last record and is not part of the event."""
        now.log = self._read_log()
        skip = None
        if reached and now.records and now.records[-1].gpa == image.FINISHER:
            skip = now.records.pop()
            for hop in ("HS", "M"):
                if hop in skip.path:
                    now.arrivals.pop()
                    now.costs.pop()
        hart = self.vcpu.hart
        now.traps = _traps(hart, skip)
        modes = hart.mem[_MODE_INSTRET : _MODE_INSTRET + 8].tolist()
        now.instructions = {MODE_NAMES[m]: modes[m] - before[0][m] for m in GUEST_MODES}
        counters = self.vcpu.stats.snapshot(hart)
        now.counters = {n: v - before[1].get(n, 0) for n, v in counters.items() if v != before[1].get(n, 0)}
        self._note(now.traps)
        if skip is not None:
            _without(now.counters, skip)


def records_of(log: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yield what the guest's handler noted: scause, sepc, stval, sstatus."""
    words = memoryview(log).cast("Q").tolist()
    records = zip(words[::4], words[1::4], words[2::4], words[3::4], strict=True)
    return takewhile(lambda record: record[1] != 0, records)


def read_log(log: bytes) -> list[GuestSees]:
    """Return the same as the guest sees it."""
    return [GuestSees(c, epc, tval, "VS" if s & MSTATUS_SPP else "VU") for c, epc, tval, s in records_of(log)]


def _goes_round(records: list[TrapRecord]) -> bool:
    last = records[-_FOR_EVER:]
    return len(last) == _FOR_EVER and len({(record.cause, record.epc) for record in last}) == 1


def _traps(hart: Hart, skip: TrapRecord | None) -> list[GuestTrap]:
    found = {trap_at(index): n for index, n in counted(hart).items()}
    if skip is not None:
        trap = skip.cause, HARDWARE_MODE.get(skip.origin, skip.origin), skip.path[1]
        found[trap] = found.get(trap, 1) - 1
    return [GuestTrap(*trap, n) for trap, n in found.items() if n]


def _without(counters: dict[str, int], skip: TrapRecord) -> None:
    """Take the write of END out of the statistics."""
    ours = f"trapline/{skip.name}/{skip.origin}/{skip.how[-1]}/{skip.end}"
    for name in ("exits", "mmio_exit_user", "trapline/guest_page_faults", ours):
        if name in counters:
            counters[name] -= 1
            if counters[name] == 0:
                del counters[name]

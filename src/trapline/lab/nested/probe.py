"""Running probes as L2 under a bare L1 of any policy (lab.nested.image), and as L1 itself, on a hosted L0."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from trapline.kvm.report.trace import TrapRecord
from trapline.lab.nested import image as l1
from trapline.lab.nested.events import NESTED_EVENTS
from trapline.lab.probe import image
from trapline.lab.probe.image import Entry, Image
from trapline.lab.probe.probe import Observation, ProbeVm
from trapline.lang.state.words import LAYOUT
from trapline.policies import Policy
from trapline.privilege.fields import HSTATUS_GVA, HSTATUS_SPV, HSTATUS_SPVP, MSTATUS_SPP
from trapline.privilege.isa_string import extensions
from trapline.privilege.modes import MODE_VS, MODE_VU

_OF_L1 = {"VU": "vU", "VS": "vHS"}
_OF_L2 = {"VU": "vVU", "VS": "vVS"}
_MODE_INSTRET = LAYOUT.fields["mode_instret"].index
LIMIT = 40_000  # instructions of a probe: L1's are among them, and a timer that is some time away
ENDS = {l1.KILLED: "l2-killed", l1.BROKEN: "l1-dead"}


@dataclass(frozen=True, slots=True)
class HypervisorSees:
    """A trap of L2 as L1's handler found it."""

    cause: int
    epc: int
    tval: int
    htval: int
    htinst: int
    spv: bool
    spvp: bool
    gva: bool
    spp: bool

    @classmethod
    def from_words(cls, words: list[int]) -> HypervisorSees:
        """Return what the words of a note mean."""
        cause, epc, tval, htval, htinst, hstatus, sstatus = words[:7]
        spv, spvp, gva = (bool(hstatus & b) for b in (HSTATUS_SPV, HSTATUS_SPVP, HSTATUS_GVA))
        return cls(cause, epc, tval, htval, htinst, spv, spvp, gva, bool(sstatus & MSTATUS_SPP))

    def as_data(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def read_notes(log: bytes) -> tuple[HypervisorSees, ...]:
    """Return L1's notes from its log: each has a pc, which is never 0."""
    words = memoryview(log).cast("Q").tolist()
    notes = [words[n : n + l1.WORDS] for n in range(0, len(words), l1.WORDS)]
    return tuple(HypervisorSees.from_words(n) for n in notes if n[1])


@dataclass(slots=True)
class Levels:
    """What one nested probe did beyond what a flat one does."""

    seen: Observation
    notes: tuple[HypervisorSees, ...] = ()
    instructions: dict[str, int] = field(default_factory=dict)  # of L1's and L2's modes
    records: list[TrapRecord] = field(default_factory=list)  # with the modes named by level


class NestedProbeVm(ProbeVm):
    """A VM that nests. With `hypervisor` (L1's policy) the probes are L2; without it they are L1 themselves."""

    limit = LIMIT

    def __init__(self, *args: Any, hypervisor: Policy | None = None, **more: Any) -> None:
        self.l1_policy = hypervisor
        self.hypervisor = l1.hypervisor(hypervisor) if hypervisor is not None else None
        self._levels = Levels(Observation(None))  # type: ignore[arg-type]
        super().__init__(*args, nested=True, **more)

    def _assemble(self) -> Image:
        extra = NESTED_EVENTS if self.hypervisor is not None else ()
        return image.build(frozenset(extensions(self.isa)), self.only, extra)

    def _more(self) -> None:
        if self.hypervisor is None:
            return
        self.vm.add_memory(l1.BASE, l1.SIZE)
        self.vm.write_memory(l1.BASE, self.hypervisor.data)
        for gpa in range(l1.BASE, l1.BASE + l1.SIZE, 0x1000):
            self._map(gpa)

    def _start(self, entry: Entry) -> None:
        vm = self.vm
        self._world, self._at = 0, [0] * 8
        vm.on_trap = None  # until the event
        if self.hypervisor is None:
            self.vcpu.reset(entry.start, 0)
            return
        vm.write_memory(l1.LOG, bytes(l1.LOG_SIZE))
        for at, data in self.hypervisor.tables:
            vm.write_memory(at, data)
        self.vcpu.reset(self.hypervisor.start, entry.start)

    def _lost(self, data: int) -> str:
        return ENDS.get(data, "lost")

    def _begin_counting(self) -> Any:
        """From the event on every exit is watched."""
        hart = self.vcpu.hart
        self.vm.on_trap = self._on_trap
        self._world = int(hart.kvm_world)
        self._at = hart.mem[_MODE_INSTRET : _MODE_INSTRET + 8].tolist()
        return super()._begin_counting()

    def _on_trap(self, record: TrapRecord) -> None:
        super()._on_trap(record)
        names = _OF_L2 if self._world else _OF_L1
        self._count(names)
        self._world = int(self.vcpu.hart.kvm_world)
        path = tuple(names.get(mode, mode) for mode in record.path)
        self._levels.records.append(replace(record, path=path, origin=path[0]))

    def _count(self, names: dict[str, str]) -> None:
        hart = self.vcpu.hart
        now = hart.mem[_MODE_INSTRET : _MODE_INSTRET + 8].tolist()
        for mode, flat in ((MODE_VU, "VU"), (MODE_VS, "VS")):
            found = self._levels.instructions
            found[names[flat]] = found.get(names[flat], 0) + now[mode] - self._at[mode]
        self._at = now

    def run_levels(self, entry: Entry) -> Levels:
        """Raise one event and say what happened at each level."""
        self._levels = levels = Levels(Observation(entry))
        levels.seen = seen = self.run(entry)
        # The last record is the write of END, which is not the event's.
        if len(levels.records) > len(seen.records):
            del levels.records[len(seen.records) :]
        if self.hypervisor is not None:
            levels.notes = read_notes(self.vm.read_memory(l1.LOG, l1.LOG_SIZE))
        return levels

"""Running batches of programs in a VM under the policy, each from the same checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import reduce
from operator import or_

from trapline.engine.api import Engine
from trapline.firmware.exit_edges import edges
from trapline.firmware.firmware import Firmware
from trapline.fuzz import image as layout
from trapline.fuzz.image import Image
from trapline.kvm.gstage import PAGE
from trapline.kvm.report.death import Death
from trapline.kvm.report.trace import TrapRecord
from trapline.kvm.run_stop import RunStop
from trapline.kvm.uapi.numbers import Exit, MpState
from trapline.kvm.uapi.slots import SlotKind
from trapline.kvm.uapi.stats import hardware_traps
from trapline.kvm.vcpu import Vcpu
from trapline.kvm.vm import Vm
from trapline.lab.firmware_names import firmware_named
from trapline.lab.nested import image as l1
from trapline.lab.probe import image as probe
from trapline.lab.settings import Settings
from trapline.policies import Policy

LIMIT = 3_000  # instructions of one program, its kernel's among them
_USUAL = 400  # that a program takes
_OTHER = 600  # of another vCPU, behind each turn of the first
_FAR = 1 << 50  # ticks
_EXITS = 64  # to the VMM that a program may make
_FATAL = (Exit.UNKNOWN, Exit.DEBUG)


def vcpus_of(mode: str, nested: Policy | None) -> int:
    """Return how many vCPUs programs have."""
    return 2 if mode == "VS" and nested is None else 1


class End(Enum):
    """How a batch ended."""

    DONE = "done"  # behind its last program
    KILLED = "killed"
    HUNG = "hung"  # the firmware never comes back, or the guest gets nowhere
    LIMIT = "limit"  # instructions are used up
    STOPPED = "stopped"  # the guest powered off, or waits for ever: its own wish
    VMM = "vmm"  # left to a VMM that cannot go on
    L2_KILLED = "l2-killed"  # the hypervisor in the middle ended its guest
    L1_DEAD = "l1-dead"  # it took a trap of its own in its handler


DEADLY = (End.KILLED, End.HUNG, End.VMM, End.L1_DEAD, End.L2_KILLED)


@dataclass(slots=True)
class Outcome:
    """What a batch did: how it ended, in which program, and what the kernel noted."""

    end: End
    at: int  # the program that was under way; the number of programs at the end
    log: bytes
    death: Death | None = None
    records: tuple[TrapRecord, ...] = ()
    what: str = ""
    other: bool = False  # another vCPU than that of the programs is to blame: one of the last programs has started it


class Target:
    """A VM with the kernel of programs in it. Programs of VS have a second vCPU, which is off until one starts it."""

    def __init__(
        self,
        settings: Settings,
        image: Image,
        *,
        isa: str,
        engine: str | Engine = "native",
        nested: Policy | None = None,
        nests: bool = False,
    ) -> None:
        self.settings, self.image, self.isa = settings, image, isa
        firmware = Firmware(firmware_named(settings.firmware), host_fwft=settings.host_fwft)
        self.vm = vm = Vm(
            settings.policy, firmware=firmware, isa=isa, engine=engine, misaligned=settings.misaligned,
            nested=nests or nested is not None, vcpus=vcpus_of(image.mode, nested),
        )  # fmt: skip
        self.engine = vm.engine
        self.limit, self._blamed, self._furthest = LIMIT, False, 0
        vm.add_memory(probe.RAM, probe.RAM_SIZE)
        vm.add_memory(probe.HOLE, probe.HOLE_SIZE, SlotKind.HOLE)
        vm.add_memory(probe.READ_ONLY, probe.READ_ONLY_SIZE, SlotKind.READ_ONLY)
        for at, data in image.parts:
            vm.write_memory(at, data)
        vm.devices = tuple((at, at + PAGE) for at in (probe.FINISHER, layout.MMIO))
        vm.serve_mmio(lambda *_: 0, [(layout.MMIO, layout.MMIO + PAGE, None)])
        for gpa in range(probe.RAM, probe.RAM + layout.MAPPED, PAGE):
            slot = vm.slots.find(gpa)
            assert slot is not None
            vm.map_page(slot, gpa, write=True)
        start, opaque = image.start, 0
        if nested is not None:
            hypervisor = l1.hypervisor(nested)
            vm.add_memory(l1.BASE, l1.SIZE)
            vm.write_memory(l1.BASE, hypervisor.data)
            for at, data in hypervisor.tables:
                vm.write_memory(at, data)
            start, opaque, self.limit = hypervisor.start, start, 10 * LIMIT
        for vcpu in vm.vcpus:
            vcpu.hart.edges_wanted = 1
        self.vcpu.reset(start, opaque)
        self.vcpu.vmm_waits = True  # devices are served while KVM_RUN waits
        self._log = vm.memory_view(layout.LOG, layout.LOG_SIZE)
        self._index = vm.memory_view(layout.INDEX, 8).cast("Q")
        self.vcpu.run(2)  # what is decided when a vCPU first runs is not to be decided behind each return
        vm.checkpoint()

    @property
    def vcpu(self) -> Vcpu:
        """The vCPU that runs the programs."""
        return self.vm.vcpus[0]

    @property
    def henvcfg(self) -> int:
        """What the guest's envcfg lets it do, once it has run."""
        return self.vcpu.config.henvcfg

    def run(self, programs: Sequence[bytes], zoo: int = 0) -> Outcome:
        """Run these programs from the checkpoint."""
        vm = self.vm
        vm.rewind()
        for at, data in self.image.batch(programs, zoo):
            vm.write_memory(at, data)
        end, what = self._run(len(programs))
        if end is End.DONE:  # what the last program has started
            end, what = self._others() or (end, what)
        at = len(programs) if end is End.DONE else max(1, int(self._index[0]), self._furthest) - 1
        log = bytes(self._log[: layout.STRIDE * len(programs)])
        records = () if end is End.DONE else tuple(vm.last_traps)
        death = next((v.death for v in vm.vcpus if v.death is not None), None)
        return Outcome(end, at, log, death, records, what, self._blamed)

    def _others(self) -> tuple[End, str] | None:
        """Let the other vCPUs run, if they have been started; say how one ended that must not end so."""
        died = next(filter(None, map(self._turn, self.vm.vcpus[1:])), None)
        self._blamed = died is not None
        return died

    def _turn(self, vcpu: Vcpu) -> tuple[End, str] | None:
        for _ in range(_EXITS):
            if vcpu.mp_state is MpState.STOPPED:
                return None
            vcpu.hart.kvm_turn_until, vcpu.hart.kvm_turn_last = _FAR, int(vcpu.hart.instret) + _OTHER
            stop = vcpu.run(_OTHER)
            if stop is RunStop.ERROR:
                return End.KILLED, ""
            if stop is RunStop.HUNG:
                return End.HUNG, "the firmware never comes back"
            if stop is not RunStop.EXIT:
                return None
            run = vcpu.kvm_run
            if run.exit_reason is Exit.SYSTEM_EVENT:
                return End.STOPPED, "powers off"
            if run.exit_reason not in (Exit.MMIO, Exit.RISCV_SBI, Exit.RISCV_CSR):
                return End.VMM, f"KVM_EXIT_{run.exit_reason.name}"
            run.mmio.data = 0
        return None

    def _run(self, programs: int) -> tuple[End, str]:
        vcpu, exits, under_way = self.vcpu, _EXITS, -1
        self._furthest = 0
        several = len(self.vm.vcpus) > 1
        limit = self.limit if several else self.limit + _USUAL * programs
        for _ in range(_EXITS * (programs + 2)):  # with exits, a kernel that begins again never comes to a limit
            # A turn of its own, or KVM_RUN would come back behind each access to a device.
            vcpu.hart.kvm_turn_until, vcpu.hart.kvm_turn_last = _FAR, int(vcpu.hart.instret) + limit
            stop = vcpu.run(limit)
            if several and stop is not RunStop.ERROR and (died := self._others()) is not None:
                return died
            if stop is RunStop.EXIT:
                ended, now = self._exit(), int(self._index[0])
                exits = exits - 1 if now == under_way else _EXITS
                under_way = now
                if ended is None and exits > 0:
                    continue
                return ended or (End.LIMIT, "it leaves to the VMM for ever")
            if stop is RunStop.LIMIT:
                limit, now = self.limit, int(self._index[0])
                if now <= self._furthest:  # one that writes into its kernel may have it begin again, for ever
                    return End.LIMIT, "it does not end"
                self._furthest = now
            if stop is RunStop.BLOCKED:
                tick = vcpu.timer.deadline()
                if tick is None:
                    return End.STOPPED, "waits for ever"
                vcpu.advance(tick)
            elif stop is RunStop.ERROR:
                return End.KILLED, ""
            elif stop is RunStop.HUNG:
                return End.HUNG, "the firmware never comes back"
        return End.LIMIT, "it leaves to the VMM for ever"

    def _exit(self) -> tuple[End, str] | None:
        run = self.vcpu.kvm_run
        reason = run.exit_reason
        if reason is Exit.MMIO:
            mmio = run.mmio
            if mmio.phys_addr == probe.FINISHER and mmio.is_write:
                found = {layout.END: End.DONE, l1.KILLED: End.L2_KILLED, l1.BROKEN: End.L1_DEAD}
                return found.get(mmio.data, End.STOPPED), ""
            mmio.data = 0
            return None
        if reason in (Exit.RISCV_SBI, Exit.RISCV_CSR):
            return None
        if reason is Exit.SYSTEM_EVENT:
            return End.STOPPED, "powers off"
        return End.VMM, f"KVM_EXIT_{reason.name}"

    def covered(self) -> set[object]:
        """Return what the last run reached: routes of traps, and what hardware delegated."""
        found: set[object] = set(self.vm.routes())
        found.update(hardware_traps(self.vcpu.hart))
        return found

    def edges(self) -> int:
        """Return which exits of the last run came behind which, as the bits of a number."""
        return reduce(or_, (edges(vcpu.hart) for vcpu in self.vm.vcpus))

"""A virtual machine: memory slots, the G-stage table, VMID, vCPUs (vm.c, mmu.c)."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Unpack

from trapline.engine.api import Engine, open_engine
from trapline.engine.stop_points import Stopped
from trapline.firmware.firmware import Firmware
from trapline.firmware.models import DEFAULT_MODEL
from trapline.kvm.actions import ActionFunction, actions_of, check_function
from trapline.kvm.aia.aia import IRQCHIP_FEATURE, GuestLines
from trapline.kvm.aia.aia_device import AiaDevice
from trapline.kvm.exits.io_bus import IoBus
from trapline.kvm.exits.native_setup import collect, record_of
from trapline.kvm.gstage import MODE_NUMBERS, MODES, PAGE, GStage, TableMemory
from trapline.kvm.nested.setup import pool_size
from trapline.kvm.report.trace import TrapRecord
from trapline.kvm.schedule import VmSchedule
from trapline.kvm.spec import NO_AIA, VmOptions, VmSpec
from trapline.kvm.uapi.dirty_log import DirtyLogs
from trapline.kvm.uapi.slots import SlotTable
from trapline.kvm.uapi.stats import GENERIC_VM, Route, total
from trapline.kvm.uapi.stats_fd import stats_file, vm_descriptors
from trapline.kvm.vcpu import Vcpu
from trapline.kvm.vm_memory import BACKING_BASE, BACKINGS, VmMemory, VmSlots
from trapline.kvm.vm_running import VmRunning
from trapline.kvm.vmid import Vmid, VmidSpace
from trapline.lang.given import require_kind
from trapline.lang.state import Hart
from trapline.lang.state.words import EXIT_RING
from trapline.lang.values import MASK64
from trapline.machine.devices.clint import time_of
from trapline.machine.devices.imsic import ImsicWindow
from trapline.machine.making import set_up
from trapline.machine.memory_map import IMSIC_S_BASE
from trapline.machine.spec import chosen
from trapline.policies import DEFAULT_POLICY, Action, Policy, PolicyError, load_policy
from trapline.policies.causes import name, unimplemented
from trapline.privilege.causes import GUEST_PAGE_FAULTS
from trapline.privilege.csr import csr_read, csr_write
from trapline.privilege.csr_numbers import HEDELEG, HGATP
from trapline.privilege.imsic import FILE_S
from trapline.session.memory_view import Memory
from trapline.session.regions import Regions
from trapline.session.schedule import NoTurns, Turns
from trapline.session.state.checkpoint import Rewindable
from trapline.session.state.plain_types import U64

# Host physical addresses: page tables from here, guest memory from there up.
TABLES_BASE, TABLES_SIZE = 0x8000_0000, 64 << 20
HOST_IMSIC_BASE = IMSIC_S_BASE
LAST_TRAPS = EXIT_RING
LOG_LINES = 1000  # of the host kernel that are kept


class Vm(VmSlots, VmRunning):
    """A VM under a trap policy, on simulated harts of its own.

    `on_trap = function` has it called with a TrapRecord for each trap that leaves the guest, its whole route; called,
    as `on_trap(function, causes=...)`, it is a hook on traps that the hart takes (session.hooks).
    """

    snapshot_skips = (
        *"spec policy actions engine notes told_of_traps told_late symbols mem on_log on_idle".split(),
        *"poll turns goal stopped_by".split(),
        *("isa", "timebase", "host_imsic", "backing", "mmio_windows", "_backing_end", "_imsic_pages"),
        *("nested", "nacl", "_pools", "_checkpoints", "_running", "user_space", "on_stop", "schedule", "_complete"),
    )
    snapshot_types: ClassVar = {
        "_hgatp": dict[U64, U64],
        "_last": deque[TrapRecord | tuple[U64, tuple[U64, ...]]],
        "log_lines": deque[str],
        "open_round": tuple[U64, U64] | None,
    }

    def __init__(
        self,
        policy: Policy | str | Path = DEFAULT_POLICY,
        *,
        firmware: Firmware | str = DEFAULT_MODEL,
        engine: str | Engine = "native",
        spec: VmSpec | None = None,
        **fields: Unpack[VmOptions],
    ) -> None:
        require_kind("firmware", firmware, str, Firmware)
        require_kind("policy", policy, str, Path, Policy)
        self.spec = spec = chosen(spec, VmSpec, fields)
        host_aia = spec.host_aia
        self.policy = policy if isinstance(policy, Policy) else load_policy(policy)
        self.require_mapping()
        self.nested = spec.nested or self.policy.nested != "off"
        self.nacl: tuple[str, ...] = self.policy.nacl if spec.nacl is None else spec.nacl
        if self.nested and host_aia.kind != NO_AIA.kind:
            raise ValueError(f"a guest that nests has no AIA yet: --aia {NO_AIA.kind}, not {host_aia.kind}")
        self.engine = open_engine(engine)
        self.firmware = firmware if isinstance(firmware, Firmware) else Firmware(firmware, host_fwft=spec.host_fwft)
        self.isa, self.timebase, self.host_imsic = host_aia.isa(spec.isa), spec.timebase, host_aia.imsic
        self.regions = Regions()
        self.regions.written = self.engine.code_written
        self.tables = TableMemory(self.regions.ram("page tables", TABLES_BASE, TABLES_SIZE, no_execute=True))
        self.io_bus = IoBus()
        self.generic_stats = dict.fromkeys(GENERIC_VM, 0)
        # The last traps: records, or the vCPU and the words of exits that the subset handled.
        self._last: deque[TrapRecord | tuple[int, tuple[int, ...]]] = deque(maxlen=LAST_TRAPS)
        self.actions = actions_of(self.policy)  # by cause: functions in the place of the policy's own words
        self.mmio_windows: tuple[tuple[int, int, object], ...] = ()
        self.devices: tuple[tuple[int, int], ...] | None = None  # where the VMM has devices; None if it does not say
        self.log_lines: deque[str] = deque(maxlen=LOG_LINES)
        self.told_of_traps: Callable[[TrapRecord], object] | None = None
        self.told_late = False  # some exits at a time, in order: it looks at nothing but the records
        self.symbols: dict[str, int] = {}
        self.mem = Memory(VmMemory(self))
        # Asked now and then by a vCPU that takes one exit after another: whether KVM_RUN should come back.
        self.poll: Callable[[], bool] | None = None
        self.goal: tuple[int, int] | None = None  # a vCPU, and the instret at which `run` comes back for it, once
        self.stopped_by: Stopped | None = None  # for which stop a vCPU came back last
        self.on_stop: Callable[[Vcpu], None] | None = None
        self.user_space: Rewindable | None = None  # whose checkpoints are the VM's, too
        # Asked when every vCPU blocks: whether to come back instead of passing the time to the next timer.
        self.on_idle: Callable[[], bool] | None = None
        self.on_log: Callable[[str], None] | None = None
        self.open_round: tuple[int, int] | None = None  # kvm.schedule
        self.turns: Turns = NoTurns()
        self._backing_end = BACKING_BASE
        harts = [self._make_hart(n) for n in range(spec.vcpus)]
        if harts[0].has_h == 0:
            raise ValueError(f"isa {spec.isa!r} has no H extension: a guest needs it")
        self._harts = harts
        self.hgei = GuestLines(int(harts[0].geilen))
        self._imsic_pages = 1 << host_aia.guest_bits
        if host_aia.imsic:
            window = ImsicWindow(harts, FILE_S, host_aia.guests)
            self.regions.device("imsics", HOST_IMSIC_BASE, window.size, window)
            for hart in harts:
                self.regions.install(hart)
                self.engine.attach(hart)
        self.time_delta = -time_of(harts[0]) & MASK64
        self.gstage = GStage(self.tables, self._gstage_mode(harts[0], spec.gstage))
        self.slots = SlotTable(self.gstage.gpa_bits)
        self.choose_backing(spec.backing)
        self.dirty_logs = DirtyLogs(self)
        self.vmid, self.vmids = Vmid(), VmidSpace(int(harts[0].vmid_bits))
        self._hgatp: dict[int, int] = {}
        self.notes = self.policy_notes(harts[0])
        self.aia: AiaDevice | None = None
        self._pools = self.tables.reserve(pool_size(spec.vcpus)) if self.nested else 0
        # In the order in which KVM_CREATE_VCPU made them; their ids are the guest's hart ids.
        ids = range(spec.vcpus) if spec.vcpu_ids is None else spec.vcpu_ids
        self.vcpus = [Vcpu(self, n, hart) for n, hart in zip(ids, harts, strict=True)]
        self.schedule = VmSchedule(self)
        self._complete = True

    def __repr__(self) -> str:
        return f"<Vm of {self.policy.name}, {len(self.vcpus)} vCPU{'s'[: len(self.vcpus) != 1]}>"

    @property
    def time_delta(self) -> int:
        """What is added to the host's time for the guest's."""
        return int(self._harts[0].kvm_time_delta)

    @time_delta.setter
    def time_delta(self, value: int) -> None:
        for hart in self._harts:
            hart.kvm_time_delta = value

    def require_mapping(self) -> None:
        """Without a rule that maps guest page faults no guest runs: its first fetch would never succeed."""
        for cause in GUEST_PAGE_FAULTS:
            if self.policy.rule(cause).action is not Action.MAP:
                raise PolicyError(
                    f"policy {self.policy.name!r} does not map {name(cause)} ({self.policy.rule(cause).action.value}): "
                    "no guest can run under it (extend a preset)"
                )

    # --- harts ---
    def _make_hart(self, number: int) -> Hart:
        hart = Hart()
        set_up(hart, number, TABLES_BASE, self.spec, self.spec.host_aia)
        hart.hosted_hs = 1
        self.regions.install(hart)
        self.engine.attach(hart)
        self.firmware.setup(hart, TABLES_BASE)
        return hart

    def _gstage_mode(self, hart: Hart, wanted: str) -> int:
        """Probe hgatp from the deepest mode down, as KVM does when it is loaded."""
        found = [mode for mode in sorted(MODES, reverse=True) if self._mode_sticks(hart, mode)]
        if not found:
            raise ValueError(f"isa {self.isa!r} offers no G-stage mode")
        if wanted == "auto":
            return found[0]
        if MODE_NUMBERS[wanted] not in found:
            raise ValueError(f"gstage {wanted!r}: isa {self.isa!r} offers {', '.join(MODES[m][0] for m in found)}")
        return MODE_NUMBERS[wanted]

    @staticmethod
    def _mode_sticks(hart: Hart, mode: int) -> bool:
        hart.call(csr_write, HGATP, mode << 60)
        sticks = int(hart.call(csr_read, HGATP)) >> 60 == mode
        hart.call(csr_write, HGATP, 0)
        return sticks

    def policy_notes(self, hart: Hart) -> tuple[str, ...]:
        """Say which bits of the policy's hedeleg this hart does not keep."""
        hart.call(csr_write, HEDELEG, self.policy.hedeleg)
        kept = int(hart.call(csr_read, HEDELEG))
        lost = unimplemented(self.policy.hedeleg, kept)
        notes = [f"hedeleg bit {n} ({name(n)}) is read-only zero on this hart" for n in lost]
        return (*notes, *(f"{n.name}: {n.note or n.source}" for n in self.policy.notes))

    @property
    def host_delegates_misaligned(self) -> bool:
        """Whether the host kernel got misaligned exceptions delegated to itself (FWFT)."""
        return self.firmware.host_fwft_granted

    def vcpu(self, vcpu_id: int) -> Vcpu:
        """Return a vCPU; ValueError if there is none of that number."""
        for vcpu in self.vcpus:
            if vcpu.id == vcpu_id:
                return vcpu
        raise ValueError(f"no vCPU {vcpu_id} (there are {', '.join(str(v.id) for v in self.vcpus)})")

    def update_hgatp(self, vcpu: Vcpu) -> None:
        """Take a VMID if the VM has none that is current, and load hgatp."""
        if self.vmids.update(self.vmid):
            self.flush_all()
        value = self.gstage.hgatp(self.vmid.vmid)
        if self._hgatp.get(vcpu.id) != value:
            self._hgatp[vcpu.id] = value
            vcpu.hart.kvm_hgatp = value
            vcpu.hart.call(csr_write, HGATP, value)

    def shadow_pool(self, hart: Hart) -> int:
        """Host physical address of the pages for a hart's shadow tables (kvm.nested)."""
        return self._pools + self._harts.index(hart) * pool_size(1)

    # --- AIA ---
    def create_aia(self) -> AiaDevice:
        """KVM_CREATE_DEVICE of KVM_DEV_TYPE_RISCV_AIA; ValueError says why there is none."""
        if not self.policy.has_feature(IRQCHIP_FEATURE):
            raise ValueError(f"policy {self.policy.name!r} has no interrupt controllers of the AIA in the kernel")
        if self.aia is not None or self.vcpus[0].hart.has_ssaia == 0 or any(v.ran_once for v in self.vcpus):
            raise ValueError("the AIA device exists already, vCPUs have run, or the harts have no Ssaia")
        self.aia = AiaDevice(self)
        return self.aia

    def vsfile_page(self, vcpu: Vcpu, line: int) -> int:
        """Host physical address of a guest interrupt file of the vCPU's hart."""
        return HOST_IMSIC_BASE + (vcpu.id * self._imsic_pages + line) * PAGE

    def ioremap(self, gpa: int, hpa: int) -> None:
        """Map a page of a device into the guest."""
        self.gstage.map(gpa, hpa, 0, writable=True)
        self.flush_all()

    def iounmap(self, gpa: int) -> None:
        """Take it away."""
        self.gstage.unmap(gpa, PAGE)
        self.flush_all()

    # --- memory ---
    # --- snapshots ---
    def snapshot(self, path: str | Path) -> int:
        """Write the whole VM to one file, between two instructions; return its size in bytes.

        SnapshotError if the file cannot be written; a file that was there before stays then.
        """
        from trapline.kvm.snapshot import snapshot_vm

        return snapshot_vm(self, path)

    @classmethod
    def restore(
        cls,
        path: str | Path,
        *,
        engine: str | Engine = "native",
        policy: Policy | str | Path | None = None,
        trust_files: bool = False,
    ) -> Vm:
        """Return the VM in a snapshot, which goes on as the saved one would have, or under another policy.

        A saved policy with functions of its own runs Python files of this host: only where `trust_files` vouches
        for whoever made the snapshot.
        """
        from trapline.kvm.snapshot import restore_vm

        return restore_vm(cls, path, engine, policy, trust_files)

    # --- watching ---
    def record(self, vcpu: Vcpu, record: TrapRecord) -> None:
        """Account for a trap that left the guest."""
        vcpu.stats.record(record)
        self._last.append(record)
        if self.told_of_traps is not None:
            self.told_of_traps(record)

    @property
    def last_traps(self) -> deque[TrapRecord]:
        """The last traps that left a guest, the newest last."""
        records = (record_of(self, *r) if isinstance(r, tuple) else r for r in self._last)
        return deque(records, maxlen=LAST_TRAPS)

    def note_native(self, vcpu_id: int, entries: list[tuple[int, ...]]) -> None:
        """Exits were handled by kvm.exits.native_exit."""
        self._last.extend((vcpu_id, words) for words in entries)
        if self.told_of_traps is not None:
            for words in entries:
                self.told_of_traps(record_of(self, vcpu_id, words))

    def set_action(self, cause: int, function: ActionFunction) -> None:
        """Let a subset function (kvm.actions) deal with a cause that reaches HS-mode, in the rule's place."""
        self.actions[cause] = check_function(function, getattr(function, "__name__", repr(function)))
        for vcpu in self.vcpus:
            vcpu.native_policy = None

    def fold_native(self) -> None:
        """Take over everything that hosted exits have counted: the harts' words that hold it are not saved."""
        self.firmware.fold()
        for vcpu in self.vcpus:
            collect(vcpu)
            vcpu.stats.fold(vcpu.hart)
            vcpu.stats.fold_routes(vcpu.hart)
            vcpu.native_seen = vcpu.hart.exit_ring_at = 0

    def routes(self) -> Counter[Route]:
        """Return how often traps that left a guest took each route."""
        return sum((v.stats.all_routes(v.hart) for v in self.vcpus), Counter())

    def firmware_instructions(self) -> Counter[Route]:
        """Return the instructions that firmware is estimated to have executed for the traps of each route."""
        return sum((v.stats.all_firmware(v.hart) for v in self.vcpus), Counter())

    def serve_mmio(
        self, serve: Callable[[Vcpu, int, int, bool, int], int], windows: Sequence[tuple[int, int, object]]
    ) -> None:
        """Name addresses that the VMM serves at once, while KVM_RUN waits: up to eight firsts and ends with the device.

        Native code itself calls a device whose registers are compiled (lang.devices). For others
        `serve` gets the vCPU, address, size, whether it is a store, and the data; it returns a load's.
        The VMM is told of such an access either way: as KVM_EXIT_MMIO where exits are handled in Python.
        """
        if len(windows) > 8:
            raise ValueError(f"{len(windows)} windows: expected up to 8")
        self.mmio_windows = tuple(windows)
        for vcpu in self.vcpus:
            vcpu.hart.on_mmio = _server(vcpu, serve)  # type: ignore[method-assign, assignment]

    def has_device(self, gpa: int, size: int) -> bool:
        """Whether KVM or the VMM has a device at a guest physical address; a VMM may have said nothing of that."""
        in_kernel = self.io_bus.find(gpa, size) is not None
        return in_kernel or self.devices is None or any(a <= gpa and gpa + size <= b for a, b in self.devices)

    def log(self, line: str) -> None:
        """Write a line to the host kernel's log."""
        self.log_lines.append(line)
        if self.on_log is not None:
            self.on_log(line)

    def stats(self) -> dict[str, int]:
        """Return the counters of all vCPUs summed, and the VM's own."""
        return {**total(v.stats.snapshot(v.hart) for v in self.vcpus), **self.generic_stats, **self._gstage_stats()}

    def kvm_stats(self) -> dict[str, int]:
        """Return those of `stats` that KVM counts, and the blocks that are mapped: what is cheap to ask for often."""
        for vcpu in self.vcpus:
            vcpu.stats.fold(vcpu.hart)
        counted = total({**v.stats.kvm, **v.stats.generic} for v in self.vcpus)
        return {**counted, **self.generic_stats, **self._gstage_stats()}

    def _gstage_stats(self) -> dict[str, int]:
        """Blocks that are mapped now, by size, and how many were split; KVM for RISC-V counts neither."""
        sizes = {f"trapline/gstage/{name}": self.gstage.leaves[level] for name, level in BACKINGS.items()}
        return {name: n for name, n in {**sizes, "trapline/gstage/splits": self.gstage.splits}.items() if n}

    def stats_fd(self) -> bytes:
        """KVM_GET_STATS_FD of the VM: what its file holds now."""
        return stats_file("kvm-0", vm_descriptors(), self.generic_stats)

    @property
    def instructions(self) -> int:
        """Instructions that all vCPUs have attempted."""
        return sum(int(v.hart.instret) for v in self.vcpus)


def _server(vcpu: Vcpu, serve: Callable[[Vcpu, int, int, bool, int], int]) -> Callable[[int, int, int], int]:
    noted = vcpu.vm.schedule.noted
    return lambda gpa, how, data: noted(serve(vcpu, gpa, how & 0xFF, bool(how >> 8), data))

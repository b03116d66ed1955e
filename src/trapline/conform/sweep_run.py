"""Running sweeps: under a real kernel on the board, and under a preset."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from trapline.conform.board import Host, Run, Session
from trapline.conform.seen import PREFIX
from trapline.conform.sweep import (
    CONTROL,
    CURSOR,
    RECORD,
    RECORDS,
    SET_SIP,
    TAKE_AWAY,
    YIELD,
    Item,
    Sweep,
    build,
    slots,
)
from trapline.engine.api import Engine
from trapline.firmware.firmware import Firmware
from trapline.kvm.run_stop import RunStop
from trapline.kvm.uapi.numbers import Exit, MpState
from trapline.kvm.uapi.onereg import CORE, CSR, SBI_EXT, OneRegError, get_one_reg, reg_id, set_one_reg
from trapline.kvm.uapi.slots import SlotKind
from trapline.kvm.vcpu import Vcpu
from trapline.kvm.vm import Vm
from trapline.lab.errors import UsageError
from trapline.lab.probe import image as probe
from trapline.lab.settings import Settings
from trapline.lang.values import MASK64
from trapline.sbi.numbers import Eid

EXTENSIONS = 16  # SBI extensions of KVM that are asked for
PATIENCE = 100_000  # instructions of one item
MODE, VS_MODE, SIP = 32, 1, 7
_KINDS = {"ram": SlotKind.RAM, "hole": SlotKind.HOLE, "ro": SlotKind.READ_ONLY, "none": SlotKind.NONE}
BASE_PROBE, V01_FIRST = 3, 0
# Asked first: SBI v0.1 is a matter of how the kernel was built (RISCV_SBI_V01), of which ONE_REG says nothing.
BUILT = Sweep(
    "built",
    "what the kernel was built with",
    (Item("BASE probe_extension 0", "call", (V01_FIRST, 0, 0, 0, 0, 0, BASE_PROBE, Eid.BASE)),),
    {"call": "  ecall\n  jr ra\n"},
)


@dataclass(frozen=True, slots=True)
class End:
    """KVM_RUN came back while an item was under way: an exit with its fields, a kill, or it hung."""

    item: int
    how: str  # exit, killed, hung
    number: int  # exit reason or errno
    fields: tuple[Any, ...]  # of an exit; of a kill the kernel's lines

    def __str__(self) -> str:
        if self.how == "exit":
            return f"exit {self.number} ({', '.join(f'{f:#x}' for f in self.fields)})"
        return self.how if self.how == "hung" else f"killed -{self.number}: {' / '.join(self.fields)}"


@dataclass(slots=True)
class SweepSeen:
    """What a sweep did on one side."""

    records: list[tuple[int, ...]] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)
    stats: dict[str, int] = field(default_factory=dict)
    extensions: list[int] = field(default_factory=list)  # 1, 0 or -errno, by KVM's index
    v01: bool = True  # the kernel was built with SBI v0.1 for guests


def run_sweeps(
    host: Host, sweeps: Sequence[Sweep], progress: Callable[[int, int], None] = lambda done, total: None
) -> tuple[Run, list[SweepSeen]]:
    """Boot a host, run the sweeps under its KVM, and return what was seen of each."""
    sweeps = [BUILT, *sweeps]
    images = [build(s) for s in sweeps]
    files: dict[str, bytes] = {}
    for n, image in enumerate(images):
        files |= {f"sweep-{n}.bin": image.data, f"sweep-{n}.txt": image.manifest.encode()}
    seen: list[SweepSeen] = []

    def line(found: dict[str, Any]) -> None:
        if "sweep" in found:
            ends = [End(at, how, number, _fields(how, more)) for at, how, number, more in found["ends"]]
            seen.append(SweepSeen([], ends, found["stats"], found["extensions"]))
            progress(len(seen), len(sweeps))

    # A sweep's line is long: the kernel's own messages must not come into it.
    quiet = replace(host, append=f"{host.append} loglevel=1")
    session = Session(quiet, files, "sweeps", on_line=line)
    run = session.go()
    if len(seen) != len(sweeps):
        raise UsageError(f"the KVM user program reported {len(seen)} of {len(sweeps)} sweeps")
    for one, data in zip(seen, run.handed_over, strict=True):
        one.records = list(RECORD.iter_unpack(data))
    for one in seen:
        one.v01 = seen[0].records[0][2] != 0
    return run, seen[1:]


def _fields(how: str, more: list[Any]) -> tuple[Any, ...]:
    return tuple(more) if how == "exit" else tuple(PREFIX.sub("", text) for text in more)


class HostedSweep:
    """One sweep under a preset, with the SBI extensions that the real kernel was built with."""

    def __init__(self, settings: Settings, isa: str, sweep: Sweep, v01: bool, engine: str | Engine = "native") -> None:
        self.sweep, self.image = sweep, build(sweep)
        firmware = Firmware(settings.firmware, host_fwft=settings.host_fwft)
        self.vm = Vm(
            settings.policy, firmware=firmware, isa=isa, engine=engine, misaligned=settings.misaligned,
            vcpus=len(sweep.vcpus), vcpu_ids=sweep.vcpus,
        )  # fmt: skip
        for gpa, size, kind, _ in slots(sweep):
            self.vm.add_memory(gpa, size, _KINDS[kind])
        self.vm.write_memory(probe.RAM, self.image.data)
        self.engine = self.vm.engine
        self.vcpu: Vcpu = self.vm.vcpus[0]
        self.vcpu.reset(self.image.start, 0)
        for n in sweep.enable:
            with contextlib.suppress(OneRegError):  # this version does not have it
                set_one_reg(self.vcpu, reg_id(SBI_EXT, n), 1)
        self.seen = SweepSeen(extensions=[self._extension(n) for n in range(EXTENSIONS)], v01=v01)
        for vcpu in self.vm.vcpus:
            if not v01:
                vcpu.sbi.leave_out_v01()

    def _extension(self, number: int) -> int:
        try:
            return get_one_reg(self.vcpu, reg_id(SBI_EXT, number))
        except OneRegError as error:
            return -int(error.errno or 0)

    def cursor(self) -> int:
        """Return the item that is under way."""
        return int(struct.unpack("<Q", self.vm.read_memory(CURSOR, 8))[0])

    def run(self) -> SweepSeen:
        """Run all items."""
        hart, last = self.vcpu.hart, (-1, 0)
        before = self.vcpu.stats.snapshot(hart)
        while (now := self.cursor()) < len(self.sweep.items):
            if last[0] != now:
                last = (now, int(hart.instret))
            stop = self.vcpu.run(PATIENCE)
            if stop is RunStop.EXIT:
                if self._writes(probe.FINISHER):
                    break
                if self._writes(CONTROL):
                    self._obey(self.vcpu.kvm_run.mmio.data)
                else:
                    self._exit()
            elif stop is RunStop.ERROR:
                assert self.vcpu.death is not None
                self._end(End(self.cursor(), "killed", self.vcpu.death.errno, tuple(self.vcpu.death.log)))
            elif stop is RunStop.BLOCKED or (self.cursor() == last[0] and int(hart.instret) - last[1] >= PATIENCE):
                self._others()
                if stop is RunStop.BLOCKED and self.vcpu.mp_state is MpState.RUNNABLE:
                    self.vcpu.blocked = False  # a signal to the VMM ends a halt (-EINTR); the guest goes on behind it
                    continue
                self._end(End(self.cursor(), "hung", 0, ()))
            else:
                self._others()
        self._finish(before)
        return self.seen

    def _others(self) -> None:
        """Give the other vCPUs a turn."""
        for other in self.vm.vcpus[1:]:
            if other.mp_state is MpState.RUNNABLE:
                other.run(PATIENCE)

    def _finish(self, before: dict[str, int]) -> None:
        after = self.vcpu.stats.snapshot(self.vcpu.hart)
        self.seen.stats = {
            n: v - before.get(n, 0) for n, v in after.items() if v != before.get(n, 0) and not n.startswith("trapline/")
        }
        data = self.vm.read_memory(RECORDS, len(self.sweep.items) * RECORD.size)
        self.seen.records = list(RECORD.iter_unpack(data))

    def _writes(self, address: int) -> bool:
        run = self.vcpu.kvm_run
        return run.exit_reason is Exit.MMIO and run.mmio.is_write and run.mmio.phys_addr == address

    def _obey(self, word: int) -> None:
        """What the guest asks of its VMM by a store to the control address."""
        what, which = word & 0xFF, word >> 8
        if what == YIELD:
            self._others()
        elif what == TAKE_AWAY:
            slot = self.vm.slots.number(which)
            assert slot is not None
            self.vm.take_away(slot)
        elif what == SET_SIP:
            set_one_reg(self.vcpu, reg_id(CSR, SIP), 0 if which else MASK64)

    def _exit(self) -> None:
        run = self.vcpu.kvm_run
        item = self.cursor()
        fields: tuple[int, ...] = ()
        if run.exit_reason is Exit.MMIO:
            fields = (run.mmio.phys_addr, run.mmio.length, int(run.mmio.is_write))
            run.mmio.data = run.mmio.data if run.mmio.is_write else 0
        elif run.exit_reason is Exit.RISCV_SBI:
            fields = (run.riscv_sbi.extension_id, run.riscv_sbi.function_id, *run.riscv_sbi.args)
        elif run.exit_reason is Exit.RISCV_CSR:
            fields = (run.riscv_csr.csr_num, run.riscv_csr.new_value, run.riscv_csr.write_mask)
            run.riscv_csr.ret_value = 0
        elif run.exit_reason is Exit.SYSTEM_EVENT:
            fields = (int(run.system_event.type), *(d & MASK64 for d in run.system_event.data))
        end = End(item, "exit", int(run.exit_reason), fields)
        if run.exit_reason in (Exit.MMIO, Exit.RISCV_SBI, Exit.RISCV_CSR):
            self.seen.ends.append(end)
        else:
            self._end(end)

    def _end(self, end: End) -> None:
        """The item is over, without its return: go on with the next one."""
        self.seen.ends.append(end)
        self.vm.write_memory(CURSOR, struct.pack("<Q", self.cursor() + 1))
        vcpu = self.vcpu
        vcpu.death = None
        vcpu.blocked = False
        vcpu.set_mp_state(MpState.RUNNABLE)
        set_one_reg(vcpu, reg_id(CORE, MODE), VS_MODE)
        set_one_reg(vcpu, reg_id(CORE, 0), self.image.start)


def run_hosted_sweeps(
    settings: Settings, isa: str, sweeps: Sequence[Sweep], v01: bool, engine: str | Engine = "native"
) -> list[SweepSeen]:
    """Run the sweeps under a preset, with SBI v0.1 if the real kernel was built with it."""
    found = []
    for sweep in sweeps:
        hosted = HostedSweep(settings, isa, sweep, v01, engine)
        found.append(hosted.run())
        engine = hosted.engine if engine == "native" else engine
    return found

"""A guest under a preset, served as the small VMM of the KVM user program does (guests/kvm-user/linux.c)."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field

from trapline.engine.api import Engine
from trapline.firmware.firmware import Firmware
from trapline.kvm.uapi.numbers import Exit, SystemEvent
from trapline.kvm.uapi.onereg import SBI_EXT, OneRegError, reg_id, set_one_reg
from trapline.kvm.vcpu import Vcpu
from trapline.kvm.vm import Vm
from trapline.lab.settings import Settings
from trapline.machine.devices.clint import time_of
from trapline.machine.memory_map import RAM_BASE as RAM
from trapline.vmm.sbi_calls import ForwardedCalls

UART, SBI_EXT_DBCN = 0x1000_0000, 9
SILENCE, MOST_WRITTEN = 3, 128 << 10  # seconds of the guest's time; bytes
SHUTDOWN, RESET, SILENT, FULL = "shutdown", "reset", "silent", "console full"
UNKNOWN = "an exit that this VMM does not know"


@dataclass(frozen=True, slots=True)
class GuestFiles:
    """A guest in memory: offsets count from the start of its RAM."""

    memory: int
    kernel: bytes
    kernel_at: int
    entry: int
    initrd: bytes
    initrd_at: int
    tree: bytes
    tree_at: int


@dataclass(slots=True)
class HostedGuest:
    """How the guest ended under a preset."""

    settings: Settings
    end: str = ""
    console: bytearray = field(default_factory=bytearray)
    kernel_log: list[str] = field(default_factory=list)
    exits: int = 0
    mmio: int = 0
    sbi: int = 0


class _Uart:
    """An 8250 that never interrupts and whose transmitter is always empty."""

    def __init__(self, output: bytearray) -> None:
        self._output, self._lcr, self._ier = output, 0, 0

    def load(self, offset: int) -> int:
        match offset:
            case 1:
                return self._ier
            case 2:
                return 0x02 if self._ier & 0x02 else 0x01
            case 3:
                return self._lcr
            case 5:
                return 0x60
        return 0

    def store(self, offset: int, value: int) -> None:
        if offset == 3:
            self._lcr = value
        elif offset == 1 and not self._lcr & 0x80:
            self._ier = value
        elif offset == 0 and not self._lcr & 0x80:
            self._output.append(value)


class _Vmm:
    due: int | None

    def __init__(self, seen: HostedGuest, vm: Vm) -> None:
        self.seen, self.vm = seen, vm
        self._uart = _Uart(seen.console)
        self._calls = ForwardedCalls(vm, seen.console.extend, lambda size: b"")
        self._written, self._silence = 0, SILENCE * vm.timebase
        self.due, self.tired = self._silence, False

    def on_exit(self, vcpu: Vcpu) -> bool:
        """Serve one exit of KVM_RUN; return whether the guest goes on."""
        run, seen = vcpu.kvm_run, self.seen
        match run.exit_reason:
            case Exit.MMIO:
                seen.mmio += 1
                offset = run.mmio.phys_addr - UART
                if run.mmio.is_write:
                    self._uart.store(offset, run.mmio.data & 0xFF)
                else:
                    run.mmio.data = self._uart.load(offset)
            case Exit.RISCV_SBI:
                seen.sbi += 1
                self._calls.answer(run.riscv_sbi)
            case Exit.SYSTEM_EVENT:
                seen.end = SHUTDOWN if run.system_event.type == SystemEvent.SHUTDOWN else RESET
                return False
            case Exit.INTR:
                pass
            case _:
                seen.end = UNKNOWN
                return False
        seen.exits += 1
        return not self.tick(time_of(vcpu.hart))

    def tick(self, now: int) -> bool:
        """End a guest that goes on and on, or that waits for ever; return whether it has ended (`Turns`)."""
        console = self.seen.console
        if len(console) != self._written:
            self._written, self.due = len(console), now + self._silence
        if self._written >= MOST_WRITTEN:
            self.seen.end = FULL
        elif self.due is not None and now >= self.due:
            self.seen.end = SILENT
        return self.seen.end != ""


def run_hosted_guest(
    settings: Settings, files: GuestFiles, isa: str, v01: bool, *, timebase: int, engine: str | Engine = "native"
) -> HostedGuest:
    """Run a guest to its end under a preset, with SBI v0.1 if the real kernel was built with it."""
    firmware = Firmware(settings.firmware, host_fwft=settings.host_fwft)
    vm = Vm(
        settings.policy, firmware=firmware, isa=isa, engine=engine, misaligned=settings.misaligned, timebase=timebase
    )
    vm.add_memory(RAM, files.memory)
    for data, at in ((files.kernel, files.kernel_at), (files.initrd, files.initrd_at), (files.tree, files.tree_at)):
        vm.write_memory(RAM + at, data)
    vcpu = vm.vcpus[0]
    vcpu.reset(files.entry, RAM + files.tree_at)
    if not v01:
        vcpu.sbi.leave_out_v01()
    with contextlib.suppress(OneRegError):  # this version does not have it
        set_one_reg(vcpu, reg_id(SBI_EXT, SBI_EXT_DBCN), 1)
    seen = HostedGuest(settings)
    vmm = _Vmm(seen, vm)
    vm.turns, vm.poll = vmm, lambda: seen.end != ""
    result = vm.run(vmm.on_exit)
    if result.death is not None:
        seen.end, seen.kernel_log = os.strerror(result.death.errno), list(result.death.log)
    seen.end = seen.end or result.reason
    return seen

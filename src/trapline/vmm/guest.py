"""A whole guest: a VM with memory, devices and a program, run to its end. What `trapline run` is."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from types import NoneType
from typing import ClassVar, Unpack

from trapline.engine.api import Engine
from trapline.engine.stop_points import Stops
from trapline.firmware.firmware import Firmware
from trapline.firmware.models import DEFAULT_MODEL
from trapline.kvm.checkpoint import make_checkpoints
from trapline.kvm.entry import turn_end
from trapline.kvm.uapi.numbers import Exit, SystemEvent
from trapline.kvm.vcpu import Vcpu
from trapline.kvm.vm import Vm
from trapline.lang.given import require_kind
from trapline.lang.state import Hart
from trapline.machine import memory_map as mm
from trapline.machine.devices.clint import time_of
from trapline.machine.load.content import Content, ImageError
from trapline.machine.load.image import (
    Loaded,
    initrd_address,
    load_program,
    most_of_program,
    place_initrd,
    read_initrd,
    read_program,
)
from trapline.machine.spec import chosen
from trapline.machine.virtio.bus import VirtioBus
from trapline.machine.virtio.options import NO_VIRTIO, VirtioOptions, add_devices
from trapline.policies import DEFAULT_POLICY, Policy
from trapline.sbi.numbers import Eid
from trapline.session.memory_view import Memory
from trapline.session.outside import Outside
from trapline.session.schedule import Rounds
from trapline.session.session import IDLE_STEP, Session
from trapline.session.state.checkpoint import Checkpoints, Rewindable
from trapline.session.state.plain_types import U32
from trapline.session.terminal.console import Console
from trapline.vmm.arguments import SlotArgument, require_no_overlap
from trapline.vmm.devices import GuestDevices
from trapline.vmm.guest_memory import GuestMemory
from trapline.vmm.guest_tree import guest_tree
from trapline.vmm.interrupts import Controllers
from trapline.vmm.result import GuestResult
from trapline.vmm.sbi_calls import ForwardedCalls
from trapline.vmm.spec import GuestOptions, GuestSpec

SEED_CSR, _SEED_ES16 = 0x015, 2 << 30
_SLICE_LIVE = 400_000
_LOOK_EXITS = 64  # exits to user space between two looks at what the user types


class Guest(Rewindable, Session[GuestResult]):
    """A guest and its user space. `load` a program, then `run`; `vm` is the KVM underneath.

    It is made of `spec`, with any of its fields in `fields`.
    """

    _held_name = _asking_name = "guest"
    _user_modes = ("VU",)
    snapshot_skips = (
        "spec",
        "harts",
        "console",
        "on_round",
        "_outside",
        "_pace",
        "_stride",
        "_ended",
        "aia",
        "memory",
        "tree",
        "_checkpoints",
        "_running",
        "_complete",
    )
    snapshot_types: ClassVar = {"_seed": U32}

    def __init__(
        self,
        policy: Policy | str | Path = DEFAULT_POLICY,
        *,
        firmware: Firmware | str = DEFAULT_MODEL,
        console: Console | None = None,
        engine: str | Engine = "native",
        spec: GuestSpec | None = None,
        **fields: Unpack[GuestOptions],
    ) -> None:
        require_kind("console", console, Console, NoneType)
        self.spec = spec = chosen(spec, GuestSpec, fields)
        self.aia = spec.interrupt_controllers()
        self.vm = Vm(policy, firmware=firmware, engine=engine, spec=spec.vm())
        self.console = console or Console()
        self.memory = spec.memory
        self.tree = b""  # the device tree that it was loaded with
        self.harts = [vcpu.hart for vcpu in self.vm.vcpus]
        self._begin("trapline.vmm.guest_monitor:GuestMonitor", spec.ratio)
        controllers = Controllers(self.vm, self.aia)
        virtio_bus = VirtioBus(
            GuestMemory(self.vm),
            controllers.set_level,
            now=lambda: max(map(time_of, self.harts)),
            on_pause=self._cut_turn,
            stopping=lambda: self._ended is not None,
        )
        self.vm.turns = virtio_bus
        self.vm.on_stop = self._stopped
        self.vm.user_space = self
        self.devices = GuestDevices(
            self.vm.vcpus[0].hart,
            controllers,
            spec.timebase,
            self.console.write,
            self._finish,
            self._reset,
            virtio_bus,
        )
        self.console.connect(self.devices.uart)
        self.tell_devices()
        self.hvc = add_devices(self.devices.virtio, spec.virtio, self.console.write, self._nanoseconds)
        self._outside = Outside(self.console, self.devices.virtio)
        self.vm.on_idle = lambda: self.devices.virtio.live
        self.calls = ForwardedCalls(self.vm, self.console.write, self.devices.uart.take)
        self._enable_sbi()
        self._add_memory(spec.memslots)
        self._seed = 0
        self._pace = (time.monotonic(), 0)
        self._exits = 0
        self._complete = True

    def tell_devices(self) -> None:
        """Say to the VM where its devices are."""
        self.vm.serve_mmio(self.devices.serve, self.devices.served())
        self.vm.devices = tuple((w.base, w.end) for w in self.devices.windows())

    def _enable_sbi(self) -> None:
        """KVM has DBCN and SUSP off until a VMM that serves them switches them on."""
        for vcpu in self.vm.vcpus:
            for name in ("DBCN", "SUSP"):
                if name in vcpu.sbi.enabled:
                    vcpu.sbi.enable(name, True)

    def _add_memory(self, extra: Sequence[SlotArgument]) -> None:
        require_no_overlap(list(extra))
        # A slot of the user's inside RAM replaces that part of it.
        at, end = mm.RAM_BASE, mm.RAM_BASE + self.memory
        for slot in sorted(extra, key=lambda s: s.gpa):
            if at < slot.gpa < end:
                self.vm.add_memory(at, slot.gpa - at)
            if slot.gpa < end:
                at = max(at, slot.gpa + slot.size)
            for window in self.devices.windows():
                if slot.gpa < window.end and window.base < slot.gpa + slot.size:
                    raise ValueError(f"memslot {slot.describe()} covers the device at {window.base:#x}")
        if at < end:
            self.vm.add_memory(at, end - at)
        for slot in extra:
            self.vm.add_memory(slot.gpa, slot.size, slot.kind, file=slot.file)

    # --- loading ---
    def load(self, path: str | Path, *, initrd: str | Path | None = None, append: str = "") -> Loaded:
        """Load an S-mode program (ELF, Linux Image, or flat bytes for 0x80200000) with its device tree."""
        data = read_program(path, most_of_program(GuestMemory(self.vm)))
        return self.load_bytes(data, str(path), initrd=initrd, append=append)

    def load_bytes(
        self, data: Content, name: str = "program", *, initrd: str | Path | None = None, append: str = ""
    ) -> Loaded:
        """Load a program that is already in memory."""
        memory = GuestMemory(self.vm)
        loaded = load_program(memory, data, name, mm.RAM_BASE + mm.KERNEL_OFFSET)
        if loaded.elf is not None:
            self.vm.symbols = loaded.elf.symbols
        ramdisk = None
        if initrd is not None:
            start = initrd_address(mm.RAM_BASE + mm.KERNEL_OFFSET, self.memory)
            if loaded.high > mm.RAM_BASE:
                start = max(start, loaded.high + 0xFFF & -0x1000)
            ramdisk = place_initrd(memory, initrd, read_initrd(initrd, self.memory), start)
        blob = self.device_tree(append, ramdisk)
        at = self._place_tree(memory, blob, loaded, ramdisk)
        self.vm.vcpus[0].reset(loaded.entry, at)
        return loaded

    def device_tree(self, bootargs: str = "", initrd: tuple[int, int] | None = None) -> bytes:
        """Return the flattened device tree of this guest."""
        vcpus, ram, windows = self.vm.vcpus, [(mm.RAM_BASE, self.memory)], len(self.devices.virtio.slots)
        timebase = self.vm.timebase
        self.tree = guest_tree(vcpus[0], ram, len(vcpus), timebase, bootargs, initrd, virtio=windows, aia=self.aia)
        return self.tree

    def _place_tree(self, memory: GuestMemory, blob: bytes, loaded: Loaded, ramdisk: tuple[int, int] | None) -> int:
        """Put the tree as high in memory, below 3 GiB, as there is room for it."""
        taken = [(loaded.low, loaded.high), *([ramdisk] if ramdisk else [])]
        at = (min(mm.RAM_BASE + self.memory, 3 << 30) - len(blob)) & -(64 << 10)
        while at >= mm.RAM_BASE:
            if all(at + len(blob) <= low or high <= at for low, high in taken):
                with contextlib.suppress(ValueError):
                    memory.write(at, blob)
                    return at
            at -= 64 << 10
        raise ImageError(f"no room for the device tree ({len(blob):#x} bytes) in {self.memory:#x} bytes of memory")

    # --- snapshots ---
    def snapshot(self, path: str | Path) -> int:
        """Write the guest, its VM and its devices to one file; return its size in bytes.

        SnapshotError if the file cannot be written; a file that was there before stays then.
        """
        from trapline.vmm.snapshot import snapshot_guest

        return snapshot_guest(self, path)

    @classmethod
    def restore(
        cls,
        path: str | Path,
        *,
        engine: str | Engine = "native",
        console: Console | None = None,
        policy: Policy | str | Path | None = None,
        virtio: VirtioOptions = NO_VIRTIO,
        trust_files: bool = False,
    ) -> Guest:
        """Return the guest in a snapshot, which goes on as the saved one would have, or under another policy.

        `virtio` and `trust_files` are those of `Machine.restore`.
        """
        from trapline.vmm.snapshot import restore_guest

        return restore_guest(cls, path, engine, console, policy, virtio, trust_files)

    def _make_checkpoints(self) -> Checkpoints:
        refusal = self.spec.virtio.cannot_go_back
        return make_checkpoints(self.vm, (self,), (Guest, Vm), console=self.console, refusal=refusal)

    # --- exits to user space ---
    def _stopped(self, vcpu: Vcpu) -> None:
        assert self.vm.stopped_by is not None
        self._end("stop", 0, self.vm.stopped_by.describe())

    def _on_exit(self, vcpu: Vcpu) -> bool:
        """Serve one exit of KVM_RUN; return whether to go on."""
        run = vcpu.kvm_run
        match run.exit_reason:
            case Exit.MMIO:
                self.devices.access(vcpu)
            case Exit.RISCV_SBI:
                self.calls.answer(run.riscv_sbi)
                if run.riscv_sbi.extension_id == Eid.SUSP:
                    vcpu.halt()  # suspended: the next interrupt that the guest left enabled wakes it at its address
            case Exit.RISCV_CSR:
                run.riscv_csr.ret_value = self._next_seed() if run.riscv_csr.csr_num == SEED_CSR else 0
            case Exit.SYSTEM_EVENT:
                self._system_event(vcpu)
            case Exit.INTR:
                run.immediate_exit = False
            case Exit.DEBUG:
                self._end("debug", 1, f"KVM_EXIT_DEBUG at {vcpu.pc:#x}: an ebreak left the guest, and nobody debugs")
            case other:
                self._end("killed", 1, f"KVM_RUN came back with exit reason {int(other)}, which nobody serves")
        # A guest that polls a device leaves KVM_RUN all the time: look at the keyboard and the clock now and then.
        self._exits += 1
        back = self._exits % _LOOK_EXITS == 0 and self.vm.poll is not None and self.vm.poll()
        return self._ended is None and not back

    def _system_event(self, vcpu: Vcpu) -> None:
        event = vcpu.kvm_run.system_event
        reason = event.data[0] if event.data else 0
        if self._panic.panicked():
            self._end("panic", 1, self.console.panic.describe())
        elif event.type == SystemEvent.RESET:
            self._end("reset", 0, f"the guest asked for a reset (SRST reason {reason})")
        elif reason:
            self._end("exit", 1, f"the guest shut down for a failure (SRST reason {reason})")
        else:
            self._end("exit", 0, "the guest powered off")

    def _next_seed(self) -> int:
        """Entropy that is the same in every run."""
        self._seed = self._seed * 1_103_515_245 + 12_345 & 0xFFFF_FFFF
        return _SEED_ES16 | self._seed >> 16

    def _hook_parts(self) -> tuple[Stops, dict[str, int], Console | None]:
        return self.vm.stops, self.vm.symbols, self.console

    @property
    def mem(self) -> Memory:
        """Its memory, by guest physical address."""
        return self.vm.mem

    @property
    def symbols(self) -> dict[str, int]:
        """Those of the program, if it is an ELF file that has some."""
        return self.vm.symbols

    @property
    def stops(self) -> Stops:
        """`Vm.stops`."""
        return self.vm.stops

    def __repr__(self) -> str:
        vcpus = len(self.vm.vcpus)
        return f"<Guest of {self.vm.policy.name}, {vcpus} vCPU{'s'[: vcpus != 1]}, {self.memory >> 20} MiB>"

    def close(self) -> list[str]:
        """Give back the files and sockets of devices; return which files are not whole, and why."""
        self.closed = True
        return self.devices.virtio.close()

    # --- running ---
    def _prepare(self, end_time: float | None) -> None:
        self._time_stood_still()
        self.vm.poll = lambda: self._wants_back(end_time)

    def _result(self, reason: str, code: int, message: str, instructions: int) -> GuestResult:
        dead = [v.death for v in self.vm.vcpus if v.death is not None] if reason == "killed" else []
        return GuestResult(reason, code, instructions, message, dead[0] if dead else None)

    def _ending(self, code: int) -> str:
        return "the guest powered off" if code == 0 else f"the guest failed with code {code}"

    def _time_stood_still(self) -> None:
        self._pace = (time.monotonic(), self._now())

    def _unread(self) -> int:
        return self.hvc.unread if self.hvc is not None else self.devices.uart.unread

    def _take_typed(self, data: bytes) -> None:
        (self.hvc or self.devices.uart).receive(data)

    def _wants_back(self, end_time: float | None) -> bool:
        """Whether a guest that exits all the time must come back before its slice ends."""
        if self._ended is not None or (end_time is not None and time.monotonic() >= end_time):
            return True
        return self.console.source.live and len(self.vm.vcpus) == 1

    def _go(self, most: int | None) -> int:
        times = self._stride.times if self._is_alone() else 1
        before, size, began = self.vm.instructions, self.vm.engine.turn * times, time.monotonic()
        self.vm.schedule.most = Rounds.most * times
        if self._outside.live:
            size = min(size, _SLICE_LIVE)
        due = self.console.source.next_position()
        if due is not None and due[0] > before:
            size = min(size, due[0] - before)
        if most is not None:
            size = min(size, most)
        result = self.vm.run(self._on_exit, size)
        self._stride.fit(time.monotonic() - began)
        match result.reason:
            case "killed":
                self._end("killed", 1, result.death.title if result.death else "the guest was killed")
            case "hung":
                self._end("hung", 1, "the firmware hung")
            case "halted" if self._ended is None:
                self._idle()
            case "goal":
                self._end("step", 0, "a vCPU made a step")
            case "idle" if self._ended is None:
                self._wait_in_real_time()
        self._look_outside()
        if self.console.source.live:
            self._keep_pace()
        return self.vm.instructions - before

    def _cut_turn(self, hart: Hart) -> None:
        """A device has work for later, or has done much: the vCPU whose access made it comes back."""
        if int(hart.kvm_turn_until) != 0:
            hart.kvm_turn_last = int(hart.instret)
            hart.kvm_run_end = hart.call(turn_end)

    def _nanoseconds(self) -> int:
        return self._now() * 10**9 // self.vm.timebase

    def _wait_in_real_time(self) -> None:
        """A peer may answer: every vCPU blocks until it does, or until the next timer."""
        started = time.monotonic()
        event = self.vm.schedule.next_event()
        left = (event - self._now()) / self.vm.timebase if event is not None else IDLE_STEP
        if left > 0:
            self._outside.wait(min(left, IDLE_STEP))
        passed = int((time.monotonic() - started) * self.vm.timebase)
        tick = self._now() + max(1, passed)
        self.vm.schedule.skip_to(tick if event is None else min(tick, event))
        self._time_stood_still()

    def _now(self) -> int:
        return time_of(self.harts[0])

    def position(self) -> tuple[int, int]:
        """Return where the guest is: instructions of all vCPUs, ticks."""
        return self.vm.instructions, self._now()

    def _idle(self) -> None:
        """Every vCPU blocks and no timer runs: only input can help."""
        due = self.console.source.next_position()
        if due is not None:
            for vcpu in self.vm.vcpus:
                vcpu.advance(due[1])
            return
        if self._receive():
            return
        if not self.console.wait(IDLE_STEP):
            self._end("stuck", 1, "all vCPUs wait for an interrupt that can never come")

    def _keep_pace(self) -> None:
        """A person types: an idle guest's clock must not run ahead of real time, nor burn the host's."""
        started, ticks = self._pace
        ahead = (self._now() - ticks) / self.vm.timebase - (time.monotonic() - started)
        while ahead > 0.01 and self._ended is None and not self.console.held:
            self.console.wait(min(ahead, IDLE_STEP))
            self._outside.poll()
            if self._receive():
                self._time_stood_still()
                return
            ahead = (self._now() - ticks) / self.vm.timebase - (time.monotonic() - started)

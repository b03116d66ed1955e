"""A board like QEMU's `virt`, with its harts, memory and devices: what `trapline boot` runs."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import NoneType
from typing import Any, ClassVar, Final, Literal, Unpack

from trapline.engine.api import Engine, open_engine
from trapline.engine.stop_points import Stopped, Stops
from trapline.lang.control import EXIT_STOP, EXIT_TIMER, leave
from trapline.lang.devices import DeviceState
from trapline.lang.given import require_kind
from trapline.lang.state import Hart
from trapline.machine import memory_map as mm
from trapline.machine.aia import install as install_interrupt_controllers
from trapline.machine.commit_log import CommitLog
from trapline.machine.devices.clint import Clint, time_of
from trapline.machine.devices.htif import Htif
from trapline.machine.devices.rtc import Rtc
from trapline.machine.devices.test_finisher import TestFinisher
from trapline.machine.devices.uart import Uart
from trapline.machine.load.content import Content
from trapline.machine.load.elf import is_elf, parse
from trapline.machine.load.image import (
    Loaded,
    initrd_address,
    load_elf,
    load_program,
    most_of_program,
    place_initrd,
    read_initrd,
    read_program,
)
from trapline.machine.making import require_apart, set_up
from trapline.machine.reset_rom import spike_rom, virt_rom
from trapline.machine.result import RunResult
from trapline.machine.schedule import Schedule
from trapline.machine.signature import DEFAULT_GRANULARITY, signature
from trapline.machine.spec import MachineOptions, MachineSpec, chosen
from trapline.machine.tree.device_tree import BoardTree, board_blob
from trapline.machine.virtio.bus import VirtioBus
from trapline.machine.virtio.memory import BoardMemory
from trapline.machine.virtio.options import NO_VIRTIO, VirtioOptions, add_devices
from trapline.session.hooks import goes_on
from trapline.session.memory_view import Memory
from trapline.session.outside import Outside
from trapline.session.regions import Regions
from trapline.session.schedule import Turns
from trapline.session.session import IDLE_STEP, Session
from trapline.session.state.checkpoint import Checkpoints, Rewindable
from trapline.session.state.plain_types import U8, U64
from trapline.session.terminal.console import Console

PASSED: Final = "passed"
POWERED_OFF: Final = "the machine powered off"
_NEVER = 1 << 62
_LOOK_BYTES = 4 << 20  # that HTIF prints between two looks at limits
_LOOKS = 1000  # at the network, in a second of the machine's time
_LATENCY, _LEAST_SLICE = 0.05, 5_000  # seconds that a typed key may wait; instructions


class Machine(Rewindable, Session[RunResult]):
    """The board. Load something, then `run`. `mem` is its memory by physical address.

    It is made of `spec`, with any of its fields in `fields`. In a `with` block it is closed at the end.
    """

    snapshot_skips = (
        *("spec", "turns", "console", "engine", "on_round", "_outside", "_ended", "stopped_by", "tree"),
        *("isa", "aia", "memory", "timebase", "on_hosted", "_printed", "_checkpoints", "_running", "mem", "_complete"),
        "_stride",
    )
    _held_name, _asking_name, _user_modes = "board", "machine", ("U", "VU", "VS")
    snapshot_types: ClassVar = {"_typed": deque[U8], "_good": Literal[PASSED, POWERED_OFF], "symbols": dict[str, U64]}

    def __init__(
        self,
        spec: MachineSpec | None = None,
        *,
        engine: str | Engine = "native",
        console: Console | None = None,
        **fields: Unpack[MachineOptions],
    ) -> None:
        require_kind("console", console, Console, NoneType)
        self.spec = spec = chosen(spec, MachineSpec, fields)
        self.aia = spec.interrupt_controllers()
        self.isa, self.timebase, self.console = self.aia.isa(spec.isa), spec.timebase, console or Console()
        self.regions = Regions()
        self.engine = open_engine(engine)
        self.regions.written = self.engine.code_written
        self.mem = Memory(self.regions)
        self.harts = [Hart() for _ in range(spec.harts)]
        self.htif: Htif | None = None
        self.symbols: dict[str, int] = {}
        self.tree = b""  # the device tree that it was loaded with
        self.stopped_by: Stopped | None = None  # why `run` came back with the reason "stop"
        self.on_hosted: Callable[[Hart, int], None] | None = None
        self._typed: deque[int] = deque()
        self._begin("trapline.machine.board_monitor:BoardMonitor", spec.ratio)
        self._printed = 0
        self._good: str = PASSED  # what a bare program's exit with code 0 means
        self._attached = False
        self._make_board(spec.memory)
        self.engine.on_asked = self._cut
        self.hvc = add_devices(self.virtio, spec.virtio, self.console.write, self._nanoseconds)
        self._outside = Outside(self.console, self.virtio)
        for number, hart in enumerate(self.harts):
            set_up(hart, number, mm.RESET_ROM.base, spec, self.aia)
        self._install()
        for hart in self.harts:
            self.engine.attach(hart)
        self._attached = True
        self.schedule = Schedule(self.harts, self.engine, self, self.engine.turn, self.io)
        self._complete = True

    def _make_board(self, memory: int) -> None:
        regions = self.regions
        self.io = DeviceState()
        self.clint = Clint(self.harts, self.io)
        self.plic = install_interrupt_controllers(self.aia, regions, self.harts, self.io)
        self.uart = Uart(self.harts[0], self.io, self.console.write)
        self.console.connect(self.uart)
        finisher = TestFinisher(self._finish, self._reset)
        self.rom = regions.rom("reset ROM", mm.RESET_ROM.base, mm.RESET_ROM.size)
        regions.device("test finisher", mm.TEST_FINISHER.base, mm.TEST_FINISHER.size, finisher)
        regions.device("rtc", mm.RTC.base, mm.RTC.size, Rtc(self.io, self.timebase))
        regions.device("clint", mm.CLINT.base, mm.CLINT.size, self.clint)
        regions.device("uart", mm.UART.base, mm.UART.size, self.uart)
        self.virtio = VirtioBus(
            BoardMemory(regions, self.engine),
            self.plic.set_level,
            now=lambda: max(map(time_of, self.harts)),
            on_pause=lambda hart: self._pause(),
            stopping=lambda: self._ended is not None,
        )
        self.turns: Turns = self.virtio
        regions.device("virtio", mm.VIRTIO.base, mm.VIRTIO.size, self.virtio)
        self.ram = regions.ram("RAM", mm.RAM_BASE, memory)
        self.memory = memory

    def _install(self) -> None:
        for hart in self.harts:
            self.regions.install(hart)
            if self._attached:
                self.engine.regions_changed(hart)

    def add_device(self, name: str, base: int, size: int, device: Any) -> None:
        """Put another device on the bus; the device tree does not mention it. ValueError where there is something."""
        self.regions.device(name, base, size, device)
        self._install()

    # --- loading ---

    def device_tree(self, bootargs: str = "", initrd: tuple[int, int] | None = None) -> bytes:
        """Return the flattened device tree of this board."""
        hart = self.harts[0]
        mmu = "riscv,sv57" if hart.has_sv57 != 0 else "riscv,sv48" if hart.has_sv48 != 0 else "riscv,sv39"
        ram = [(mm.RAM_BASE, self.memory)]
        tree = BoardTree(
            self.isa,
            ram,
            len(self.harts),
            mmu,
            self.timebase,
            bootargs=bootargs,
            initrd=initrd,
            virtio=len(self.virtio.slots),
            aia=self.aia,
        )
        self.tree = board_blob(tree)
        return self.tree

    def load(self, path: str | Path, *, htif: bool = True) -> Loaded:
        """Load a bare program (ELF, or flat bytes for the start of RAM) that starts in M-mode."""
        data = self._read(path)
        if is_elf(data):
            return self.load_elf(data, name=str(path), htif=htif)
        loaded = load_program(self.regions, data, str(path), mm.RAM_BASE)
        self._start_bare(loaded.entry)
        return loaded

    def _read(self, path: str | Path) -> Content:
        return read_program(path, most_of_program(self.regions))

    def load_elf(self, source: str | Path | Content, *, name: str = "program", htif: bool = True) -> Loaded:
        """Load an ELF executable; with the symbol tohost, HTIF serves it."""
        data, name = (source, name) if isinstance(source, Content) else (self._read(source), str(source))
        elf = parse(data, name)
        loaded = load_elf(self.regions, elf)
        self.symbols = elf.symbols
        if htif and "tohost" in elf.symbols:
            self.serve_htif(elf.symbols["tohost"], elf.symbols.get("fromhost"))
        self._start_bare(loaded.entry)
        return loaded

    def serve_htif(self, tohost: int, fromhost: int | None = None) -> None:
        """Serve HTIF commands at the word `tohost`, answer at `fromhost`; ValueError if they are not aligned words."""
        self.htif = Htif(
            *(self.regions, tohost, fromhost, self._finish, self._print, self._typed),
            refuse=self._refuse,
            later=self._cut,
        )
        self.htif.watch(self.harts)

    def _start_bare(self, entry: int) -> None:
        """Reset as Spike does, whose users run bare programs: its ROM, and mtimecmp 0 (MTIP is pending)."""
        self._write_rom(spike_rom(entry, self.device_tree()))
        self.clint.mtimecmp = [0] * len(self.harts)

    def _write_rom(self, rom: bytes) -> None:
        if len(rom) > self.rom.size:
            raise ValueError(f"the device tree is too large for the reset ROM ({len(rom):#x} bytes)")
        self.regions.write(self.rom.base, rom)

    def boot_bios(
        self,
        bios: str | Path,
        kernel: str | Path | None = None,
        initrd: str | Path | None = None,
        append: str = "",
        *,
        initrd_data: Content | None = None,
    ) -> None:
        """Place firmware, the next stage, initrd (a file, or bytes) and device tree as QEMU does for `virt`."""
        self._good = POWERED_OFF
        firmware = load_program(self.regions, self._read(bios), str(bios), mm.RAM_BASE)
        entry = low = mm.RAM_BASE + mm.KERNEL_OFFSET
        taken = [(firmware.low, firmware.high, str(bios))]
        if kernel is not None:
            stage = load_program(self.regions, self._read(kernel), str(kernel), entry)
            require_apart(taken, stage.low, stage.high, str(kernel))
            entry, low = stage.entry, stage.low
        if initrd is not None:
            initrd_data = read_initrd(initrd, self.memory)
        ramdisk = None
        if initrd_data is not None:
            name = str(initrd or "initrd")
            ramdisk = place_initrd(self.regions, name, initrd_data, initrd_address(low, self.memory))
            require_apart(taken, *ramdisk, name)
        blob = self.device_tree(append, ramdisk)
        at = (self.ram.base + self.memory - len(blob)) & -(2 << 20)  # QEMU since 10.0; before, below 3 GiB
        require_apart(taken, at, at + len(blob), "the device tree")
        self.regions.write(at, blob)
        self._write_rom(virt_rom(firmware.entry, at, entry))

    # --- snapshots ---

    def snapshot(self, path: str | Path) -> int:
        """Write the whole machine to one file, between two instructions; return its size in bytes.

        SnapshotError if the file cannot be written; a file that was there before stays then.
        """
        from trapline.machine.board_snapshot import snapshot_board

        return snapshot_board(self, path)

    @classmethod
    def restore(
        cls,
        path: str | Path,
        *,
        engine: str | Engine = "native",
        console: Console | None = None,
        virtio: VirtioOptions = NO_VIRTIO,
        trust_files: bool = False,
    ) -> Machine:
        """Return the machine in a snapshot, which goes on as the saved one would have; SnapshotError otherwise.

        `virtio` names the drives, shares and network that it has of this host now, as many as it had; of its own
        accord it opens none, unless `trust_files` vouches for whoever made the file.
        """
        from trapline.machine.board_snapshot import restore_board

        return restore_board(cls, path, engine, console, virtio, trust_files)

    def _make_checkpoints(self) -> Checkpoints:
        return Checkpoints(
            self.engine,
            self.regions,
            lambda: self.harts,
            lambda: (self, *(r.device for r in self.regions)),
            (Console, type(self.engine)),
            (Machine, Schedule),
            console=self.console,
            refusal=self.spec.virtio.cannot_go_back,
        )

    # --- running ---

    def log_commits(self, write: Callable[[str], object]) -> None:
        """From now on write a line for each retired instruction, in Spike's format (slow)."""
        self.engine = self.schedule.engine = CommitLog(self.engine, self.regions, write)
        self.schedule.slice = self.engine.turn

    @property
    def stops(self) -> Stops:
        """Breakpoints, watchpoints, catches of traps and of CSR writes: for what `run` comes back."""
        return self.engine.stops

    def stopped(self, index: int) -> None:
        """A hart came back for a stop: so does the run, before the next instruction of any hart."""
        self.stopped_by = self.stops.hit(self.harts[index], index)
        if goes_on(self.stopped_by, self.harts[index]):
            self.schedule.stop_requested = self._ended is not None
            return
        self.stop("stop", 0, self.stopped_by.describe())

    def stop(self, reason: str, code: int, message: str, hart: Hart | None = None) -> None:
        """End the run: from a device, with the hart that did it."""
        super()._end(reason, code, message)
        self.schedule.stop_requested = True
        if hart is not None:
            leave(hart, EXIT_STOP)

    def _end(self, reason: str, code: int, message: str, hart: Hart | None = None) -> None:
        self.stop(reason, code, message, hart)

    def _ending(self, code: int) -> str:
        return self._good if code == 0 else f"failed with code {code}"

    def arrived(self, index: int) -> None:
        """A hart has made the attempts up to `Schedule.goal`."""
        self.stop("step", 0, f"hart {index} made a step")

    def _refuse(self, hart: Hart, what: str) -> None:
        self.stop("exit", 1, f"failed: {what}", hart)

    def _prepare(self, end_time: float | None) -> None:
        self.stopped_by = None

    def _result(self, reason: str, code: int, message: str, instructions: int) -> RunResult:
        return RunResult(reason, code, instructions, message)

    def _go(self, budget: int | None) -> int:
        self.schedule.stop_requested = False
        due = self.console.source.next_position()
        latest = due[1] if due else None
        if self.virtio.live:
            latest = min(latest or _NEVER, time_of(self.harts[0]) + max(1, self.timebase // _LOOKS))
        began = time.monotonic()
        alone = self._is_alone() and (self.htif is None or not self.htif.waits)
        done = self.schedule.round(budget, latest, skips=alone, times=self._stride.times if alone else 1)
        took = time.monotonic() - began
        if self.console.source.live and self.engine.turn > _LEAST_SLICE:
            self._fit_slice(took)
        self._stride.fit(took)
        if self.htif is not None:
            self.htif.poll(self.harts[0])
        self._look_outside()
        if self._ended is None and self.schedule.all_wait():
            self._idle()
        return done

    def _fit_slice(self, seconds: float) -> None:
        """Keep the time between two looks at the keyboard short: a program that polls a device is slow."""
        if seconds > _LATENCY:
            self.schedule.slice = max(self.schedule.slice // 2, _LEAST_SLICE)
        elif seconds < _LATENCY / 8:
            self.schedule.slice = min(self.schedule.slice * 2, self.engine.turn)

    def position(self) -> tuple[int, int]:
        """Return where hart 0 is: instructions retired, ticks."""
        return int(self.harts[0].instret), time_of(self.harts[0])

    def _nanoseconds(self) -> int:
        return time_of(self.harts[0]) * 10**9 // self.timebase

    def _unread(self) -> int:
        if self.htif is not None:
            return len(self._typed)
        return self.uart.unread if self.hvc is None else self.hvc.unread

    def _print(self, data: bytes) -> None:
        """A program's output through HTIF, which has no speed: after much of it look at the run's limits."""
        self.console.write(data)
        self._printed += len(data)
        if self._printed >= _LOOK_BYTES:
            self._printed = 0
            self._pause()

    def _pause(self) -> None:
        """Let the harts come back soon: a device has work for later, or has done much."""
        self.schedule.note_devices()
        self.schedule.stop_requested = True
        for hart in self.harts:
            leave(hart, EXIT_TIMER)

    def _cut(self) -> None:
        """Something is left for the end of a round, or devices take long: one that would be longer than usual ends."""
        if self.schedule.longer > 1:
            self._pause()

    def _take_typed(self, data: bytes) -> None:
        if self.htif is not None:
            self._typed.extend(data)
        elif self.hvc is not None:
            self.hvc.receive(data)
        else:
            self.uart.receive(data)

    def _idle(self) -> None:
        """All harts sleep: pass the time to the next timer or input."""
        deadline = self.schedule.next_event()
        due = self.console.source.next_position()
        if due is not None and (deadline is None or due[1] < deadline):
            self.schedule.skip_to(due[1])
        elif deadline is None:
            if not self._outside.wait(IDLE_STEP):
                self.stop("stuck", 1, "all harts wait for an interrupt that can never come")
        elif self._outside.live:
            self._wait_in_real_time(deadline)
        else:
            self.schedule.skip_to(deadline)
            return
        self._receive()

    def _wait_in_real_time(self, deadline: int) -> None:
        """A person may type, a peer answer: let real time pass, so that an idle machine costs nothing."""
        start, started = time_of(self.harts[0]), time.monotonic()
        while self._ended is None and not self.console.held:
            passed = int((time.monotonic() - started) * self.timebase)
            left = deadline - start - passed
            self.schedule.skip_to(min(deadline, start + passed))
            self._outside.poll()
            if left <= 0 or self._receive() or not self.schedule.all_wait():
                return
            self._outside.wait(min(left / self.timebase, IDLE_STEP))

    def _hook_parts(self) -> tuple[Stops, dict[str, int], Console | None]:
        return self.stops, self.symbols, self.console

    def __repr__(self) -> str:
        isa, size, count = self.isa.partition("_")[0], self.memory >> 20, len(self.harts)
        return f"<Machine {isa}, {count} hart{'s'[: count != 1]}, {size} MiB, {self.engine.name} engine>"

    def close(self) -> list[str]:
        """Give back the files and sockets of devices; return which files are not whole, and why."""
        self.closed = True
        return self.virtio.close()

    def signature(self, granularity: int = DEFAULT_GRANULARITY) -> str:
        """Return the loaded program's signature, as Spike writes it."""
        return signature(self.regions, self.symbols, granularity)

    # --- what the schedule asks ---

    def handle(self, index: int, reason: int) -> None:
        """A trap went to a hosted level."""
        if self.on_hosted is None:
            raise RuntimeError(f"hart {index} left the engine for reason {reason}, and no level is hosted")
        self.on_hosted(self.harts[index], reason)

"""The real side: firmware and kernel boot on the board, with the KVM user program as their init."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trapline.conform.cpio import initramfs
from trapline.conform.payload import Payload
from trapline.conform.port import END, MARK, PORT, Port, Snapshot, Step, Window, between, port_device
from trapline.conform.seen import Seen, from_report, without_end
from trapline.engine.api import Engine
from trapline.lab.errors import UsageError
from trapline.lang.elf_format import MAGIC
from trapline.lang.state import Hart
from trapline.machine.load.packed import DamagedError, unpack
from trapline.machine.machine import Machine
from trapline.machine.memory_map import DEFAULT_TIMEBASE
from trapline.named_files import read_input
from trapline.session.terminal.console import Console
from trapline.vmm.guest import Guest

APPEND = "console=ttyS0 cryptomgr.notests=1 loglevel=3 rdinit=/init"
MEMORY = 1 << 30
MAX_INSTRUCTIONS = 8_000_000_000
_PROFILE = "profile"
_BANNER = re.compile(r"OpenSBI v(\d+)\.(\d+)")


@dataclass(frozen=True, slots=True)
class Host:
    """What boots: files, and the hart under them."""

    bios: Path
    kernel: Path
    modules: tuple[Path, ...]
    program: Path
    isa: str
    misaligned: str = "trap"
    engine: str | Engine = "native"
    append: str = ""
    memory: int = MEMORY
    timebase: int = DEFAULT_TIMEBASE
    aia: str = "none"  # as machine.aia.parse_aia reads it


@dataclass(slots=True)
class Run:
    """What the program reported, and what the board saw."""

    release: str = ""
    firmware: str = ""  # as trapline names its models
    lines: list[dict[str, Any]] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)
    handed_over: list[bytes] = field(default_factory=list)
    written: bytearray = field(default_factory=bytearray)  # by a guest, on its console
    console: bytes = b""
    instructions: int = 0


class Session:
    """A board that runs the program: console lines become reports, stores to the port become windows.

    With `profile` every window is stepped, and has the pc and mode of each instruction that retired in it.
    """

    def __init__(
        self,
        host: Host,
        files: Mapping[str, bytes],
        arguments: str,
        *,
        on_line: Callable[[dict[str, Any]], None] = lambda line: None,
        profile: bool = False,
    ) -> None:
        self._on_line, self._profile = on_line, profile
        self.run = Run()
        self._pending = bytearray()
        self._text = bytearray()
        self._broken = ""
        self._first: Snapshot | None = None
        self._steps: list[Step] | None = None
        append = f"{APPEND} {host.append} -- {arguments} port={PORT:#x}"
        self.machine, port = self._boot(host, host_ramdisk(host, files), append)
        self.run.handed_over, self.run.written = port.handed_over, port.written

    def _boot(self, host: Host, ramdisk: bytes, append: str) -> tuple[Machine | Guest, Port]:
        """Return a board with everything in it, and the port on it."""
        machine = Machine(
            isa=host.isa, memory=host.memory, misaligned=host.misaligned, engine=host.engine,
            timebase=host.timebase, console=self.console(), aia=host.aia,
        )  # fmt: skip
        port = Port(machine.regions, self._mark)
        machine.add_device(*port_device(port))
        machine.boot_bios(host.bios, host.kernel, None, append, initrd_data=ramdisk)
        return machine, port

    def console(self) -> Console:
        """Return the console that is read."""
        return Console(self._output)

    def go(self, max_seconds: float | None = None) -> Run:
        """Run to the end; UsageError if the program never said that it was done."""
        result = self.machine.run(MAX_INSTRUCTIONS, max_seconds)
        while result.reason == _PROFILE:
            self._step()
            result = self.machine.run(MAX_INSTRUCTIONS, max_seconds)
        run = self.run
        run.console, run.instructions = bytes(self._text), result.instructions
        failed = next((line["failed"] for line in run.lines if "failed" in line), None)
        if failed is not None:
            raise UsageError(f"the KVM user program failed: {failed}", remedy=_remedy(failed))
        if result.reason != "exit":
            raise UsageError(f"the host did not come to its end ({result.message})", remedy=_last_line(run.console))
        if self._broken:
            raise UsageError(f"the KVM user program wrote a line that is no JSON: {self._broken!r}")
        return run

    def _output(self, data: bytes) -> None:
        self._text += data
        self._pending += data
        while (at := self._pending.find(b"\n")) >= 0:
            line = bytes(self._pending[:at]).strip(b"\r")
            del self._pending[: at + 1]
            self._line(line)

    def _line(self, line: bytes) -> None:
        text = line.decode(errors="replace")
        if (banner := _BANNER.match(text)) and not self.run.firmware:
            self.run.firmware = f"opensbi-{banner[1]}.{banner[2]}"
        at = text.find('{"')  # firmware's own messages need not end their line
        if at < 0:
            return
        try:
            found = json.loads(text[at:])
        except ValueError:
            self._broken = text[:80]  # the kernel's own words came into it: go() says why
            return
        self.run.lines.append(found)
        self.run.release = found.get("release", self.run.release)
        self._on_line(found)

    def _mark(self, snapshot: Snapshot, hart: Hart) -> None:
        if snapshot.code == MARK:
            self._first = snapshot
            if self._profile and isinstance(self.machine, Machine):
                self.machine.stop(_PROFILE, 0, "", hart)
        elif snapshot.code == END and self._first is not None:
            self.run.windows.append(between(self._first, snapshot, tuple(self._steps or ())))
            self._first = self._steps = None

    def _step(self) -> None:
        """Execute one instruction at a time to the end of the window."""
        assert isinstance(self.machine, Machine)
        hart, steps = self.machine.harts[0], list[Step]()
        self._steps = steps
        while self._first is not None:
            pc, mode = int(hart.pc), int(hart.priv) | int(hart.virt) << 2
            before = int(hart.instret) - int(hart.not_retired)
            if self.machine.run(1).reason != "limit":
                raise UsageError("the host ended while it was stepped")
            if int(hart.instret) - int(hart.not_retired) > before:
                steps.append((pc, mode))


def host_ramdisk(host: Host, files: Mapping[str, bytes]) -> bytes:
    """Return the initramfs of a host: the program as its init, its modules, further files."""
    return initramfs(read_file(host.program), {**files, **_module_files(host.modules)})


def run_events(
    host: Host,
    load: Payload,
    repeat: int = 3,
    progress: Callable[[int, int], None] | None = None,
    made: Callable[..., Session] = Session,
) -> tuple[Run, dict[tuple[str, str], list[Seen]]]:
    """Boot, raise every event `repeat` times, and return what was seen by (event, mode)."""
    total = len(load.entries) * repeat
    seen: dict[tuple[str, str], list[Seen]] = {}
    count = 0

    def line(found: dict[str, Any]) -> None:
        nonlocal count
        if "event" not in found:
            return
        count += 1
        one = from_report(found)
        if one.end != "no-mark":
            window = session.run.windows[-1]
            one.window, one.traps, one.levels = window, window.guest_traps, window.csrs
        seen.setdefault((one.event, one.mode), []).append(without_end(one))
        if progress is not None:
            progress(count, total)

    files = {"probe.bin": load.data, "probe.txt": load.manifest.encode()}
    session = made(host, files, f"events repeat={repeat} symbols=1", on_line=line)
    run = session.go()
    if count != total:
        raise UsageError(f"the KVM user program reported {count} of {total} events", remedy=_last_line(run.console))
    return run, seen


def quietest(turns: list[Seen]) -> Seen:
    """Return the turn with the fewest interrupts, and among those the one with the fewest instructions."""

    def noise(one: Seen) -> tuple[int, int]:
        window = one.window
        return (window.interrupts, sum(window.instructions.values())) if window else (1 << 30, 0)

    return min(turns, key=noise)


def _module_files(modules: tuple[Path, ...]) -> dict[str, bytes]:
    files = {}
    for module in modules:
        base, suffix = module.name.partition(".ko")[::2]
        files[f"modules/{base}.ko"] = _unpacked(str(module), read_file(module), suffix)
    return {**files, "modules.txt": "".join(f"/{name}\n" for name in files).encode()} if files else {}


def _unpacked(name: str, data: bytes, suffix: str) -> bytes:
    """Return a module's contents; packaged ones are compressed."""
    kind = {".xz": "xz", ".gz": "gzip", ".zst": "zstd"}.get(suffix)
    try:
        data = data if kind is None else unpack(data, kind)
    except DamagedError as error:
        raise UsageError(f"{name}: {error}") from None
    if data[:4] != MAGIC:
        raise UsageError(f"{name} is not a kernel module (no ELF)", remedy="--module names a kvm.ko or kvm.ko.xz")
    return data


def read_file(path: Path) -> bytes:
    """Read a file; UsageError says why it cannot be read."""
    try:
        return read_input(path)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from None


def _remedy(failed: str) -> str:
    if failed.startswith("/dev/kvm"):
        return "a kernel with KVM as a module needs --module kvm.ko"
    if "Exec format" in failed:
        return "the module must be of this very kernel"
    return "see --console FILE for all that the host wrote"


def _last_line(console: bytes) -> str:
    lines = console.decode(errors="replace").split("\n")
    return "its last line: " + next((line.strip()[:160] for line in reversed(lines) if line.strip()), "none")

"""The simulators that run side by side, and one timed run of a guest on one of them."""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKSUM = re.compile(rb"checksum ([0-9a-f]{16})")


@dataclass(frozen=True)
class Simulator:
    """One way to run a bare-metal ELF. `command` goes before the file's name."""

    name: str
    command: tuple[str, ...]
    version: str


@dataclass(frozen=True)
class Run:
    """One run: seconds on the wall and on the CPU (user and system, children included), and what it printed."""

    wall: float
    cpu: float
    checksum: str


class RunFailedError(Exception):
    """A simulator did not run the guest to its end."""


def _first_line(command: list[str]) -> str:
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return (answer.stdout or answer.stderr).strip().splitlines()[0]


def _spike_path() -> str | None:
    """The spike executable itself: the Python package puts a launcher in front of it, whose start-up is not Spike's."""
    try:
        from riscv._utils import find_spike_executable  # type: ignore[import-not-found]
    except ImportError:
        return shutil.which("spike") or shutil.which("spike", path=str(Path(sys.prefix) / "bin"))
    return str(find_spike_executable())


QEMU_BOARD = ("-machine", "virt", "-cpu", "rv64,h=true", "-nographic")


def other_qemus(texts: list[str]) -> dict[str, tuple[str, ...]]:
    """Return further QEMUs by name, from NAME=COMMAND; ValueError says which text is none."""
    found = {}
    for text in texts:
        name, _, command = text.partition("=")
        if not name.startswith("qemu-") or not command:
            raise ValueError(f"--qemu {text!r}: write qemu-VERSION=COMMAND")
        found[name] = tuple(shlex.split(command))
    return found


def available(others: dict[str, tuple[str, ...]] | None = None) -> dict[str, Simulator]:
    """Return trapline, those of qemu and spike that are installed, other QEMUs, and the host's own processor."""
    boot = (sys.executable, "-m", "trapline", "boot")
    found = {
        "trapline": Simulator("trapline", boot, "this tree"),
        "cold": Simulator(
            "cold", ("env", "TRAPLINE_JIT=fresh", *boot), "the same, without regions that earlier runs kept"
        ),
    }
    qemu = shutil.which("qemu-system-riscv64")
    for name, command in {**({"qemu": (qemu,)} if qemu else {}), **(others or {})}.items():
        found[name] = Simulator(
            name, (*command, *QEMU_BOARD, "-bios", "none", "-kernel"), _first_line([*command, "--version"])
        )
    spike = _spike_path()
    if spike:
        found["spike"] = Simulator("spike", (spike, "--isa=rv64gch"), _first_line([spike, "--help"]))
    if compiler := shutil.which(os.environ.get("HOSTCC", "cc")):
        found["native"] = Simulator("native", ("env",), f"{_first_line([compiler, '--version'])}, -O2, on the host")
    return found


def run_once(simulator: Simulator, guest: Path, timeout: float) -> Run:
    """Run `guest` to its end and measure it."""
    environment = dict(os.environ, PYTHONPATH=str(HERE.parent / "src"))
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # start-up as users have it
    read, write = os.pipe()
    start = time.perf_counter()
    process = subprocess.Popen(
        [*simulator.command, str(guest)], stdin=subprocess.DEVNULL, stdout=write, stderr=write, env=environment
    )
    os.close(write)
    output, usage, status = _collect(process, read, start + timeout)
    wall = time.perf_counter() - start
    checksum = CHECKSUM.search(output)
    if status != 0 or not checksum:
        tail = output[-300:].decode(errors="replace").strip()
        raise RunFailedError(f"{simulator.name} on {guest.name}: exit {status}: {tail}")
    return Run(wall, usage, checksum[1].decode())


def _collect(process: subprocess.Popen[bytes], read: int, deadline: float) -> tuple[bytes, float, int]:
    """Wait for the end of `process`; return its output, CPU seconds and exit status."""
    output = b""
    with open(read, "rb", buffering=0) as pipe:
        os.set_blocking(read, False)
        while True:
            output += pipe.read() or b""
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                output += pipe.read() or b""
                process.returncode = os.waitstatus_to_exitcode(status)
                return output, usage.ru_utime + usage.ru_stime, process.returncode
            if time.perf_counter() > deadline:
                process.kill()
                process.wait()
                return output + b"\n(timed out)", 0.0, -9
            time.sleep(0.002)


def host() -> dict[str, str]:
    """Describe the host: processor, cores, Python."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = re.findall(r"model name\s*: (.*)", info.read_text())
        model = names[0] if names else model
    return {"processor": model, "cores": str(os.cpu_count()), "python": platform.python_version()}

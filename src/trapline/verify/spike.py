"""Spike as an oracle: running a program for its signature, or for its commit log."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from trapline.verify.stream_layout import RAM, RAM_SIZE

_FETCH = re.compile(r"core +0: 0x([0-9a-f]{16}) \(0x([0-9a-f]+)\)")
_COMMIT = re.compile(r"core +0: ([013]) 0x([0-9a-f]{16}) \(0x([0-9a-f]+)\)(.*)")
_TRAP = re.compile(r"core +0: exception (\S+?)(?: #(\d+))?, epc 0x([0-9a-f]{16})")
_TVAL = re.compile(r"core +0: +tval 0x([0-9a-f]{16})")
_REGISTER = re.compile(r" ([xf]\d+|c\d+_\w+) +0x([0-9a-f]+)")
_MEMORY = re.compile(r" mem 0x([0-9a-f]{16})(?: 0x([0-9a-f]+))?")


class SpikeError(RuntimeError):
    """Spike is missing, failed, or did not end."""


@dataclass(slots=True)
class Commit:
    """One entry of Spike's log: an instruction that retired, or a trap (`trap` is its name, else empty)."""

    pc: int
    bits: int = 0
    privilege: int = -1
    registers: dict[str, int] = field(default_factory=dict)
    stores: list[tuple[int, int]] = field(default_factory=list)
    trap: str = ""
    tval: int = 0
    line: str = ""


def find_spike() -> str | None:
    """Return the path of the spike executable: that of the Python package, or one on the PATH."""
    try:
        from riscv._utils import find_spike_executable
    except ImportError:
        return shutil.which("spike") or shutil.which("spike", path=str(Path(sys.executable).parent))
    return str(find_spike_executable())


def _command(isa: str, *options: str) -> list[str]:
    spike = find_spike()
    if spike is None:
        raise SpikeError("spike is not installed (in the test extra: pip install spike)")
    return [spike, f"--isa={isa}", f"-m{RAM:#x}:{RAM_SIZE:#x}", "--triggers=0", *options]


def signature(elf: bytes, isa: str, timeout: float = 60.0) -> bytes:
    """Run a program to its end and return its memory from begin_signature to end_signature."""
    with tempfile.TemporaryDirectory() as directory:
        program, result = Path(directory) / "stream.elf", Path(directory) / "signature"
        program.write_bytes(elf)
        command = _command(isa, f"+signature={result}", "+signature-granularity=16", str(program))
        try:
            run = subprocess.run(command, capture_output=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired:
            raise SpikeError(f"spike did not end within {timeout:.0f} s") from None
        if run.returncode or not result.exists():
            raise SpikeError(f"spike failed with {run.returncode}: {run.stderr.decode(errors='replace').strip()}")
        # Each line is a little-endian number of 16 bytes, the highest digit first.
        return b"".join(bytes.fromhex(line)[::-1] for line in result.read_text().split())


def commits(elf: bytes, isa: str, timeout: float = 20.0) -> Iterator[Commit]:
    """Run a program and yield every instruction that retired and every trap, from reset on."""
    with tempfile.TemporaryDirectory() as directory:
        program, log = Path(directory) / "stream.elf", Path(directory) / "log"
        program.write_bytes(elf)
        command = _command(isa, "-l", "--log-commits", f"--log={log}", str(program))
        with suppress(subprocess.TimeoutExpired):  # the first divergence stands in what there is of the log
            subprocess.run(command, capture_output=True, timeout=timeout, check=False)
        with log.open() as lines:
            yield from parse(lines)


def parse(lines: Iterable[str]) -> Iterator[Commit]:
    """Parse the lines of a log made with -l --log-commits."""
    pending: Commit | None = None
    fetched = 0
    for line in lines:
        found = _COMMIT.match(line)
        if found is None and (fetch := _FETCH.match(line)):
            fetched = int(fetch[2], 16)
            continue
        if found is None and (trap := _TRAP.match(line)):
            if pending:
                yield pending
            name = trap[1] if trap[2] is None else f"{trap[1]} {trap[2]}"
            pending = Commit(int(trap[3], 16), fetched, trap=name, line=line.strip())
        elif found is None and pending and (tval := _TVAL.match(line)):
            pending.tval = int(tval[1], 16)
        if found is None:
            continue
        if pending:
            yield pending
            pending = None
        rest = found[4]
        yield Commit(
            int(found[2], 16),
            int(found[3], 16),
            int(found[1]),
            {name: int(value, 16) for name, value in _REGISTER.findall(rest)},
            [(int(a, 16), int(v, 16)) for a, v in _MEMORY.findall(rest) if v],
            line=line.strip(),
        )
    if pending:
        yield pending

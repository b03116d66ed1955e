"""What a guest that ends at once does without, and one that runs on gets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = str(Path(__file__).resolve().parents[2] / "src")
# A loop of so many rounds on a board, then what it has: samples met, SQLite, 2 MiB pages (KiB of the process).
CODE = """
import sys
from trapline.engine.native import NativeEngine
from trapline.machine.machine import Machine
engine = NativeEngine(jit="fresh")
machine = Machine(engine=engine, memory=64 << 20)
loop = [0x00000013, 0xFFDFF06F]  # nop; j .-4
machine.regions.write(0x80000000, b"".join(word.to_bytes(4, "little") for word in loop))
machine.harts[0].pc = 0x80000000
machine.run(max_instructions=int(sys.argv[1]))
huge = sum(int(line.split()[1]) for line in open("/proc/self/smaps") if line.startswith("AnonHugePages"))
print(int(engine.tier.started), int(huge > 0))
"""


def huge_pages() -> bool:
    """Whether the host gives huge pages to memory that asks for them, and collapses what is there."""
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    release = tuple(int(n) for n in os.uname().release.split(".")[:2])
    return setting.exists() and "[never]" not in setting.read_text() and release >= (6, 1)


@pytest.mark.parametrize(("instructions", "long"), [(1000, 0), (200_000, 1)])
def test_only_a_guest_that_runs_on_gets_threads_and_huge_pages(instructions: int, long: int) -> None:
    """Before 20 000 attempts no thread that compiles is started and no huge page is touched; behind them both are."""
    command = [sys.executable, "-c", CODE, str(instructions)]
    environment = {**os.environ, "PYTHONPATH": SOURCE}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(long), str(int(bool(long) and huge_pages()))]

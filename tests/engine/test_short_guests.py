"""What a guest that ends at once does without, and one that runs on gets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = str(Path(__file__).resolve().parents[2] / "src")
# A loop of so many rounds on a board, then whether it has threads and 2 MiB pages.
CODE = """
import sys
from trapline.engine.native import NativeEngine
from trapline.machine.machine import Machine
engine = NativeEngine(jit="fresh")
machine = Machine(engine=engine, memory=64 << 20)
machine.regions.write(0x81000000, bytes(8 << 20))
loop = [0x00000013, 0xFFDFF06F]  # nop; j .-4
machine.regions.write(0x80000000, b"".join(word.to_bytes(4, "little") for word in loop))
machine.harts[0].pc = 0x80000000
machine.run(max_instructions=int(sys.argv[1]))
huge = sum(int(line.split()[1]) for line in open("/proc/self/smaps") if line.startswith("AnonHugePages"))
print(int(engine.tier.started), int(huge > 0))
"""


@pytest.mark.parametrize(("instructions", "long"), [(1000, 0), (200_000, 1)])
def test_only_a_guest_that_runs_on_gets_threads(instructions: int, long: int) -> None:
    """Before 20 000 attempts no thread that compiles is started, behind them it is; both touch no huge page."""
    command = [sys.executable, "-c", CODE, str(instructions)]
    environment = {**os.environ, "PYTHONPATH": SOURCE}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(long), "0"]

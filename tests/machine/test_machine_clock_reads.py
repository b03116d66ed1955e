"""Reading a clock of the board takes time, the same on every engine and however a run is cut."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from trapline.engine.api import Engine
from trapline.engine.native import NativeEngine
from trapline.engine.reference import ReferenceEngine
from trapline.isa.assemble import assemble
from trapline.machine.devices.clint import CLOCK_COST, CLOCK_READS
from trapline.machine.machine import Machine

BASE = 0x8000_0000
CLOCKS = {"mtime": 0x200BFF8, "rtc": 0x101000}
# Both harts read the clock; each has a timer interrupt every 400 ticks, whose times and places it sums.
POLLS = """
 csrr s0, mhartid
 la t0, handler
 csrw mtvec, t0
 li s1, 0x2004000
 slli t1, s0, 3
 add s1, s1, t1
 li s2, 0x200bff8
 li s3, {clock}
 ld t1, 0(s2)
 addi t1, t1, 400
 sd t1, 0(s1)
 li t1, 0x80
 csrw mie, t1
 csrsi mstatus, 8
again:
 lw a0, 0(s3)
 add a1, a1, a0
 addi s4, s4, 1
 j again
 .align 2
handler:
 addi s5, s5, 1
 csrr t3, mepc
 add s6, s6, t3
 add s7, s7, s4
 ld t1, 0(s2)
 addi t1, t1, 400
 sd t1, 0(s1)
 mret
"""
ENGINES = {
    "reference": ReferenceEngine,
    "interpreter": lambda: NativeEngine(jit="off"),
    "regions": lambda: NativeEngine(jit="force"),
}


def polls(tmp_path: Path, engine: Engine, clock: int, harts: int = 2) -> Machine:
    """A board that reads a clock."""
    path = tmp_path / "polls.bin"
    path.write_bytes(assemble(POLLS.format(clock=clock), BASE))
    made = Machine(memory=1 << 20, harts=harts, engine=engine)
    made.load(path)
    return made


def state(made: Machine) -> object:
    """Registers, places, times of the harts, and the devices'."""
    harts = [(*(int(h.x[i]) for i in range(32)), int(h.pc), int(h.instret), int(h.time_offset)) for h in made.harts]
    return harts, made.io.state()


@pytest.mark.parametrize("clock", CLOCKS.values(), ids=CLOCKS)
def test_engines_agree_on_the_time_of_reads(tmp_path: Path, clock: int) -> None:
    """Interrupts, registers and time after thousands of reads are the same with and without native code."""
    ends = []
    for make in ENGINES.values():
        made = polls(tmp_path, make(), clock)
        made.run(14_000)
        ends.append(state(made))
        assert all(int(hart.time_offset) > 0 and int(hart.x[21]) > 0 for hart in made.harts)
    assert ends[1] == ends[0]
    assert ends[2] == ends[0]


@pytest.mark.parametrize("jit", ["off", "force"])
def test_how_a_run_is_cut_changes_no_time(tmp_path: Path, jit: str) -> None:
    """Runs of any length one after another, with a snapshot between them, end as one run does."""
    whole = polls(tmp_path, NativeEngine(jit=jit), CLOCKS["mtime"])
    whole.run(200_000)
    rng, done = random.Random(7), 0
    made = polls(tmp_path, NativeEngine(jit=jit), CLOCKS["mtime"])
    while done < 200_000:
        size = min(rng.choice((1, 300, 4_000, 30_000)), 200_000 - done)
        made.run(size)
        done += size
        if done > 100_000 and size == 300:
            made.snapshot(tmp_path / "saved")
            made = Machine.restore(tmp_path / "saved", engine=NativeEngine(jit=jit))
    assert state(made) == state(whole)


def test_a_wait_does_not_take_its_instructions(tmp_path: Path) -> None:
    """Beside what a loop over mtime executes, each read passes the time of a hundred instructions."""
    made = polls(tmp_path, NativeEngine(jit="off"), CLOCKS["mtime"], harts=1)
    made.run(40_000)
    reads = int(made.harts[0].x[20])
    by_reads = int(made.harts[0].time_offset) * int(made.harts[0].time_ratio)
    assert reads > 9_000
    assert abs(by_reads - reads * CLOCK_COST) <= 2 * CLOCK_READS * CLOCK_COST


def test_other_registers_take_no_time(tmp_path: Path) -> None:
    """Polling the serial port's state moves no clock."""
    made = polls(tmp_path, NativeEngine(jit="off"), 0x10000004, harts=1)
    made.run(10_000)
    assert int(made.harts[0].time_offset) == 0

"""The memory for compiled regions is emptied when it is full; the guest goes on, and what is hot comes back."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from trapline.engine.jit.area import CodeArea
from trapline.engine.native import NativeEngine
from trapline.isa.assemble import assemble
from trapline.lang.state import Hart
from trapline.machine.machine import Machine
from trapline.vmm.guest import Guest

BASE = 0x8000_0000
FUNCTIONS = 24
ROOM = 4 << 10  # for three or four of them


BOARD = "csrr s3, mhartid"
GUEST = "mv s3, a0; bnez a0, work; li a0, 1; la a1, start; li a6, 0; li a7, 0x48534d; ecall"  # HSM hart_start


def program(rounds: int, begin: str = BOARD, base: int = BASE) -> bytes:
    """Two harts call 24 functions with a loop each, again and again, and sum what they return in s2."""
    calls = "\n".join(f" call f{n}\n add s2, s2, a0" for n in range(FUNCTIONS))
    bodies = "\n".join(
        f"""
        .balign 256
        f{n}:
         li t0, 300
         mv a0, s3
        l{n}:
         addi a0, a0, {n + 1}; slli t1, a0, {n % 7 + 1}; xor a0, a0, t1; addi t0, t0, -1; bnez t0, l{n}
         ret
        """
        for n in range(FUNCTIONS)
    )
    return assemble(
        f"""
        start:
         {begin}
        work:
         li s0, {rounds}
        again:
         {calls}
         addi s0, s0, -1
         bnez s0, again
        end: j end
        {bodies}
        """,
        base,
    )


def machine(tmp_path: Path, engine: NativeEngine, rounds: int) -> Machine:
    """Two harts with the program."""
    path = tmp_path / "code.bin"
    path.write_bytes(program(rounds))
    made = Machine(memory=2 << 20, harts=2, engine=engine)
    made.load(path)
    return made


def state(harts: Sequence[Hart]) -> list[tuple[int, ...]]:
    """Registers, place and instructions of each hart."""
    return [(*(int(h.x[i]) for i in range(32)), int(h.pc), int(h.instret)) for h in harts]


def wanted(tmp_path: Path, rounds: int, attempts: int) -> list[tuple[int, ...]]:
    """The state after so many attempts without regions."""
    plain = machine(tmp_path, NativeEngine(jit="off"), rounds)
    plain.run(attempts)
    return state(plain.harts)


def test_a_full_area_is_emptied_and_filled_again(tmp_path: Path) -> None:
    """Every block compiled before it runs, in an area for a few: all harts end as without regions."""
    made = machine(tmp_path, NativeEngine(jit="force", area_bytes=ROOM), 3)
    made.run(300_000)
    assert made.engine.tier.flushes > 3
    assert made.engine.tier.area.end <= ROOM
    assert state(made.harts) == wanted(tmp_path, 3, 300_000)


def test_a_region_that_fits_into_no_area_is_not_asked_for_again(tmp_path: Path) -> None:
    """With an area that is too small for any region the interpreter runs everything, without flushes."""
    made = machine(tmp_path, NativeEngine(jit="force", area_bytes=64), 1)
    made.run(100_000)
    assert made.engine.tier.flushes == 0
    assert state(made.harts) == wanted(tmp_path, 1, 100_000)


def test_threads_that_compile_meet_a_full_area(tmp_path: Path) -> None:
    """Regions compiled beside the guest fill the area again and again: they come back, and all harts end right."""
    made = machine(tmp_path, NativeEngine(jit="fresh", area_bytes=ROOM), 1 << 30)
    tier, done, end = made.engine.tier, 0, time.monotonic() + 30
    while tier.flushes < 4 and time.monotonic() < end:
        done += 20_000_000
        made.run(20_000_000)
    tier.close()
    tier.join()
    assert tier.failure is None
    assert tier.flushes >= 4
    assert tier.found > 0  # regions that had been compiled before a flush
    assert state(made.harts) == wanted(tmp_path, 1 << 30, done)


def test_snapshots_beside_flushes(tmp_path: Path) -> None:
    """A machine that goes on from a snapshot in an area as small as before ends as the one that was not saved."""
    made = machine(tmp_path, NativeEngine(jit="force", area_bytes=ROOM), 4)
    made.run(150_000)
    made.snapshot(tmp_path / "saved")
    other = Machine.restore(tmp_path / "saved", engine=NativeEngine(jit="force", area_bytes=ROOM))
    for each in (made, other):
        each.run(150_000)
        assert each.engine.tier.flushes > 0
    assert state(other.harts) == state(made.harts) == wanted(tmp_path, 4, 300_000)


def test_vcpus_of_a_guest_meet_a_full_area(tmp_path: Path) -> None:
    """Two vCPUs of a hosted guest in an area for a few regions end as without regions."""
    path = tmp_path / "guest.bin"
    path.write_bytes(program(1 << 30, GUEST, 0x8020_0000))
    ends = []
    for engine in (NativeEngine(jit="force", area_bytes=ROOM), NativeEngine(jit="off")):
        guest = Guest(memory=4 << 20, vcpus=2, engine=engine)
        guest.load(path)
        guest.run(max_instructions=300_000)
        ends.append((state([vcpu.hart for vcpu in guest.vm.vcpus]), guest.position()))
        assert engine.tier is None or engine.tier.flushes > 1
    assert ends[0] == ends[1]
    assert all(hart[18] for hart in ends[0][0])


def test_an_area_keeps_room_for_stubs() -> None:
    """Code is refused where its stubs would not fit; an empty area that is too small is not called full."""
    area = CodeArea(1 << 12)
    assert area.add([0], bytes(4096 - 3 * 16 + 1), 2) is None
    assert not area.full
    assert area.add([0], bytes(2048), 1) is not None
    assert area.add([0], bytes(2048), 1) is None
    assert area.full
    area.empty()
    assert area.add([0], bytes(2048), 1) is not None


def test_a_tier_that_fails_is_said(tmp_path: Path) -> None:
    """An error in finding or compiling ends no run and changes no result; the engine notes it."""
    engine = NativeEngine(jit="fresh")
    made = machine(tmp_path, engine, 1 << 30)

    def broken() -> bool:
        raise OSError("no more threads")

    engine.tier.look = broken
    made.run(30_000_000)
    engine.tier.close()
    engine.tier.join()
    assert [note for note in engine.notes() if "OSError: no more threads" in note]
    assert state(made.harts) == wanted(tmp_path, 1 << 30, 30_000_000)


@pytest.mark.parametrize("error", [OSError("Cannot allocate memory"), RuntimeError("can't start new thread")])
def test_a_tier_that_cannot_start_is_said(tmp_path: Path, error: Exception) -> None:
    """No memory that may be executed, no thread: the interpreter runs everything, and the engine notes it."""
    engine = NativeEngine(jit="fresh")
    made = machine(tmp_path, engine, 1 << 30)

    def broken() -> None:
        raise error

    engine.tier._start = broken
    made.run(1_000_000)
    assert [note for note in engine.notes() if str(error) in note]
    assert state(made.harts) == wanted(tmp_path, 1 << 30, 1_000_000)

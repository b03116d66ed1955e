"""A ring that fills up ends the turn, so that it is read before anything is overwritten."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from trapline.isa.assemble import assemble
from trapline.lab.boot import BootOptions, make_machine
from trapline.lab.guest_run import RunOptions, make_guest
from trapline.lab.settings import settings
from trapline.session.observe.trace import Traced, Tracer, records
from trapline.session.observe.trap_counts import summed, trap_rows

ENTRIES, PASSES = 16, 50  # of a ring; of each guest's loop
HANDLER = ".align 2; handler: csrr t1, sepc; addi t1, t1, 4; csrw sepc, t1; sret"
OFF = "li a7, 0x53525354; li a6, 0; li a0, 0; li a1, 0; ecall"
KINDS = {
    "delegated": ".insn 0x00100073",
    "call": "li a7, 0x10; li a6, 0; ecall",
    "emulated": "csrr t2, 0xc03",
    "device": "lb t2, 5(s1)",
    "both": ".insn 0x00100073; li a7, 0x10; ecall; lb t2, 5(s1)",
}


def guest(kind: str) -> str:
    """Return a guest that traps in a loop and powers off."""
    start = f"la t0, handler; csrw stvec, t0; li s1, 0x10000000; li s0, {PASSES}"
    return f"{start}; 1: {KINDS[kind]}; addi s0, s0, -1; bnez s0, 1b; {OFF}; {HANDLER}"


def collected(tracer: Tracer) -> tuple[list[Traced], Callable[[], None]]:
    """Return where the records of a tracer come to, and what reads its rings."""
    found: list[Traced] = []

    def look() -> None:
        found.extend(t for hart, data in tracer.take() for t in records(hart, data))

    return found, look


def traced_guest(folder: Path, code: str, engine: str, harts: int = 1) -> list[Traced]:
    """Run a guest with small rings; return what was traced, nothing of which is lost."""
    image = folder / "guest.bin"
    image.write_bytes(assemble(code, 0x8020_0000))
    made = make_guest(
        RunOptions(str(image), settings("linux-6.12"), memory="16M", smp=harts, engine=engine, explain=False)
    )
    tracer = Tracer([vcpu.hart for vcpu in made.vm.vcpus], entries=ENTRIES)
    found, made.on_round = collected(tracer)
    assert made.run(max_instructions=20_000).reason == "exit"
    made.on_round()
    assert tracer.lost == 0
    return found


@pytest.mark.parametrize("engine", ["native", "reference"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_guest_that_traps_all_the_time_loses_nothing(kind: str, engine: str, tmp_path: Path) -> None:
    """Each trap of each kind is there, once, in the order of time."""
    found = traced_guest(tmp_path, guest(kind), engine)
    traps = Counter((t.cause, t.level) for t in found if not t.returns and t.mode == "VS")
    expected = {
        "delegated": {(3, "VS"): PASSES},
        "call": {(10, "HS"): PASSES + 1},
        "emulated": {(10, "HS"): 1, (22, "HS"): PASSES},
        "device": {(10, "HS"): 1, (21, "HS"): PASSES},
        "both": {(3, "VS"): PASSES, (10, "HS"): PASSES + 1, (21, "HS"): PASSES},
    }[kind]
    assert {key: traps[key] for key in expected} == expected
    assert [t.instret for t in found] == sorted(t.instret for t in found)


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_several_vcpus_lose_nothing(engine: str, tmp_path: Path) -> None:
    """Each vCPU's ring ends its turn."""
    second = "la a1, second; li a0, 1; li a2, 0; li a7, 0x48534D; li a6, 0; ecall; "
    body = f"second: {guest('both')}"
    found = traced_guest(tmp_path, second + body.replace(OFF, f"csrr t3, sscratch; {OFF}"), engine, harts=2)
    assert all(sum(t.hart == hart for t in found) > 4 * ENTRIES for hart in (0, 1))


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_a_guest_ends_the_same_with_and_without_a_full_ring(engine: str, tmp_path: Path) -> None:
    """A turn that ends for the ring changes neither the traps nor the time at which they come."""
    small = traced_guest(tmp_path, guest("both"), engine)
    image = tmp_path / "guest.bin"
    made = make_guest(RunOptions(str(image), settings("linux-6.12"), memory="16M", engine=engine, explain=False))
    tracer = Tracer([made.vm.vcpus[0].hart])
    found, look = collected(tracer)
    made.run()
    look()
    assert found == small


BOARD = (
    "csrr t3, mhartid; la t0, handler; csrw mtvec, t0; li s0, {passes}; "
    "1: .insn 0x00100073; csrw 0xc00, t0; ecall; addi s0, s0, -1; bnez s0, 1b; bnez t3, 2f; 0: wfi; j 0b; "
    "2: li t0, 0x100000; li t1, 0x5555; sw t1, 0(t0); 3: j 3b; "
    ".align 2; handler: csrr t1, mepc; addi t1, t1, 4; csrw mepc, t1; mret"
)


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_harts_of_a_board_lose_nothing(engine: str, tmp_path: Path) -> None:
    """What two harts trap for agrees with the compiled counters."""
    image = tmp_path / "board.bin"
    image.write_bytes(assemble(BOARD.format(passes=PASSES), 0x8000_0000))
    machine = make_machine(BootOptions(image=str(image), memory="16M", smp=2, engine=engine))
    tracer = Tracer(machine.harts, entries=ENTRIES)
    found, machine.on_round = collected(tracer)
    assert machine.run(max_instructions=20_000).reason == "exit"
    machine.on_round()
    assert tracer.lost == 0
    traps = Counter((t.cause, t.mode, t.level) for t in found if not t.returns)
    assert traps == {(c, o, d): n for c, o, d, n in trap_rows(summed(machine.harts))}
    assert all(sum(t.hart == hart for t in found) > 4 * ENTRIES for hart in (0, 1))

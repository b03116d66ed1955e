"""Where a guest is that was cut short, and what it waits for."""

from __future__ import annotations

import re

import pytest
from tests.small_elf import elf

from trapline.isa.assemble import assemble
from trapline.lab.symbols import Symbols, Table
from trapline.lab.whereabouts import Place, whereabouts
from trapline.session.terminal.console import Console
from trapline.vmm.guest import Guest

BASE = 0x8020_0000
NAMES = Symbols([Table("guest", "VS", [BASE, BASE + 0x100], ["start", "flag"])])


def places(source: str, limit: int = 5000, console: Console | None = None, **options: object) -> list[Place]:
    """Run a guest to a limit; say where it is."""
    guest = Guest("linux-7.2", memory=8 << 20, console=console, **options)  # type: ignore[arg-type]
    guest.load_bytes(elf(BASE, [(BASE, assemble(source, BASE))]), "guest")
    assert guest.run(limit).reason in ("limit", "stuck")
    return whereabouts(guest, NAMES)


LOOPS = [
    ("1: j 1b", "spins in a loop of one instruction: it looks at nothing, and no interrupt is enabled: it never ends"),
    (
        "li t0, 512; csrs sie, t0; li t0, 2; csrs sstatus, t0; 1: j 1b",
        "spins in a loop of one instruction: it looks at nothing; only external interrupts can end it",
    ),
    ("li t0, 1; 1: addi t0, t0, 1; j 1b", "goes round in a loop of 2 instructions"),
    (
        "li t0, 0x10000005; 1: lbu t1, 0(t0); andi t1, t1, 1; beqz t1, 1b",
        "goes round in a loop of 3 instructions that reads the serial port at 0x10000005",
    ),
    (
        "la t0, flag; 1: ld t1, 0(t0); beqz t1, 1b\n.align 8\nflag: .zero 8",
        "goes round in a loop of 2 instructions that reads memory at 0x80200100 <flag>",
    ),
    ("li t2, -1; 1: rdtime t1; bltu t1, t2, 1b", "goes round in a loop of 2 instructions that reads time"),
    (
        "1: li a7, 0x48534d; li a6, 2; li a0, 0; ecall; j 1b",
        "goes round in a loop of 6 instructions that calls SBI HSM function 2",
    ),
    ("1: wfi\n j 1b", "waits in wfi, and has enabled no interrupt: nothing can wake it"),
    ("li t0, 32; csrs sie, t0; 1: wfi\n j 1b", "waits in wfi for timer interrupts; no timer is set"),
    (
        "li t0, 512; csrs sie, t0; li a7, 0x48534d; li a6, 3; li a0, 0; ecall; 1: j 1b",
        "waits in the SBI call HSM for external interrupts",
    ),
    (
        "li t0, 0x10000000; csrw stvec, t0; .insn 0x0000000b",
        "its trap handler at 0x10000000 traps itself, again and again: inst-access at 0x10000000",
    ),
]


@pytest.mark.parametrize(("source", "what"), LOOPS)
def test_what_a_vcpu_does(source: str, what: str) -> None:
    """A loop is told by what it looks at, a vCPU that blocks by what could wake it."""
    (place,) = places(source, limit=300 if "stvec" in source else 5000)
    assert place.what == what


def test_a_loop_that_prints() -> None:
    """A loop that writes to a device says so, and nothing more is printed while it is followed."""
    out = bytearray()
    (place,) = places("li t0, 0x10000000; li t1, 65; 1: sb t1, 0(t0); j 1b", 300, Console(out.extend))
    before = len(out)
    assert "writes to the serial port at 0x10000000" in place.what
    assert 100 < before < 200


def test_the_timer_that_is_due() -> None:
    """A vCPU that waits for its timer says when that is."""
    source = (
        "li t0, 32; csrs sie, t0; rdtime a0; li t1, 5000000; add a0, a0, t1; li a7, 0x54494d45; li a6, 0; ecall\n"
        "1: wfi\n j 1b"
    )
    guest = Guest("linux-7.2", memory=8 << 20)
    guest.load_bytes(elf(BASE, [(BASE, assemble(source, BASE))]), "guest")
    guest.vm.on_idle = lambda: True  # come back instead of passing the time
    guest.vm.run(max_instructions=1000)
    (place,) = whereabouts(guest, NAMES)
    assert re.fullmatch(r"waits in wfi for timer interrupts; the timer is due in 4\d\d\.\d{3} ms", place.what)


def test_a_vcpu_that_nobody_started() -> None:
    """Of several vCPUs each has its place; one that was never started says so."""
    one, other = places("1: j 1b", vcpus=2)
    assert (one.mode, one.pc, one.symbol) == ("VS", BASE, "start")
    assert other.what == "stopped: no vCPU has started it"


def test_work_is_no_loop() -> None:
    """A guest that gets on is told by how many different instructions it executes, and where."""
    source = "\n".join(f"addi t0, t0, {n & 7}" for n in range(800)) + "\n1: j 1b"
    (place,) = places(source, limit=100)
    assert place.what == "runs: 600 different instructions among the next 600, most of them in flag"

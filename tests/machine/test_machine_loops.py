"""Harts that repeat one trap for ever are told apart from those that get on."""

from __future__ import annotations

import pytest
from machine_fakes import make_elf

from trapline.isa.assemble import assemble
from trapline.lang.state.words import LAYOUT
from trapline.machine.machine import Machine
from trapline.session.loops import Loop, loops
from trapline.session.terminal.console import Console

BASE = 0x8000_0000
ROOT = BASE + 0x4000
TO_S = "li t0, 1 << 11\n csrs mstatus, t0\n la t0, supervisor\n csrw mepc, t0\n mret\n"
RETURNS = "handler: csrr t3, mcause\n mret\n"
SETS_UP = "la t0, handler\n csrw mtvec, t0\n"


@pytest.fixture(params=["reference", "native"])
def engine(request: pytest.FixtureRequest) -> str:
    """Both engines."""
    return str(request.param)


def board(source: str, engine: str, **options: object) -> Machine:
    """A board whose program has run for a while."""
    made = Machine(engine=engine, memory=1 << 20, **options)  # type: ignore[arg-type]
    made.load_elf(make_elf(assemble(source, BASE), memory_size=0x8000))
    made.run(max_instructions=700)
    return made


def found(source: str, engine: str, **options: object) -> Loop | None:
    """What its hart repeats."""
    made = board(source, engine, **options)
    seen = loops(made.harts, made.engine)
    return seen[0] if seen else None


def paged(flags: int, body: str) -> str:
    """S-mode under Sv39 with one identity-mapped gigabyte of these flags, and M-mode that returns from every trap."""
    entry = BASE >> 12 << 10 | flags
    return f"""
        {SETS_UP}
        li t0, {ROOT + 8 * (BASE >> 30)}
        li t1, {entry}
        sd t1, 0(t0)
        li t0, {8 << 60 | ROOT >> 12}
        csrw satp, t0
        {TO_S}
        .balign 4
        {RETURNS}
    supervisor:
        {body}
    1:  j 1b
    """


def test_misaligned_access_without_a_handler(engine: str) -> None:
    """A bare program that misaligns with mtvec unset is told so, and how the hart would do it itself."""
    source = f"li t0, {BASE + 1}\n ld t1, 0(t0)\n 1: j 1b"
    loop = found(source, engine)
    assert loop is not None
    assert (loop.pc, loop.cause, loop.origin, loop.destination) == (0, 1, "M", "M")
    for words in ("no memory at 0x0", "mtvec is 0", "began with load-misaligned", "--misaligned hardware"):
        assert words in loop.reason
    assert found(source, engine, misaligned="hardware") is None


def test_misaligned_access_whose_handler_returns(engine: str) -> None:
    """A handler that returns to the misaligned store is told of the same way out."""
    loop = found(f"{SETS_UP} 1: sw t0, 3(t0)\n j 1b\n .balign 4\n{RETURNS}", engine)
    assert loop is not None
    assert (loop.cause, loop.pc) == (6, BASE + 12)
    assert "is misaligned; --misaligned hardware" in loop.reason


@pytest.mark.parametrize(
    ("flags", "body", "cause", "reason"),
    [
        (0x0F, "nop", 12, "A is 0 in the PTE at 0x80004010 (0x2000000f), and menvcfg.ADUE is 0"),
        (0x4F, f"li t0, {BASE + 0x6000}\n sd t0, 0(t0)", 15, "D is 0 in the PTE at 0x80004010 (0x2000004f), and"),
        (0xCB, f"li t0, {BASE + 0x6000}\n sd t0, 0(t0)", 15, "W is 0 in the PTE at 0x80004010"),
        (0xC7, "nop", 12, "X is 0 in the PTE at 0x80004010"),
        (0xDF, "nop", 12, "U is 1 in the PTE at 0x80004010, and the access is made in S-mode"),
        (0x0E, "nop", 12, "V is 0 in the PTE at 0x80004010 (0x2000000e)"),
        (0xCD, "nop", 12, "the PTE at 0x80004010 (0x200000cd) has a reserved encoding"),
        (0xCF | 1 << 10, "nop", 12, "the PTE at 0x80004010 (0x200004cf) is a large page that is misaligned"),
        (0xCF, "ld t0, 0(zero)", 13, "V is 0 in the PTE at 0x80004000"),
        (0xCF, "li t0, 1 << 40\n ld t0, 0(t0)", 13, "0x10000000000 is no address of Sv39"),
        (0xCF, "csrr t0, mstatus", 2, "is illegal there"),
        (0xCF, "ecall", 9, "returns to the same instruction"),
        (0xCF, "ebreak", 3, "an ebreak that nobody serves"),
    ],
)
def test_reasons_in_s_mode(flags: int, body: str, cause: int, reason: str) -> None:
    """The line names what forbids the access: the bit and the page-table entry, or the kind of instruction."""
    loop = found(paged(flags, body), "native", isa="rv64gc_svade")
    assert loop is not None
    assert (loop.cause, loop.origin, loop.destination) == (cause, "HS", "M")
    assert reason in loop.reason


@pytest.mark.parametrize(
    ("body", "cause", "reason"),
    [
        ("li t0, 0x40000000\n ld t0, 0(t0)", 5, "no memory at 0x40000000"),
        ("li t0, 0x40000000\n jr t0", 1, "no memory at 0x40000000"),
        ("li t0, 0x1000\n sd t0, 0(t0)", 7, "0x1000 is ROM"),
        ("li t0, 0x10000000\n jr t0", 1, "what lies at 0x10000000 cannot be executed"),
        ("csrw pmpcfg0, zero\n li t0, 1 << 11\n csrs mstatus, t0\n la t0, 1f\n csrw mepc, t0\n mret\n1:nop", 1, "PMP"),
        (".word 0", 2, "all zeros"),
    ],
)
def test_reasons_in_m_mode(body: str, cause: int, reason: str) -> None:
    """Access faults name the address and what is there."""
    loop = found(f"{SETS_UP}{body}\n2: j 2b\n .balign 4\n{RETURNS}", "native")
    assert loop is not None
    assert loop.cause == cause
    assert reason in loop.reason


def test_interrupt_that_stays_pending(engine: str) -> None:
    """A handler that does not clear its interrupt is told so."""
    source = f"{SETS_UP} li t0, 0x80\n csrw mie, t0\n csrsi mstatus, 8\n 1: j 1b\n .balign 4\n{RETURNS}"
    loop = found(source, engine)
    assert loop is not None
    assert "m-timer from M to M" in loop.describe()
    assert "leaves it pending" in loop.reason


@pytest.mark.parametrize(
    "source",
    [
        "1: j 1b",
        f"{SETS_UP} 1: ecall\n j 1b\n .balign 4\nhandler: csrr t3, mepc\n addi t3, t3, 4\n csrw mepc, t3\n mret",
        f"{SETS_UP} 1: ecall\n j 1b\n .balign 4\nhandler: addi s1, s1, 1\n mret",
        f"{SETS_UP} 1: ecall\n j 1b\n .balign 4\nhandler: li t3, 0x10000000\n sb t3, 0(t3)\n mret",
        f"{SETS_UP} ecall\n .balign 4\nhandler: wfi\n j handler",
    ],
    ids=["idle", "steps over", "counts", "prints", "waits"],
)
def test_harts_that_get_on(source: str, engine: str) -> None:
    """Idling, a call that its handler steps over, a handler that changes something or reaches a device: no loop."""
    assert found(source, engine) is None


def test_looking_changes_nothing(engine: str) -> None:
    """The hart and its devices are as before: nothing is printed, and every word of its state stays."""
    out: list[bytes] = []
    source = f"{SETS_UP} ecall\n .balign 4\nhandler: li t3, 0x10000000\n li t4, 'A'\n sb t4, 0(t3)\n mret"
    made = board(source, engine, console=Console(out.append))
    printed, hart = len(b"".join(out)), made.harts[0]
    words = [(f.name, hart.mem[f.index : f.index + f.count].tolist()) for f in LAYOUT.fields.values() if not f.host]
    assert not loops(made.harts, made.engine)
    for name, before in words:
        f = LAYOUT.fields[name]
        assert hart.mem[f.index : f.index + f.count].tolist() == before, name
    assert len(b"".join(out)) == printed
    made.run(max_instructions=100)
    assert len(b"".join(out)) > printed


def test_json_of_a_loop() -> None:
    """The JSON form has the trap by number and name, where it is raised, the modes and the reason."""
    loop = found(f"{SETS_UP} ebreak\n .balign 4\n{RETURNS}", "native")
    assert loop is not None
    assert loop.as_data() == {
        "hart": 0, "cause": 3, "name": "breakpoint", "pc": BASE + 12, "tval": BASE + 12, "from": "M", "to": "M",
        "reason": "an ebreak that nobody serves",
    }  # fmt: skip
    assert loop.describe() == "hart 0 loops at pc 0x8000000c with breakpoint from M to M: an ebreak that nobody serves"

"""Programmable counters in running programs: both engines count the same, and overflow at the same instruction."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from machine_fakes import make_elf

from trapline.engine.native import NativeEngine
from trapline.isa.assemble import assemble
from trapline.machine.machine import Machine
from trapline.privilege.csr_numbers import CSR_BY_NAME

BASE, DATA = 0x8000_0000, 0x8001_0000
TABLES = 0x8000_4000  # level 2, 1 and 0
EVENTS = (1, 1 << 62 | 2, 1 << 61 | 2, 1 << 60 | 2, 0x10019, 0x1001B, 0x10021, 0x20001, 0x20002, 1 << 60 | 0x20003)
FINISH = "li t0, 0x100000\n li t1, 0x5555\n sw t1, 0(t0)\n 9: j 9b\n"


def engines() -> Iterator[object]:
    """The reference, the interpreter, and code that is compiled before it runs."""
    yield "reference"
    yield NativeEngine(jit="off")
    yield NativeEngine(jit="force")


def set_up(events: tuple[int, ...]) -> str:
    """Select events, map a megabyte by pages of 4 KiB, and let S- and U-mode count."""
    return "\n".join(
        [
            "la t0, handler\n csrw mtvec, t0\n li t0, -1\n csrw mcounteren, t0\n csrw scounteren, t0",
            f"li t0, {TABLES}\n li t1, {TABLES + 0x1000 >> 2 | 1}\n sd t1, 16(t0)",
            f"li t0, {TABLES + 0x1000}\n li t1, {TABLES + 0x2000 >> 2 | 1}\n sd t1, 0(t0)",
            f"li t0, {TABLES + 0x2000}\n li t1, {BASE >> 2 | 0xCF}\n li t2, 256",
            "1: sd t1, 0(t0)\n addi t0, t0, 8\n addi t1, t1, 0x400\n addi t2, t2, -1\n bnez t2, 1b",
            f"li t0, {8 << 60 | TABLES >> 12}\n csrw satp, t0",
            *(f"li t0, {event}\n csrw mhpmevent{n + 3}, t0" for n, event in enumerate(events)),
            "li t0, 1 << 11\n csrs mstatus, t0\n la t0, supervisor\n csrw mepc, t0\n mret\n .balign 4",
        ]
    )


def counted(source: str, engine: object, limit: int = 5_000) -> dict[str, int]:
    """Run a program to its end; the counters, and where it was."""
    machine = Machine(engine=engine, memory=1 << 20)
    machine.load_elf(make_elf(assemble(source, BASE), memory_size=0x8000))
    machine.run(max_instructions=limit)
    hart = machine.harts[0]
    found = {f"mhpmcounter{n}": int(hart.call(read, n)) for n in range(3, 16)}
    return found | {name: int(getattr(hart, name)) for name in ("instret", "pc", "mip", "mepc", "mcause")}


def read(hart: object, number: int) -> int:
    """A counter's value."""
    from trapline.lang.values import U64
    from trapline.privilege.csr import csr_read

    return int(csr_read(hart, U64(CSR_BY_NAME[f"mhpmcounter{int(number)}"])))


def test_engines_count_the_same() -> None:
    """Instructions by mode, misses of the TLB behind fences, and traps are those of the reference engine."""
    source = f"""
        {set_up(EVENTS)}
    handler:
        csrr t5, mepc
        addi t5, t5, 4
        csrw mepc, t5
        csrr t5, mcause
        li t6, 9
        bne t5, t6, finish
        mret
    finish:
        {FINISH}
        .balign 4096
    supervisor:
        li s0, 3
    1:  li t0, {DATA}
        li t1, 40
    2:  ld t2, 0(t0)
        sd t2, 8(t0)
        li t3, 4096
        add t0, t0, t3
        addi t1, t1, -1
        bnez t1, 2b
        ecall
        call far
        sfence.vma
        li t0, {DATA}
        sd t2, 0(t0)
        sfence.vma t0
        addi s0, s0, -1
        bnez s0, 1b
        ebreak
        .balign 4096
    far:
        ret
    """
    results = [counted(source, engine) for engine in engines()]
    assert results[0] == results[1] == results[2]
    assert results[0]["mhpmcounter7"] == 3 * 40  # loads that miss
    assert results[0]["mhpmcounter8"] == 3  # the store behind a fence
    assert results[0]["mhpmcounter9"] >= 3 * 2
    assert results[0]["mhpmcounter10"] == 4
    assert results[0]["mhpmcounter12"] == 4
    assert results[0]["mhpmcounter3"] > results[0]["mhpmcounter4"] > 100


def test_overflow_interrupt_comes_at_one_instruction() -> None:
    """A counter of S-mode's instructions that is to wrap in 500 of them interrupts behind the 500th on every engine."""
    source = f"""
        {set_up((1 << 62 | 2,))}
    handler:
        csrr t5, mcause
        bgez t5, call
        {FINISH}
    call:
        csrr t5, mepc
        addi t5, t5, 4
        csrw mepc, t5
        mret
        .balign 4
    supervisor:
        j 2f
        .balign 4
    2:  addi s0, s0, 1
        andi t1, s0, 7
        bnez t1, 2b
        ecall
        j 2b
    """
    source = source.replace("li t0, 1 << 11\n csrs mstatus", "li t0, -500\n csrw mhpmcounter3, t0\n li t0, 1 << 13\n"
                            " csrw mie, t0\n li t0, 1 << 11\n csrs mstatus")  # fmt: skip
    results = [counted(source, engine) for engine in engines()]
    assert results[0] == results[1] == results[2]
    assert results[0]["mcause"] == 1 << 63 | 13
    assert results[0]["mhpmcounter3"] == 0
    assert results[0]["mip"] & 1 << 13


def test_device_tree_names_the_events() -> None:
    """The node riscv,pmu has QEMU's events for every counter, and a raw one for traps; a guest's tree has none."""
    from trapline.machine.tree.device_tree import BoardTree, board_tree

    node = board_tree(BoardTree("rv64imac_sscofpmf", [(BASE, 1 << 20)])).find("/pmu")
    assert node.properties["compatible"] == "riscv,pmu"
    cells = node.properties["riscv,event-to-mhpmcounters"]
    assert isinstance(cells, list)
    assert cells[:6] == [1, 1, 0xFFFF_FFF9, 2, 2, 0xFFFF_FFFC]
    assert cells[6::3] == [0x10019, 0x1001B, 0x10021]
    raw = node.properties["riscv,raw-event-to-mhpmcounters"]
    assert raw == [0, 0x20000, 0xFFFF_FFFF, 0xFFFF_FFFC, 0xFFFF_FFF8]
    for tree in (
        BoardTree("rv64imac", [(BASE, 1 << 20)]),
        BoardTree("rv64imac_sscofpmf", [(BASE, 1 << 20)], machine_mode=False),
    ):
        with pytest.raises(KeyError):
            board_tree(tree).find("/pmu")

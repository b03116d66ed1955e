"""Registers of devices: what CPython reads in their functions, native code does."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from trapline.engine.native import NativeEngine
from trapline.engine.reference import ReferenceEngine
from trapline.isa.assemble import assemble
from trapline.lang.devices import ASK_SOURCE
from trapline.machine import memory_map as mm
from trapline.machine.devices.clint import MTIME, MTIMECMP
from trapline.machine.devices.plic import CONTEXT, ENABLE, PENDING
from trapline.machine.machine import Machine
from trapline.session.terminal.console import Console

HARTS = 2
Step = Callable[[Machine], object]


def board(engine: str, sent: list[bytes], *, aia: str = "none") -> Machine:
    """Two harts that have come some way."""
    made = Machine(engine=engine, memory=1 << 20, harts=HARTS, console=Console(sent.append), aia=aia)
    for number, hart in enumerate(made.harts):
        hart.instret = 12_345 * (number + 1)
    return made


def offsets(dice: random.Random, device: str) -> int:
    """A register of the device, or a place beside one."""
    clint = [MTIME, MTIME + 4, MTIMECMP, MTIMECMP + 4, MTIMECMP + 8, MTIMECMP + 8 * HARTS, 0, 4, 8, 0x3FFC]
    plic = [4, 40, 44, 4 * 95, 4 * 96, PENDING, PENDING + 8, ENABLE, ENABLE + 0x84, ENABLE + 8, ENABLE + 0x10]
    contexts = [CONTEXT + 0x1000 * context + register for context in range(5) for register in (0, 4, 8)]
    found = {"clint": clint, "plic": plic + contexts, "uart": list(range(9)), "rtc": [0, 4, 8, 16]}
    return dice.choice(found[device])


def steps(seed: int, count: int) -> Iterator[Step]:
    """Accesses by either hart, and what devices and the world do."""
    dice = random.Random(seed)
    for _ in range(count):
        device = dice.choice(["clint", "plic", "plic", "uart", "uart", "rtc"])
        hart, offset = dice.randrange(HARTS), offsets(dice, device)
        size = dice.choice([1, 2, 4, 4, 8])
        size = 4 if device == "plic" else size if offset % size == 0 else 1
        value = dice.choice([0, 1, 2, 3, 7, 10, 12, 0x1400, dice.getrandbits(64)])
        source, level, text = dice.randrange(1, 96), dice.random() < 0.5, bytes(dice.randrange(90))

        def read(m: Machine, d: str = device, h: int = hart, o: int = offset, s: int = size) -> object:
            return named(m, d).load(m.harts[h], o, s)

        def write(m: Machine, d: str = device, h: int = hart, o: int = offset, s: int = size, v: int = value) -> object:
            return named(m, d).store(m.harts[h], o, s, v & (1 << 8 * s) - 1)

        def wire(m: Machine, n: int = source, up: bool = level) -> object:
            return m.plic.set_level(n, up)

        def type_(m: Machine, t: bytes = text) -> object:
            return m.uart.receive(t)

        yield dice.choice([read, read, write, write, write, wire, type_])


def named(machine: Machine, name: str) -> object:
    """A device of a board."""
    return next(region.device for region in machine.regions if region.name == name)


def everything(machine: Machine) -> object:
    """All that a device may have changed."""
    lines = [(int(h.mip), int(h.irq_cause), int(h.time_offset), int(h.exit_reason)) for h in machine.harts]
    return machine.io.state(), lines


@pytest.mark.parametrize("seed", range(3))
def test_both_engines_do_the_same(seed: int) -> None:
    """After each access, line and typed byte: the same answers, registers, lines, clocks and output."""
    sent: tuple[list[bytes], list[bytes]] = [], []
    boards = [board(engine, out) for engine, out in zip(("reference", "native"), sent, strict=True)]
    for number, step in enumerate(steps(seed, 400)):
        assert step(boards[0]) == step(boards[1]), number
        assert everything(boards[0]) == everything(boards[1]), number
    assert sent[0] == sent[1]


def test_an_access_asks_nobody_for_a_register() -> None:
    """Native code serves mtime, LSR and a claim itself: the objects of the devices are never asked."""
    source = "".join(
        f"li t0, {base}\n {access} t1, 0(t0)\n"
        for base, access in (
            (mm.CLINT.base + MTIME, "ld"),
            (mm.UART.base + 5, "lbu"),
            (mm.PLIC.base + CONTEXT + 4, "lw"),
            (mm.RTC.base, "lw"),
        )
    )
    made = board("native", [])
    made.regions.write(mm.RAM_BASE, assemble(source + "1: j 1b", mm.RAM_BASE))
    made.harts[0].pc = made.harts[1].pc = mm.RAM_BASE
    made.harts[0].devices.clear()
    made.run(200)
    assert int(made.harts[0].x[6]) != 0


def sums(end: str) -> str:
    """A loop that mixes what it reads of many registers and of RAM."""
    reads = [
        ("ld", mm.CLINT.base + MTIME), ("lw", mm.CLINT.base + MTIME), ("lh", mm.CLINT.base + MTIME + 2),
        ("ld", mm.CLINT.base + MTIMECMP), ("lw", mm.CLINT.base), ("lbu", mm.UART.base + 5), ("lb", mm.UART.base + 2),
        ("lbu", mm.UART.base), ("lw", mm.PLIC.base + PENDING), ("lw", mm.PLIC.base + CONTEXT + 4), ("lwu", mm.RTC.base),
        ("lw", mm.RTC.base + 4), ("ld", mm.RAM_BASE), ("ld", mm.RAM_BASE + 1), ("lh", mm.RAM_BASE + 3),
    ]  # fmt: skip
    mix = "add s1, s1, t1\n slli t2, s1, 7\n xor s1, s1, t2\n"
    body = "".join(f"li t0, {at}\n {access} t1, 0(t0)\n {mix}" for access, at in reads)
    return f"li s0, 40\n li s1, 0\n1: {body} addi s0, s0, -1\n bnez s0, 1b\n{end}"


@pytest.mark.parametrize("jit", ["force", "off"])
def test_regions_read_the_same_registers(jit: str) -> None:
    """Loads of registers inside regions, and misaligned ones beside them, give what the reference engine reads."""
    seen = []
    for engine in (ReferenceEngine(), NativeEngine(jit=jit)):
        made = Machine(engine=engine, memory=1 << 20, misaligned="hardware", console=Console(lambda data: None))
        made.regions.write(mm.RAM_BASE, assemble(sums("9: j 9b"), mm.RAM_BASE))
        made.harts[0].pc = mm.RAM_BASE
        made.uart.receive(b"some text of which the loop takes a byte each time")
        made.plic.store(made.harts[0], ENABLE, 4, 1 << 10)
        made.plic.store(made.harts[0], 40, 4, 1)
        made.run(5000)
        seen.append((int(made.harts[0].x[9]), int(made.harts[0].instret), made.io.state()))
    assert seen[0] == seen[1]


REMAP = f"""
    li t0, -1
    csrw pmpaddr0, t0
    li t0, 0x1f
    csrw pmpcfg0, t0
    li s0, {mm.RAM_BASE + 0x1000}
    li t0, 0xcf | {mm.RAM_BASE >> 2}
    sd t0, 16(s0)
    li t0, 0xcf
    sd t0, 8(s0)
    li t0, 8 << 60 | {(mm.RAM_BASE + 0x1000) >> 12}
    csrw satp, t0
    li t0, 0x800
    csrw mstatus, t0
    la t0, 1f
    csrw mepc, t0
    mret
1:  li s1, 0x4200bff8
    li s2, 100
2:  ld s3, 0(s1)
    addi s2, s2, -1
    bnez s2, 2b
    li t0, 0xcf | {mm.RAM_BASE >> 2}
    sd t0, 8(s0)
    sfence.vma s1
    ld s4, 0(s1)
9:  j 9b
"""


def test_a_page_of_registers_that_is_mapped_elsewhere() -> None:
    """After sfence.vma the same address reads the memory that it is mapped to now."""
    for engine in (ReferenceEngine(), NativeEngine(jit="force"), NativeEngine(jit="off")):
        made = Machine(engine=engine, memory=64 << 20)
        made.regions.write(mm.RAM_BASE, assemble(REMAP, mm.RAM_BASE))
        made.regions.write(mm.RAM_BASE + 0x200_BFF8, b"RAMvalue")
        made.harts[0].pc = mm.RAM_BASE
        made.run(1000)
        assert (int(made.harts[0].x[19]), int(made.harts[0].x[20])) == (3, int.from_bytes(b"RAMvalue", "little"))


def test_pins_reach_another_controller_through_the_host() -> None:
    """With an APLIC the UART's pin is a wire of it, and only its changes are passed on."""
    made = board("native", [], aia="aplic")
    seen: list[tuple[int, bool]] = []
    made.io.answers[ASK_SOURCE] = lambda value: seen.append((value >> 1, value & 1 != 0))
    made.uart.store(made.harts[0], 1, 1, 3)
    made.uart.receive(b"xy")
    made.uart.load(made.harts[0], 2, 1)
    assert seen == [(mm.UART_IRQ, True)]

"""Loads, stores, atomics, cache-block operations and CSR instructions on a hart with RAM."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.isa.bench import DATA, RAM, Bench
from tests.isa.test_integer_semantics import MASK, WORDS, s32, s64, u32

BENCH = Bench()
MTVEC = RAM + 0x1000


def run(source: str, **registers: int) -> Bench:
    """Run lines with registers set by name (x5=...)."""
    for name, value in registers.items():
        BENCH.hart.x[int(name[1:])] = value
    BENCH.hart.mtvec = MTVEC
    BENCH.run(source)
    return BENCH


@pytest.mark.parametrize(
    ("name", "size", "signed"),
    [("lb", 1, 1), ("lh", 2, 1), ("lw", 4, 1), ("ld", 8, 0), ("lbu", 1, 0), ("lhu", 2, 0), ("lwu", 4, 0)],
)
@given(value=WORDS)
@settings(max_examples=30)
def test_loads(name: str, size: int, signed: int, value: int) -> None:
    """A load extends the little-endian bytes at rs1 + imm."""
    BENCH.put(value)
    data = (value & MASK).to_bytes(8, "little")[:size]
    run(f"{name} x6, -16(x5)", x5=DATA + 16)
    assert BENCH.hart.x[6] == int.from_bytes(data, "little", signed=bool(signed)) & MASK


@pytest.mark.parametrize(("name", "size"), [("sb", 1), ("sh", 2), ("sw", 4), ("sd", 8)])
@given(old=WORDS, value=WORDS)
@settings(max_examples=30)
def test_stores(name: str, size: int, old: int, value: int) -> None:
    """A store changes its own bytes only."""
    BENCH.put(old)
    run(f"{name} x6, 8(x5)", x5=DATA - 8, x6=value)
    keep = MASK << 8 * size & MASK
    assert BENCH.word() == old & keep | value & ~keep & MASK


AMO: dict[str, Callable[[int, int], int]] = {
    "amoswap": lambda _, b: b,
    "amoadd": lambda a, b: a + b,
    "amoxor": lambda a, b: a ^ b,
    "amoand": lambda a, b: a & b,
    "amoor": lambda a, b: a | b,
    "amominu": min,
    "amomaxu": max,
}


@pytest.mark.parametrize("name", [*AMO, "amomin", "amomax"])
@pytest.mark.parametrize("width", "wd")
@given(old=WORDS, value=WORDS)
@settings(max_examples=30)
def test_amo(name: str, width: str, old: int, value: int) -> None:
    """An AMO leaves the old value, sign-extended, in rd and the result in its 4 or 8 bytes."""
    BENCH.put(old)
    run(f"{name}.{width}.aqrl x7, x6, (x5)", x5=DATA, x6=value)
    cut, signed = (u32, s32) if width == "w" else (lambda v: v & MASK, s64)
    if name in AMO:
        result = AMO[name](cut(old), cut(value))
    else:
        result = (min if name == "amomin" else max)(signed(old), signed(value))
    high = old >> 32 << 32 if width == "w" else 0
    assert BENCH.word() == high | cut(result)
    assert BENCH.hart.x[7] == signed(old) & MASK


def test_amo_with_one_register_for_all() -> None:
    """rd, rs1 and rs2 may be the same register: the operands are read first."""
    BENCH.put(5)
    run("amoadd.d x5, x5, (x5)", x5=DATA)
    assert (BENCH.word(), BENCH.hart.x[5]) == (DATA + 5, 5)


def test_sc_needs_the_reservation() -> None:
    """sc after lr of the same address succeeds once, and fails without or with another reservation."""
    BENCH.put(1)
    run("lr.d x6, (x5)\nsc.d x7, x8, (x5)\nsc.d x9, x8, (x5)", x5=DATA, x8=9)
    assert (BENCH.hart.x[6], BENCH.hart.x[7], BENCH.hart.x[9], BENCH.word()) == (1, 0, 1, 9)
    run("lr.d x6, (x5)\nsc.d x7, x8, (x10)", x5=DATA, x8=7, x10=DATA + 64)
    assert (BENCH.hart.x[7], BENCH.word(DATA + 64)) == (1, 0)


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("lw x6, 2(x5)", 4),
        ("sd x6, 4(x5)", 6),
        ("amoadd.w x6, x7, (x8)", 6),
        ("lr.d x6, (x8)", 4),
        ("sc.d x6, x7, (x8)", 6),
        ("lw x6, (x9)", 5),
        ("sw x6, (x9)", 7),
        ("amoadd.w x6, x7, (x9)", 7),
        ("lr.w x6, (x9)", 5),
        ("cbo.zero (x9)", 7),
    ],
)
def test_faults_leave_rd_alone(line: str, cause: int) -> None:
    """A misaligned access is 4 or 6, a hole 5 or 7; rd keeps its value and mtval has the address."""
    BENCH.hart.misaligned_hardware = 0
    run(line, x5=DATA, x6=77, x7=1, x8=DATA + 2, x9=0x1000)
    address = {"2(x5)": DATA + 2, "4(x5)": DATA + 4, "(x8)": DATA + 2, "(x9)": 0x1000}
    assert (BENCH.hart.mcause, BENCH.hart.x[6], BENCH.hart.pc) == (cause, 77, MTVEC)
    assert BENCH.hart.mtval == address[line.split()[-1]]
    assert BENCH.hart.mepc == RAM


def test_cbo_zero_clears_its_block() -> None:
    """cbo.zero clears the aligned block around the address and nothing beside it."""
    block = int(BENCH.hart.cache_block)
    for offset in range(-8, block + 8, 8):
        BENCH.put(MASK, DATA + offset)
    run("cbo.zero (x5)", x5=DATA + block - 1)
    assert [BENCH.word(DATA + o) for o in range(0, block, 8)] == [0] * (block // 8)
    assert BENCH.word(DATA - 8) == BENCH.word(DATA + block) == MASK


def test_csr_instructions() -> None:
    """Read, write, set and clear, with the old value in rd, from a register and from the rs1 field."""
    run("csrw mscratch, x5\ncsrrs x6, mscratch, x7\ncsrrc x8, mscratch, x5", x5=0xF0, x7=0x0F)
    assert (BENCH.hart.x[6], BENCH.hart.x[8], BENCH.hart.mscratch) == (0xF0, 0xFF, 0x0F)
    run("csrrwi x6, mscratch, 17\ncsrrsi x7, mscratch, 14\ncsrrci x8, mscratch, 1")
    assert [int(BENCH.hart.x[i]) for i in (6, 7, 8)] == [0x0F, 17, 31]
    assert BENCH.hart.mscratch == 30
    run("csrrw x5, mscratch, x5", x5=3)
    assert (BENCH.hart.x[5], BENCH.hart.mscratch) == (30, 3)


@pytest.mark.parametrize(
    ("line", "traps"),
    [
        ("csrrs x6, mhartid, x0", False),
        ("csrrc x6, mhartid, x0", False),
        ("csrrsi x6, mhartid, 0", False),
        ("csrrci x6, mhartid, 0", False),
        ("csrrs x6, mhartid, x7", True),
        ("csrrc x6, mhartid, x7", True),
        ("csrrsi x6, mhartid, 1", True),
        ("csrrw x6, mhartid, x0", True),
        ("csrrwi x6, mhartid, 0", True),
        ("csrrs x6, 0x5ff, x0", True),
    ],
)
def test_writing_a_read_only_csr(line: str, traps: bool) -> None:
    """x7 = 0 is a write all the same, rs1 = x0 is none; an illegal access leaves rd alone."""
    run(line, x6=77, x7=0)
    assert (BENCH.hart.pc == MTVEC) == traps
    assert BENCH.hart.x[6] == (77 if traps else 0)
    if traps:
        assert BENCH.hart.mcause == 2


def test_wfi_leaves_only_without_an_interrupt() -> None:
    """wfi with an interrupt pending and enabled in mie is a nop even where mstatus.MIE is 0."""
    hart = BENCH.hart
    hart.attention = 0
    hart.mie, hart.mip = 1 << 7, 1 << 7
    run("wfi")
    assert hart.attention & 2 == 0
    hart.mip = 0
    run("wfi")
    assert hart.attention & 2 == 2
    hart.attention = 0
    assert hart.pc == RAM + 4


@given(st.integers(0, (1 << 32) - 1))
@settings(max_examples=300)
def test_illegal_encodings_trap_with_their_bits(bits: int) -> None:
    """An encoding that does not decode is cause 2 with the bits in mtval."""
    from tests.isa.table import DECODER

    bits |= 3
    if DECODER.decode(bits) is None:
        run(f".word {bits}")
        assert (BENCH.hart.mcause, BENCH.hart.mtval, BENCH.hart.pc) == (2, bits, MTVEC)

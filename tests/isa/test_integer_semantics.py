"""Integer instructions against plain Python integers, written from the specification's prose."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trapline.isa.decode import by_name
from trapline.lang.state import Hart
from trapline.lang.values import U64

MASK = (1 << 64) - 1
HART = Hart()

EDGES = [
    0,
    1,
    2,
    31,
    32,
    63,
    64,
    255,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    1 << 32,
    1 << 63,
    (1 << 63) - 1,
    MASK,
    MASK - 1,
]
WORDS = st.one_of(st.sampled_from(EDGES), st.integers(0, MASK), st.integers(0, MASK).map(lambda v: v & 0xFF << v % 57))
IMMEDIATES = st.one_of(st.sampled_from([0, 1, -1, 2047, -2048]), st.integers(-2048, 2047))


def s64(value: int) -> int:
    """Read 64 bits as two's complement."""
    value &= MASK
    return value - (1 << 64) if value >> 63 else value


def s32(value: int) -> int:
    """Read the low 32 bits as two's complement."""
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


def u32(value: int) -> int:
    """Return the low 32 bits."""
    return value & 0xFFFFFFFF


def divide(a: int, b: int) -> int:
    """Quotient toward zero; all ones for division by zero."""
    if b == 0:
        return -1
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def remainder(a: int, b: int) -> int:
    """Remainder of `divide`; the dividend for division by zero."""
    return a if b == 0 else a - b * divide(a, b)


def bits_of(value: int, width: int = 64) -> str:
    """Return the binary digits, most significant first."""
    return f"{value & ((1 << width) - 1):0{width}b}"


def carryless(a: int, b: int) -> int:
    """Full product of polynomials over GF(2)."""
    product = 0
    for i, digit in enumerate(reversed(bits_of(b))):
        if digit == "1":
            product ^= a << i
    return product


def rotate_left(value: int, count: int, width: int) -> int:
    """Rotate the digits of a value."""
    digits = bits_of(value, width)
    count %= width
    return int(digits[count:] + digits[:count], 2)


def parts(value: int, width: int) -> list[int]:
    """Split 64 bits into groups, least significant first."""
    return [value >> i & ((1 << width) - 1) for i in range(0, 64, width)]


def joined(groups: list[int], width: int) -> int:
    """Put groups together again."""
    return sum(group << i * width for i, group in enumerate(groups))


def permute(table: int, indices: int, width: int) -> int:
    """Select groups of `table` by the groups of `indices`."""
    groups = parts(table, width)
    return joined([groups[i] if i < len(groups) else 0 for i in parts(indices, width)], width)


TWO_REGISTERS: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "sll": lambda a, b: a << b % 64,
    "slt": lambda a, b: s64(a) < s64(b),
    "sltu": lambda a, b: a < b,
    "xor": lambda a, b: a ^ b,
    "srl": lambda a, b: a >> b % 64,
    "sra": lambda a, b: s64(a) >> b % 64,
    "or": lambda a, b: a | b,
    "and": lambda a, b: a & b,
    "addw": lambda a, b: s32(a + b),
    "subw": lambda a, b: s32(a - b),
    "sllw": lambda a, b: s32(a << b % 32),
    "srlw": lambda a, b: s32(u32(a) >> b % 32),
    "sraw": lambda a, b: s32(a) >> b % 32,
    "mul": lambda a, b: a * b,
    "mulh": lambda a, b: s64(a) * s64(b) >> 64,
    "mulhsu": lambda a, b: s64(a) * b >> 64,
    "mulhu": lambda a, b: a * b >> 64,
    "mulw": lambda a, b: s32(a * b),
    "div": lambda a, b: divide(s64(a), s64(b)),
    "divu": lambda a, b: divide(a, b),
    "rem": lambda a, b: remainder(s64(a), s64(b)),
    "remu": lambda a, b: remainder(a, b),
    "divw": lambda a, b: s32(divide(s32(a), s32(b))),
    "divuw": lambda a, b: s32(divide(u32(a), u32(b))),
    "remw": lambda a, b: s32(remainder(s32(a), s32(b))),
    "remuw": lambda a, b: s32(remainder(u32(a), u32(b))),
    "czero.eqz": lambda a, b: a if b else 0,
    "czero.nez": lambda a, b: 0 if b else a,
    "sh1add": lambda a, b: 2 * a + b,
    "sh2add": lambda a, b: 4 * a + b,
    "sh3add": lambda a, b: 8 * a + b,
    "add.uw": lambda a, b: u32(a) + b,
    "sh1add.uw": lambda a, b: 2 * u32(a) + b,
    "sh2add.uw": lambda a, b: 4 * u32(a) + b,
    "sh3add.uw": lambda a, b: 8 * u32(a) + b,
    "andn": lambda a, b: a & ~b,
    "orn": lambda a, b: a | ~b,
    "xnor": lambda a, b: ~(a ^ b),
    "max": lambda a, b: max(s64(a), s64(b)),
    "maxu": lambda a, b: max(a, b),
    "min": lambda a, b: min(s64(a), s64(b)),
    "minu": lambda a, b: min(a, b),
    "rol": lambda a, b: rotate_left(a, b, 64),
    "ror": lambda a, b: rotate_left(a, -b, 64),
    "rolw": lambda a, b: s32(rotate_left(a, b, 32)),
    "rorw": lambda a, b: s32(rotate_left(a, -b, 32)),
    "clmul": carryless,
    "clmulh": lambda a, b: carryless(a, b) >> 64,
    "clmulr": lambda a, b: carryless(a, b) >> 63,
    "bclr": lambda a, b: a & ~(1 << b % 64),
    "bext": lambda a, b: a >> b % 64 & 1,
    "binv": lambda a, b: a ^ 1 << b % 64,
    "bset": lambda a, b: a | 1 << b % 64,
    "pack": lambda a, b: u32(a) | u32(b) << 32,
    "packh": lambda a, b: a & 255 | (b & 255) << 8,
    "packw": lambda a, b: s32(a & 0xFFFF | (b & 0xFFFF) << 16),
    "xperm8": lambda a, b: permute(a, b, 8),
    "xperm4": lambda a, b: permute(a, b, 4),
}

ONE_REGISTER: dict[str, Callable[[int], int]] = {
    "clz": lambda a: len(bits_of(a)) - len(bits_of(a).lstrip("0")),
    "clzw": lambda a: 32 - len(bits_of(a, 32).lstrip("0")),
    "ctz": lambda a: 64 - len(bits_of(a).rstrip("0")),
    "ctzw": lambda a: 32 - len(bits_of(a, 32).rstrip("0")),
    "cpop": lambda a: bits_of(a).count("1"),
    "cpopw": lambda a: bits_of(a, 32).count("1"),
    "sext.b": lambda a: (a & 255) - (a & 128) * 2,
    "sext.h": lambda a: (a & 0xFFFF) - (a & 0x8000) * 2,
    "zext.h": lambda a: a & 0xFFFF,
    "orc.b": lambda a: joined([255 if byte else 0 for byte in parts(a, 8)], 8),
    "rev8": lambda a: joined(parts(a, 8)[::-1], 8),
    "brev8": lambda a: joined([int(bits_of(byte, 8)[::-1], 2) for byte in parts(a, 8)], 8),
}

REGISTER_IMMEDIATE: dict[str, Callable[[int, int], int]] = {
    "addi": lambda a, i: a + i,
    "slti": lambda a, i: s64(a) < i,
    "sltiu": lambda a, i: a < i & MASK,
    "xori": lambda a, i: a ^ i & MASK,
    "ori": lambda a, i: a | i & MASK,
    "andi": lambda a, i: a & i & MASK,
    "addiw": lambda a, i: s32(a + i),
}

# The shifts by an immediate are those by a register with fewer bits to choose from.
REGISTER_SHAMT = {
    "slli": ("sll", 64),
    "srli": ("srl", 64),
    "srai": ("sra", 64),
    "slliw": ("sllw", 32),
    "srliw": ("srlw", 32),
    "sraiw": ("sraw", 32),
    "rori": ("ror", 64),
    "roriw": ("rorw", 32),
    "bclri": ("bclr", 64),
    "bexti": ("bext", 64),
    "binvi": ("binv", 64),
    "bseti": ("bset", 64),
}


def run(name: str, **operands: int) -> int:
    """Run an instruction with rd=x3 and return x3."""
    instruction = by_name(name)
    assert instruction.function is not None
    instruction.function(HART, *[U64({"rd": 3, **operands}[operand]) for operand in instruction.operands])
    return int(HART.x[3])


@pytest.mark.parametrize("name", TWO_REGISTERS)
@given(a=WORDS, b=WORDS)
def test_two_registers(name: str, a: int, b: int) -> None:
    """rd is the function of rs1 and rs2 that the specification states."""
    HART.x[1], HART.x[2] = a, b
    assert run(name, rs1=1, rs2=2) == TWO_REGISTERS[name](a, b) & MASK


@pytest.mark.parametrize("name", ONE_REGISTER)
@given(a=WORDS)
def test_one_register(name: str, a: int) -> None:
    """rd is the function of rs1 that the specification states."""
    HART.x[1] = a
    assert run(name, rs1=1) == ONE_REGISTER[name](a) & MASK


@pytest.mark.parametrize("name", REGISTER_IMMEDIATE)
@given(a=WORDS, imm=IMMEDIATES)
def test_register_immediate(name: str, a: int, imm: int) -> None:
    """rd is the function of rs1 and the sign-extended immediate."""
    HART.x[1] = a
    assert run(name, rs1=1, imm=imm) == REGISTER_IMMEDIATE[name](a, imm) & MASK


@pytest.mark.parametrize("name", REGISTER_SHAMT)
@given(a=WORDS, data=st.data())
def test_shift_immediate(name: str, a: int, data: st.DataObject) -> None:
    """A shift by an immediate is the shift by a register that holds it."""
    by_register, width = REGISTER_SHAMT[name]
    shamt = data.draw(st.integers(0, width - 1))
    HART.x[1] = a
    assert run(name, rs1=1, shamt=shamt) == TWO_REGISTERS[by_register](a, shamt) & MASK


@given(a=WORDS, shamt=st.integers(0, 63))
def test_slli_uw(a: int, shamt: int) -> None:
    """slli.uw shifts the zero-extended word."""
    HART.x[1] = a
    assert run("slli.uw", rs1=1, shamt=shamt) == u32(a) << shamt & MASK


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("beq", lambda a, b: a == b),
        ("bne", lambda a, b: a != b),
        ("blt", lambda a, b: s64(a) < s64(b)),
        ("bge", lambda a, b: s64(a) >= s64(b)),
        ("bltu", lambda a, b: a < b),
        ("bgeu", lambda a, b: a >= b),
    ],
)
@given(a=WORDS, b=WORDS)
def test_branches(name: str, taken: Callable[[int, int], bool], a: int, b: int) -> None:
    """A branch goes to pc + imm exactly where its condition holds."""
    HART.x[1], HART.x[2] = a, b
    HART.has_c = 1
    HART.pc, HART.next_pc = 0x1000, 0x1004
    run(name, rs1=1, rs2=2, imm=-16)
    assert HART.next_pc == (0xFF0 if taken(a, b) else 0x1004)


def test_every_integer_computation_is_tested() -> None:
    """No instruction of these files is left out."""
    tested = {*TWO_REGISTERS, *ONE_REGISTER, *REGISTER_IMMEDIATE, *REGISTER_SHAMT, "slli.uw"}
    from trapline.lang.functions import INSTRUCTIONS

    files = {f"trapline.isa.{name}" for name in ("m", "zicond", "zba", "zbb", "zbc", "zbs", "zbkb", "zbkx")}
    assert {i.name for i in INSTRUCTIONS if i.function and i.function.__module__ in files} <= tested

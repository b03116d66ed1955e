"""Floating point in compiled regions: the same bits, flags and FS as the reference engine gives."""

from __future__ import annotations

import ctypes
import random
import struct

from tests.engine.harness import BASE, Bench

OPERANDS, RESULTS, COUNT = BASE + 0x10000, BASE + 0x40000, 150
EDGES = {
    "d": (
        *(0, 1, 0xF_FFFF_FFFF_FFFF, 1 << 52, 0x3FF << 52, 0x7FEF_FFFF_FFFF_FFFF, 0x7FF << 52),
        *((0x7FF << 52) | 1, 0x7FF8 << 48),
    ),
    "s": (0, 1, 0x7F_FFFF, 1 << 23, 0x7F << 23, 0x7F7F_FFFF, 0xFF << 23, (0xFF << 23) | 1, 0x7FC0 << 16),
}
THREE = ("fmadd", "fmsub", "fnmadd", "fnmsub")
TWO = ("fadd", "fsub", "fmul", "fdiv", "fmin", "fmax", "fsgnj", "fsgnjn", "fsgnjx")
COMPARED = ("feq", "flt", "fle")
INTEGERS = ("w", "wu", "l", "lu")


def instructions(conversions: tuple[tuple[str, str], ...]) -> list[tuple[str, bool]]:
    """Each instruction, and whether its result is a number; `conversions`: operand and mode of those to integers."""
    found = []
    for letter, (a, b, c) in {"d": ("fa0", "fa1", "fa2"), "s": ("fa3", "fa4", "fa5")}.items():
        of = {"a": a, "b": b, "c": c}
        found += [(f"{name}.{letter} ft0, {a}, {b}, {c}", True) for name in THREE]
        found += [(f"{name}.{letter} ft0, {a}, {b}", True) for name in TWO]
        found += [(f"fsqrt.{letter} ft0, {a}", True)]
        found += [(f"{name}.{letter} t0, {a}, {b}", False) for name in COMPARED]
        found += [(f"fclass.{letter} t0, {c}", False)]
        for name in INTEGERS:
            found += [(f"fcvt.{name}.{letter} t0, {of[operand]}{mode}", False) for operand, mode in conversions]
            found += [(f"fcvt.{letter}.{name} ft0, s4", True)]
    return [*found, ("fcvt.s.d ft0, fa2", True), ("fcvt.d.s ft0, fa5", True)]


def body() -> str:
    """Every instruction on the operands of one row, its result stored, with the flags behind all of them."""
    lines = [*instructions((("b", ", rtz"), ("c", ""))), ("csrr t0, fcsr", False), ("csrr t0, mstatus", False)]
    text = [f"{text}\n{'fsd ft0' if number else 'sd t0'}, {at * 8}(s2)" for at, (text, number) in enumerate(lines)]
    return "\n".join([*text, f"addi s2, s2, {len(lines) * 8}"])


SOURCE = f"""
    li s0, {COUNT}
    li s1, {OPERANDS}
    li s2, {RESULTS}
    li s3, 0x6000
again:
    csrs mstatus, s3
    ld t0, 56(s1)
    csrw fcsr, t0
    fld fa0, 0(s1)
    fld fa1, 8(s1)
    fld fa2, 16(s1)
    flw fa3, 24(s1)
    flw fa4, 32(s1)
    flw fa5, 40(s1)
    ld s4, 48(s1)
    ld t0, 64(s1)
    csrc mstatus, t0
    j body
body:
{body()}
    addi s1, s1, 72
    addi s0, s0, -1
    bnez s0, again
end: j end
"""


def number(letter: str, rng: random.Random) -> int:
    """A number of one of the two formats: an edge, one near 1, a whole one, or any."""
    width, fraction = (64, 52) if letter == "d" else (32, 23)
    kind, sign = rng.randrange(4), rng.getrandbits(1) << width - 1
    if kind == 0:
        return sign | rng.choice(EDGES[letter]) + rng.choice((0, 0, 1))
    if kind == 1:
        return sign | EDGES[letter][4] + (rng.randrange(-70, 70) << fraction) + rng.getrandbits(fraction)
    if kind == 2:
        whole = float(rng.getrandbits(rng.randrange(1, 66)) - rng.choice((0, 0, 1 << 31, 1 << 63)))
        return int.from_bytes(struct.pack("<d" if letter == "d" else "<f", whole + rng.choice((0, 0.5))), "little")
    return rng.getrandbits(width)


def rows(seed: int) -> bytes:
    """Operands, an integer, fcsr, and the bits of FS that are cleared: mostly RNE, with and without NX.

    The regions of an odd seed are compiled while the mode is RNE, and presume it (PLAIN_STATE).
    """
    rng, out = random.Random(seed), b""
    for _ in range(COUNT):
        words = [number("d", rng) for _ in range(3)] + [number("s", rng) for _ in range(3)]
        whole = rng.getrandbits(64) >> rng.choice((0, 1, 11, 12, 31, 32, 33, 40, 63))
        frm, flags = rng.choice((0, 0, 0, 0, 1, 2, 3, 4)), rng.choice((0, 1, 1, rng.getrandbits(5)))
        if seed % 2 and not out:
            frm = 0
        out += struct.pack("<9Q", *words, whole, frm << 5 | flags, rng.choice((0, 0, 0x2000)))
    return out


def results(engine: str, seed: int) -> bytes:
    """What the program stores under an engine."""
    bench = Bench(engine, SOURCE)
    bench.write(OPERANDS, rows(seed))
    bench.run(COUNT * 162)
    return bytes(bench.regions.read(RESULTS, COUNT * 100 * 8))


def test_float_instructions_in_regions() -> None:
    """Edges and other numbers in every rounding mode, flags clear or set, FS clean or dirty, are as in Python."""
    want = results("reference", 1)
    assert results("native", 1) == want
    assert results("forced", 1) == want
    assert sum(want) != 0


def test_regions_of_ordinary_numbers() -> None:
    """Regions of hot code give what the interpreter gives over many operands."""
    for seed in range(2, 12):
        assert results("forced", seed) == results("native", seed)


def test_a_host_that_flushes_subnormal_numbers() -> None:
    """What a library did to the host's floating-point unit changes no result, and is so again behind a run."""
    want = results("reference", 1)
    libm = ctypes.CDLL("libm.so.6")
    kept = (ctypes.c_uint8 * 64)()
    assert libm.fegetenv(kept) == 0
    changed = (ctypes.c_uint8 * 64)(*kept)
    mxcsr = ctypes.c_uint32.from_buffer(changed, 28)
    mxcsr.value = 0x1F80 | 1 << 6 | 1 << 15
    assert libm.fesetenv(changed) == 0
    try:
        got = results("forced", 1)
        after = (ctypes.c_uint8 * 64)()
        libm.fegetenv(after)
    finally:
        libm.fesetenv(kept)
    assert got == want
    assert ctypes.c_uint32.from_buffer(after, 28).value & 0x8040 == 0x8040

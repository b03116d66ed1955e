"""NX in compiled regions: set when and where an operation was inexact, though only the host looks (jit.inexact)."""

from __future__ import annotations

import random
import struct

import pytest

from tests.engine.harness import Bench
from tests.engine.test_engine_float import OPERANDS, RESULTS, instructions, rows

COUNT = 60


def operations() -> list[tuple[str, bool]]:
    """Each instruction, conversions in three modes, and whether its result is a number."""
    return instructions(tuple((operand, mode) for operand in "ab" for mode in (", rtz", ", rne", "")))


def alone() -> str:
    """Each instruction between a write of fflags and a read; a jump to it, as regions begin where one leads."""
    lines = []
    for at, (text, number) in enumerate(operations()):
        store = "fsd ft0" if number else "sd t0"
        keep = [f"{store}, {16 * at}(s2)", f"sd t1, {16 * at + 8}(s2)"]
        lines += ["csrw fflags, s5", f"j op{at}", f"op{at}:", text, "csrr t1, fflags", *keep]
    return "\n".join([*lines, f"addi s2, s2, {16 * len(operations())}"])


SOURCE = f"""
    li s0, {COUNT}
    li s1, {OPERANDS}
    li s2, {RESULTS}
    li s3, 0x6000
    csrs mstatus, s3
again:
    ld t0, 56(s1)
    csrw fcsr, t0
    andi s5, t0, 0x1e
    fld fa0, 0(s1)
    fld fa1, 8(s1)
    fld fa2, 16(s1)
    flw fa3, 24(s1)
    flw fa4, 32(s1)
    flw fa5, 40(s1)
    ld s4, 48(s1)
{alone()}
    addi s1, s1, 72
    addi s0, s0, -1
    bnez s0, again
end: j end
"""


def results(engine: str, seed: int) -> bytes:
    """What the program stores under an engine: for each instruction its result and its flags."""
    bench = Bench(engine, SOURCE)
    bench.write(OPERANDS, rows(seed))
    bench.run(COUNT * (6 * len(operations()) + 15) + 20)
    return bytes(bench.regions.read(RESULTS, COUNT * 16 * len(operations())))


@pytest.mark.parametrize("seed", range(8))
def test_flags_of_each_operation_alone(seed: int) -> None:
    """An operation between a write and a read of fflags raises in a region what it raises in the interpreter."""
    want = results("native", seed)
    assert results("forced", seed) == want
    flags = {want[at] for at in range(8, len(want), 16)}
    assert {0, 1} <= flags
    if seed == 1:
        assert results("reference", seed) == want


LOOP = f"""
    li t0, 0x6000
    csrs mstatus, t0
    csrw fcsr, zero
    li s1, {OPERANDS}
    fld fa0, 0(s1)
    fld fa1, 8(s1)
    li s0, 4000
    fmv.d.x fa2, zero
again:
    fmadd.d fa2, fa0, fa1, fa2
    fadd.d fa3, fa2, fa0
    fcvt.l.d t1, fa2, rtz
    fcvt.d.l fa4, t1
    addi s0, s0, -1
    bnez s0, again
    fld fa5, 16(s1)
    fmul.d fa2, fa2, fa5
    fadd.d fa3, fa2, fa1
end: j end
"""


@pytest.mark.parametrize("last", [2.0, 0.1])
def test_a_loop_of_exact_results(last: float) -> None:
    """Where a run is cut in a region, fflags has NX if an operation before was inexact, and else not."""
    rng, flags = random.Random(5), set()
    for limit in [*rng.sample(range(24_000), 20), *range(24_006, 24_018), 30_000]:
        found = {}
        for engine in ("native", "forced"):
            bench = Bench(engine, LOOP)
            bench.write(OPERANDS, struct.pack("<3d", 3.0, 5.0, last))
            bench.run(limit)
            found[engine] = bench.state(), int(bench.hart.fflags), [int(bench.hart.f[i]) for i in range(32)]
        assert found["forced"] == found["native"], limit
        flags.add(found["native"][1])
    assert flags == ({0, 1} if last == 0.1 else {0})


@pytest.mark.parametrize(
    ("text", "value", "flags"),
    [
        ("fcvt.wu.d t0, fa0, rne", 4294967295.5, 0x10),
        ("fcvt.w.d t0, fa0, rup", 2147483647.5, 0x10),
        ("fcvt.w.d t0, fa0, rne", 2147483646.5, 1),
        ("fcvt.wu.d t0, fa0, rtz", -1.5, 0x10),
        ("fcvt.wu.d t0, fa0, rtz", -0.5, 1),
        ("fcvt.l.d t0, fa0, rne", 2.0**62, 0),
    ],
)
def test_conversions_that_only_look_inexact(text: str, value: float, flags: int) -> None:
    """A conversion that is out of range raises NV and no NX, though the host tries a wider one first."""
    source = f"""
        li t0, 0x6000
        csrs mstatus, t0
        csrw fcsr, zero
        li s1, {OPERANDS}
        fld fa0, 0(s1)
        j body
    body:
        fadd.d fa1, fa0, fa0
        {text}
        fadd.d fa1, fa0, fa0
    end: j end
    """
    for engine in ("reference", "native", "forced"):
        bench = Bench(engine, source)
        bench.write(OPERANDS, struct.pack("<d", value))
        bench.run(5000)
        assert bench.hart.fflags == flags, engine

"""F, D and Zfh as instructions: guards, rounding modes, NaN boxing, and when FS becomes dirty."""

from __future__ import annotations

import pytest

import trapline.isa.all  # noqa: F401  (declares the instructions)
from trapline.lang.functions import INSTRUCTIONS, IllegalInstruction, Instruction
from trapline.lang.state import Hart
from trapline.lang.values import U64
from trapline.privilege.derived import update_derived

FLOAT = [
    i for i in INSTRUCTIONS if i.function is not None and set(i.extension.split("&")) & {"F", "D", "Zfh", "Zfh|Zfhmin"}
]
BY_NAME = {i.name: i for i in FLOAT}
OFF, CLEAN, DIRTY = 0, 2, 3
NX, NV = 1, 16
ONE, THREE, QUIET_NAN, SIGNALING_NAN = 0x3FF0 << 48, 0x4008 << 48, 0x7FF8 << 48, (0x7FF0 << 48) | 1
SINGLE_BOX = 0xFFFF_FFFF << 32


def hart_with(fs: int, *f: int) -> Hart:
    """A hart in M-mode with FS as given and f1, f2, ... loaded."""
    hart = Hart()
    hart.priv = 3
    hart.mstatus = fs << 13
    for number, value in enumerate(f, 1):
        hart.f[number] = value
    update_derived(hart)
    return hart


def execute(hart: Hart, name: str, **operands: int) -> None:
    """Run one instruction; registers default to rd=4, rs1=1, rs2=2, rs3=3, rm to RNE."""
    instruction = BY_NAME[name]
    given = {"rd": 4, "rs1": 1, "rs2": 2, "rs3": 3, "rm": 0, "imm": 0, **operands}
    assert instruction.function is not None
    instruction.function(hart, *[U64(given[o]) for o in instruction.operands])


def fs_of(hart: Hart) -> int:
    return int(hart.mstatus) >> 13 & 3


@pytest.mark.parametrize("instruction", FLOAT, ids=lambda i: i.name)
def test_illegal_when_fs_is_off(instruction: Instruction) -> None:
    """Every instruction is illegal with FS off, before anything else is looked at."""
    hart = hart_with(OFF)
    before = bytes(hart.mem)
    with pytest.raises(IllegalInstruction):
        execute(hart, instruction.name, rm=5)
    assert bytes(hart.mem) == before


@pytest.mark.parametrize("instruction", [i for i in FLOAT if "rm" in i.operands], ids=lambda i: i.name)
@pytest.mark.parametrize(("rm", "frm"), [(5, 0), (6, 0), (7, 5), (7, 7)])
def test_illegal_rounding_modes(instruction: Instruction, rm: int, frm: int) -> None:
    """Reserved modes, static or in frm, are illegal even where nothing is ever rounded."""
    hart = hart_with(CLEAN, ONE, ONE, ONE)
    hart.frm = frm
    before = bytes(hart.mem)
    with pytest.raises(IllegalInstruction):
        execute(hart, instruction.name, rm=rm)
    assert bytes(hart.mem) == before


@pytest.mark.parametrize("frm", range(5))
def test_dynamic_rounding_mode(frm: int) -> None:
    """DYN takes the mode from frm."""
    hart, static = hart_with(DIRTY, ONE, THREE), hart_with(DIRTY, ONE, THREE)
    hart.frm = frm
    execute(hart, "fdiv.d", rm=7)
    execute(static, "fdiv.d", rm=frm)
    assert hart.f[4] == static.f[4]
    assert hart.fflags == NX


def test_results_are_boxed() -> None:
    """A narrower result has ones above it."""
    hart = hart_with(DIRTY, SINGLE_BOX | 0x3F80_0000, SINGLE_BOX | 0x4040_0000)
    execute(hart, "fadd.s")
    assert hart.f[4] == SINGLE_BOX | 0x4080_0000
    execute(hart, "fcvt.h.s")
    assert hart.f[4] == 0xFFFF_FFFF_FFFF_3C00


@pytest.mark.parametrize("name", ["fadd.s", "fsgnj.s", "fmin.s"])
def test_unboxed_operands_are_nans(name: str) -> None:
    """A single that is not NaN-boxed counts as the canonical NaN, without NV."""
    hart = hart_with(DIRTY, 0x3F80_0000, 0x3F80_0000)
    execute(hart, name)
    assert hart.f[4] == SINGLE_BOX | 0x7FC0_0000
    assert hart.fflags == 0


def test_moves_ignore_boxing() -> None:
    """fmv.x.w and fmv.x.h move the raw bits, sign-extended."""
    hart = hart_with(DIRTY, 0x1234_5678_8765_C321)
    execute(hart, "fmv.x.w")
    assert hart.x[4] == 0xFFFF_FFFF_8765_C321
    execute(hart, "fmv.x.h")
    assert hart.x[4] == 0xFFFF_FFFF_FFFF_C321


def test_subtraction_negates_the_addend() -> None:
    """fmsub, fnmsub, fnmadd are a*b-c, -(a*b)+c, -(a*b)-c."""
    hart = hart_with(DIRTY, ONE, THREE, ONE)
    results = {}
    for name in ("fmadd.d", "fmsub.d", "fnmsub.d", "fnmadd.d"):
        execute(hart, name)
        results[name] = int(hart.f[4])
    assert results == {
        "fmadd.d": 0x4010 << 48,
        "fmsub.d": 0x4000 << 48,
        "fnmsub.d": 0xC000 << 48,
        "fnmadd.d": 0xC010 << 48,
    }


def test_writing_an_f_register_marks_fs_dirty() -> None:
    """Any write of an f register dirties FS, with or without flags."""
    for name in ("fadd.d", "fmv.d.x", "fsgnj.d", "fmin.d", "fcvt.d.w"):
        hart = hart_with(CLEAN, ONE, ONE)
        execute(hart, name)
        assert fs_of(hart) == DIRTY, name
        assert hart.fp_clean == 0


@pytest.mark.parametrize("name", ["feq.d", "flt.d", "fcvt.w.d", "fclass.d", "fmv.x.d"])
def test_writing_an_x_register_without_flags_leaves_fs(name: str) -> None:
    """An instruction that writes an x register and raises nothing leaves FS clean."""
    hart = hart_with(CLEAN, ONE, THREE)
    execute(hart, name)
    assert fs_of(hart) == CLEAN


@pytest.mark.parametrize("name", ["feq.d", "flt.d", "fle.d", "fcvt.l.d", "fcvt.wu.d"])
def test_flags_mark_fs_dirty_even_when_already_set(name: str) -> None:
    """A raised flag dirties FS although fflags does not change."""
    hart = hart_with(CLEAN, SIGNALING_NAN, THREE)
    hart.fflags = NV
    execute(hart, name)
    assert fs_of(hart) == DIRTY
    assert hart.fflags == NV


def test_quiet_and_signaling_comparison() -> None:
    """A quiet NaN raises NV in flt and fle, not in feq."""
    for name, flags in (("feq.d", 0), ("flt.d", NV), ("fle.d", NV)):
        hart = hart_with(DIRTY, QUIET_NAN, ONE)
        execute(hart, name)
        assert (hart.x[4], hart.fflags) == (0, flags), name


def test_destination_may_be_a_source() -> None:
    """rd equal to a source register."""
    hart = hart_with(DIRTY, ONE, THREE, ONE)
    execute(hart, "fmadd.d", rd=3)
    assert hart.f[3] == 0x4010 << 48

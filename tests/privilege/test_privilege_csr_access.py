"""Who may access which CSR, illegal against virtual instruction, and the renaming at V=1."""

from __future__ import annotations

import pytest
from privilege_board import Board

from trapline.privilege import fields
from trapline.privilege.csr_numbers import CSR_NAMES
from trapline.privilege.isa_string import DEFAULT_ISA

OK, ILLEGAL, VIRTUAL = 0, 2, 22
MODES = ("U", "HS", "VU", "VS")


@pytest.mark.parametrize(
    ("csr", "outcomes"),
    [
        ("mscratch", (ILLEGAL, ILLEGAL, ILLEGAL, ILLEGAL)),
        ("sscratch", (ILLEGAL, OK, VIRTUAL, OK)),
        ("stval", (ILLEGAL, OK, VIRTUAL, OK)),
        ("satp", (ILLEGAL, OK, VIRTUAL, OK)),
        ("hstatus", (ILLEGAL, OK, VIRTUAL, VIRTUAL)),
        ("hgatp", (ILLEGAL, OK, VIRTUAL, VIRTUAL)),
        ("hgeip", (ILLEGAL, OK, VIRTUAL, VIRTUAL)),
        ("vsstatus", (ILLEGAL, OK, VIRTUAL, VIRTUAL)),
        ("vsatp", (ILLEGAL, OK, VIRTUAL, VIRTUAL)),
        ("senvcfg", (ILLEGAL, OK, VIRTUAL, OK)),
        ("scountovf", (ILLEGAL, OK, VIRTUAL, OK)),
    ],
)
def test_level_of_register_against_mode(csr: str, outcomes: tuple[int, ...]) -> None:
    """Corner case 9: M registers are illegal from V=1; H, VS and (for VU) S registers are virtual."""
    board = Board()
    for mode, outcome in zip(MODES, outcomes, strict=True):
        board.mode(mode)
        assert board.access(csr) == outcome, mode
    board.mode("M")
    assert board.access(csr) == OK


@pytest.mark.parametrize("mode", ["U", "HS", "VU", "VS", "M"])
def test_write_of_read_only_register_is_illegal_everywhere(mode: str) -> None:
    """Corner case 9: a write to a read-only register is illegal, never virtual, whatever the level."""
    board = Board()
    board.mode(mode)
    for csr in ("cycle", "hgeip", "mvendorid", "scountovf"):
        assert board.access(csr, 1) == ILLEGAL


@pytest.mark.parametrize("mode", ["U", "HS", "VU", "VS", "M"])
def test_register_that_does_not_exist_is_illegal(mode: str) -> None:
    """Corner case 9: an unimplemented register is illegal in every mode, also where its number is H-level."""
    board = Board("rv64gch")
    board.mode(mode)
    for csr in ("stimecmp", "vstimecmp", "scountovf", "hstateen0", "time"):
        assert board.access(csr) == ILLEGAL


@pytest.mark.parametrize(
    ("mcounteren", "hcounteren", "scounteren", "outcomes"),
    [
        (0, 7, 7, (ILLEGAL, ILLEGAL, ILLEGAL, ILLEGAL)),
        (7, 0, 7, (OK, OK, VIRTUAL, VIRTUAL)),
        (7, 7, 0, (ILLEGAL, OK, VIRTUAL, OK)),
        (7, 7, 7, (OK, OK, OK, OK)),
    ],
)
def test_counters(mcounteren: int, hcounteren: int, scounteren: int, outcomes: tuple[int, ...]) -> None:
    """Corner case 9: mcounteren refuses with illegal, hcounteren with virtual, scounteren by the mode it serves."""
    board = Board()
    board.write("mcounteren", mcounteren)
    board.write("hcounteren", hcounteren)
    board.write("scounteren", scounteren)
    for mode, outcome in zip(MODES, outcomes, strict=True):
        board.mode(mode)
        assert [board.access(c) for c in ("cycle", "time", "instret")] == [outcome] * 3, mode
    board.mode("M")
    assert board.access("time") == OK


@pytest.mark.parametrize(
    ("csr", "mode", "tvm", "vtvm", "outcome"),
    [
        ("satp", "HS", 1, 0, ILLEGAL),
        ("satp", "HS", 0, 1, OK),
        ("satp", "VS", 0, 1, VIRTUAL),
        ("satp", "VS", 1, 0, OK),
        ("satp", "VU", 0, 1, VIRTUAL),
        ("hgatp", "HS", 1, 0, ILLEGAL),
        ("hgatp", "VS", 1, 0, VIRTUAL),
        ("vsatp", "HS", 1, 1, OK),
        ("satp", "M", 1, 1, OK),
    ],
)
def test_tvm_and_vtvm(csr: str, mode: str, tvm: int, vtvm: int, outcome: int) -> None:
    """Corner case 9: TVM makes satp and hgatp illegal in HS, VTVM makes satp virtual in VS, vsatp is free."""
    board = Board()
    board.write("mstatus", fields.MSTATUS_TVM * tvm)
    board.write("hstatus", fields.HSTATUS_VTVM * vtvm)
    board.mode(mode)
    assert board.access(csr, 1) == outcome


@pytest.mark.parametrize(
    ("tm", "stce", "htm", "hstce", "outcomes"),
    [
        (1, 0, 1, 1, (ILLEGAL, ILLEGAL, ILLEGAL, ILLEGAL)),
        (0, 1, 1, 1, (ILLEGAL, ILLEGAL, ILLEGAL, ILLEGAL)),
        (1, 1, 0, 1, (ILLEGAL, OK, VIRTUAL, VIRTUAL)),
        (1, 1, 1, 0, (ILLEGAL, OK, VIRTUAL, VIRTUAL)),
        (1, 1, 1, 1, (ILLEGAL, OK, VIRTUAL, OK)),
    ],
)
def test_stimecmp(tm: int, stce: int, htm: int, hstce: int, outcomes: tuple[int, ...]) -> None:
    """Corner case 9: stimecmp needs mcounteren.TM and menvcfg.STCE (illegal), then the h ones (virtual)."""
    board = Board()
    board.write("mcounteren", tm * 2)
    board.write("scounteren", 2)
    board.write("menvcfg", fields.ENVCFG_STCE)
    board.write("henvcfg", fields.ENVCFG_STCE * hstce)
    board.write("menvcfg", fields.ENVCFG_STCE * stce)
    board.write("hcounteren", htm * 2)
    for mode, outcome in zip(MODES, outcomes, strict=True):
        board.mode(mode)
        assert board.access("stimecmp", 1) == outcome, mode
        assert board.access("vstimecmp", 1) == (VIRTUAL if outcome == OK and mode == "VS" else outcome), mode


@pytest.mark.parametrize("mode", ["U", "HS", "M", "VU", "VS"])
def test_floating_point_registers_need_fs(mode: str) -> None:
    """Corner case 9: with FS off in sstatus, or in vsstatus at V=1, fcsr is illegal, never virtual."""
    board = Board()
    board.mode(mode)
    for outer, inner in ((0, 0), (0, 1), (1, 0), (1, 1)):
        board.write("mstatus", outer << 13)
        board.write("vsstatus", inner << 13)
        usable = outer and (inner or not mode.startswith("V"))
        assert board.access("fcsr") == (OK if usable else ILLEGAL)


def test_writing_fcsr_dirties_both_levels() -> None:
    """Corner case 9: at V=1 a floating-point write sets FS to Dirty in vsstatus and in sstatus."""
    board = Board()
    board.write("mstatus", 1 << 13)
    board.write("vsstatus", 1 << 13)
    board.mode("VU")
    board.write("fflags", 0x1F)
    assert board.read("sstatus") & (fields.MSTATUS_FS | fields.MSTATUS_SD) == fields.MSTATUS_FS | fields.MSTATUS_SD
    assert board.read("vsstatus") & (fields.MSTATUS_FS | fields.MSTATUS_SD) == fields.MSTATUS_FS | fields.MSTATUS_SD
    assert board.hart.fp_clean == 0


def test_floating_point_write_outside_leaves_vsstatus() -> None:
    """At V=0 a floating-point write does not touch vsstatus."""
    board = Board()
    board.write("mstatus", 1 << 13)
    board.write("vsstatus", 1 << 13)
    board.write("frm", 3)
    assert board.read("vsstatus") & fields.MSTATUS_FS == 1 << 13
    assert board.read("fcsr") == 3 << 5


SHADOWED = ["sstatus", "sie", "stvec", "sscratch", "sepc", "scause", "stval", "sip", "satp", "stimecmp"]
SHADOWED_BY_AIA = ["siselect", "sireg", "stopei", "stopi"]


def test_renaming_at_v1() -> None:
    """Corner case 15: at V=1 exactly ten supervisor names, and four of the AIA, mean the vs registers."""
    board = Board()
    for csr in CSR_NAMES.values():
        board.mode("HS")
        assert CSR_NAMES[board.effective(csr)] == csr
        board.mode("VS")
        assert CSR_NAMES[board.effective(csr)] == (f"v{csr}" if csr in SHADOWED + SHADOWED_BY_AIA else csr)


def test_vs_trap_registers_hold_any_value() -> None:
    """Corner case 15: vscause and vstval hold full words, vsepc all but bit 0, vstvec only modes 0 and 1."""
    board = Board()
    for csr, value in (("vscause", -1), ("vstval", -1), ("vsepc", -2), ("vstvec", -3), ("vsscratch", -1)):
        board.write(csr, -1)
        assert board.read(csr) == value & fields.ALL_ONES


@pytest.mark.parametrize(
    ("mstateen", "hstateen", "outcomes"),
    [(0, 1, (ILLEGAL,) * 4), (1, 0, (ILLEGAL, OK, VIRTUAL, VIRTUAL)), (1, 1, (ILLEGAL, OK, VIRTUAL, OK))],
)
def test_state_enable(mstateen: int, hstateen: int, outcomes: tuple[int, ...]) -> None:
    """Corner case 9: senvcfg is gated by mstateen0 (illegal) and, at V=1, by hstateen0 (virtual)."""
    board = Board(DEFAULT_ISA + "_smstateen")
    board.write("mstateen0", -1)
    board.write("hstateen0", fields.STATEEN_ENVCFG * hstateen)
    board.write("mstateen0", fields.STATEEN_ENVCFG * mstateen)
    for mode, outcome in zip(MODES, outcomes, strict=True):
        board.mode(mode)
        assert board.access("senvcfg") == outcome, mode


def test_debug_registers_do_not_exist() -> None:
    """Corner case 18: tcontrol and the registers of Debug Mode are illegal, also in M-mode."""
    assert not {0x7A5, 0x7AA, *range(0x7B0, 0x7C0)} & set(CSR_NAMES)


def test_double_trap_bits_read_zero() -> None:
    """Corner case 14: without Ssdbltrp, SDT and DTE are read-only zero and medeleg[16] with them."""
    board = Board()
    for csr, bit in (
        ("mstatus", 24),
        ("sstatus", 24),
        ("vsstatus", 24),
        ("menvcfg", 59),
        ("henvcfg", 59),
        ("medeleg", 16),
    ):
        board.write(csr, -1)
        assert not board.read(csr) >> bit & 1


def test_there_are_no_triggers() -> None:
    """M-mode finds that there is no trigger: tselect keeps nothing, tdata1 has type 0, tinfo names none."""
    board = Board()
    board.mode("M")
    for csr, value in (("tselect", 0), ("tdata1", 0), ("tdata2", 0), ("tdata3", 0), ("tinfo", 1)):
        assert board.access(csr, 1) == OK
        board.write(csr, 1 << 63)
        assert board.read(csr) == value
    for mode in MODES:
        board.mode(mode)
        assert board.access("tselect") == ILLEGAL


def test_contexts_of_triggers() -> None:
    """scontext is one register at V=0 and V=1, hcontext is the hypervisor's, mcontext another name of it."""
    board = Board()
    outcomes = {"scontext": (ILLEGAL, OK, VIRTUAL, OK), "hcontext": (ILLEGAL, OK, VIRTUAL, VIRTUAL)}
    for csr, expected in (*outcomes.items(), ("mcontext", (ILLEGAL,) * 4)):
        assert tuple(board.mode(mode) and board.access(csr, 1) for mode in MODES) == expected, csr
    board.mode("M")
    board.write("mcontext", 0x1234)
    assert board.read("hcontext") == 0x1234
    board.write("hcontext", 0x2345)
    assert board.read("mcontext") == 0x2345
    without = Board("rv64gc")
    without.write("mcontext", -1)
    assert without.read("mcontext") == 0x1FFF
    assert without.access("hcontext") == ILLEGAL


@pytest.mark.parametrize(("mstateen", "hstateen", "vs"), [(0, 1, ILLEGAL), (1, 0, VIRTUAL), (1, 1, OK)])
def test_state_enable_of_contexts(mstateen: int, hstateen: int, vs: int) -> None:
    """mstateen0.CONTEXT keeps all modes below M from scontext and hcontext, hstateen0.CONTEXT V=1 from scontext."""
    board = Board(DEFAULT_ISA + "_smstateen")
    board.write("mstateen0", -1)
    board.write("hstateen0", fields.STATEEN_CONTEXT * hstateen)
    board.write("mstateen0", fields.STATEEN_CONTEXT * mstateen)
    board.mode("HS")
    assert board.access("scontext") == board.access("hcontext") == (OK if mstateen else ILLEGAL)
    board.mode("VS")
    assert board.access("scontext") == vs
    assert board.access("hcontext") == (VIRTUAL if mstateen else ILLEGAL)
    board.mode("M")
    assert board.access("scontext") == board.access("hcontext") == board.access("mcontext") == OK

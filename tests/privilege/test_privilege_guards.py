"""Guards of instructions: illegal against virtual."""

from __future__ import annotations

import pytest
from privilege_board import Board, cause_of

from trapline.privilege import fields, guards

OK, ILLEGAL, VIRTUAL = 0, 2, 22
MODES = ("U", "HS", "M", "VU", "VS")
TVM, TW, TSR = fields.MSTATUS_TVM, fields.MSTATUS_TW, fields.MSTATUS_TSR
VTVM, VTW, VTSR, HU = fields.HSTATUS_VTVM, fields.HSTATUS_VTW, fields.HSTATUS_VTSR, fields.HSTATUS_HU


@pytest.mark.parametrize(
    ("guard", "mstatus", "hstatus", "outcomes"),
    [
        ("machine", 0, 0, (2, 2, 0, 2, 2)),
        ("sret", 0, 0, (2, 0, 0, 22, 0)),
        ("sret", TSR, 0, (2, 2, 0, 22, 0)),
        ("sret", 0, VTSR, (2, 0, 0, 22, 22)),
        ("wfi", 0, 0, (2, 0, 0, 22, 0)),
        ("wfi", TW, 0, (2, 2, 0, 2, 2)),
        ("wfi", 0, VTW, (2, 0, 0, 22, 22)),
        ("wfi", TW, VTW, (2, 2, 0, 2, 2)),
        ("wrs_nto", 0, 0, (0, 0, 0, 0, 0)),
        ("wrs_nto", TW, VTW, (2, 2, 0, 2, 2)),
        ("wrs_nto", 0, VTW, (0, 0, 0, 22, 22)),
        ("sfence_vma", 0, 0, (2, 0, 0, 22, 0)),
        ("sfence_vma", TVM, 0, (2, 2, 0, 22, 0)),
        ("sfence_vma", 0, VTVM, (2, 0, 0, 22, 22)),
        ("sfence_inval", TVM, VTVM, (2, 0, 0, 22, 0)),
        ("hfence_vvma", TVM, 0, (2, 0, 0, 22, 22)),
        ("hfence_gvma", 0, 0, (2, 0, 0, 22, 22)),
        ("hfence_gvma", TVM, 0, (2, 2, 0, 22, 22)),
        ("hypervisor_access", TVM, 0, (2, 0, 0, 22, 22)),
        ("hypervisor_access", 0, HU, (0, 0, 0, 22, 22)),
    ],
)
def test_guard(guard: str, mstatus: int, hstatus: int, outcomes: tuple[int, ...]) -> None:
    """Corner cases 8, 9, 10: each guard refuses with illegal or virtual as the specification says (U HS M VU VS)."""
    board = Board()
    board.write("mstatus", mstatus)
    board.write("hstatus", hstatus)
    for mode, outcome in zip(MODES, outcomes, strict=True):
        board.mode(mode)
        assert cause_of(getattr(guards, f"require_{guard}"), board.hart) == outcome, mode


@pytest.mark.parametrize("guard", ["cbo_inval", "cbo_clean", "cbo_zero"])
@pytest.mark.parametrize(
    ("menvcfg", "henvcfg", "senvcfg", "outcomes"),
    [
        (0, -1, -1, (2, 2, 0, 2, 2)),
        (-1, 0, -1, (0, 0, 0, 22, 22)),
        (-1, -1, 0, (2, 0, 0, 22, 0)),
        (-1, -1, -1, (0, 0, 0, 0, 0)),
    ],
)
def test_cache_block_operations(
    guard: str, menvcfg: int, henvcfg: int, senvcfg: int, outcomes: tuple[int, ...]
) -> None:
    """menvcfg refuses cache-block operations with illegal; henvcfg, and senvcfg in VU, with virtual."""
    board = Board()
    for csr, value in (("menvcfg", menvcfg), ("henvcfg", henvcfg), ("senvcfg", senvcfg)):
        board.write(csr, value)
    for mode, outcome in zip(MODES, outcomes, strict=True):
        board.mode(mode)
        assert cause_of(getattr(guards, f"require_{guard}"), board.hart) == outcome, mode


def test_ecall_causes() -> None:
    """ECALL is 8 from U and VU, 9 from HS, 10 from VS, 11 from M."""
    board = Board()
    assert [guards.ecall_cause(board.mode(mode)) for mode in MODES] == [8, 9, 11, 8, 10]


@pytest.mark.parametrize(("mode", "gva"), [("HS", 0), ("VS", 1)])
def test_ebreak_reports_its_address(mode: str, gva: int) -> None:
    """EBREAK writes pc to tval, so GVA is 1 exactly when that is a guest virtual address."""
    board = Board()
    board.mode(mode).pc = 0x1230
    with pytest.raises(guards.Trap) as raised:
        guards.ebreak(board.hart)
    assert (raised.value.cause, raised.value.tval, raised.value.gva) == (3, 0x1230, gva)


def test_floating_point_guard_follows_fs() -> None:
    """Floating-point instructions are illegal while FS is off at any level that counts."""
    board = Board()
    board.mode("VS")
    assert cause_of(guards.require_fp, board.hart) == ILLEGAL
    board.write("mstatus", fields.MSTATUS_FS)
    assert cause_of(guards.require_fp, board.hart) == ILLEGAL
    board.write("vsstatus", 1 << 13)
    assert cause_of(guards.require_fp, board.hart) == OK

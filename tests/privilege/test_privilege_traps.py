"""Trap entry: every field of M, HS and VS, and where a trap goes."""

from __future__ import annotations

import pytest
from privilege_board import Board

from trapline.lang.control import EXIT_HOSTED_HS, EXIT_HOSTED_M
from trapline.lang.values import U64
from trapline.privilege import fields
from trapline.privilege.causes import INTERRUPT, trap_index
from trapline.privilege.modes import MODE_BY_NAME, TO_HS, TO_M, TO_VS
from trapline.privilege.trap import take_trap


def trap(board: Board, cause: int, tval: int = 0, tval2: int = 0, tinst: int = 0, gva: int = 0) -> None:
    """Raise a trap at 0x1234."""
    take_trap(board.hart, U64(cause), U64(0x1234), U64(tval), U64(tval2), U64(tinst), U64(gva))


@pytest.mark.parametrize(("mode", "mpp", "mpv"), [("U", 0, 0), ("HS", 1, 0), ("M", 3, 0), ("VU", 0, 1), ("VS", 1, 1)])
def test_entry_to_m(mode: str, mpp: int, mpv: int) -> None:
    """A trap into M saves the mode in MPP and MPV, stacks MIE, and writes all six trap registers."""
    board = Board()
    board.write("mtvec", 0x4000)
    board.write("mstatus", fields.MSTATUS_MIE)
    h = board.mode(mode)
    trap(board, 5, 0xABCD, 0x77, 0x3000, gva=mpv)
    assert (h.priv, h.virt) == (3, 0)
    assert (h.mcause, h.mepc, h.mtval, h.mtval2, h.mtinst) == (5, 0x1234, 0xABCD, 0x77, 0x3000)
    status = board.read("mstatus")
    assert status >> 11 & 3 == mpp
    assert bool(status & fields.MSTATUS_MPV) == bool(mpv)
    assert bool(status & fields.MSTATUS_GVA) == bool(mpv)
    assert not status & fields.MSTATUS_MIE
    assert status & fields.MSTATUS_MPIE
    assert h.next_pc == 0x4000


@pytest.mark.parametrize(("mode", "spp", "spv"), [("U", 0, 0), ("HS", 1, 0), ("VU", 0, 1), ("VS", 1, 1)])
def test_entry_to_hs(mode: str, spp: int, spv: int) -> None:
    """A trap into HS writes SPP, SPV, GVA, htval and htinst, and SPVP only when it comes from V=1."""
    board = Board()
    board.write("medeleg", 1 << 13)
    board.write("stvec", 0x8000)
    board.write("hstatus", fields.HSTATUS_SPVP * (1 - spp))
    board.write("mstatus", fields.MSTATUS_SIE | fields.MSTATUS_MPP)
    h = board.mode(mode)
    trap(board, 13, 0xABCD, 0x77, 0x3000, gva=spv)
    assert (h.priv, h.virt) == (1, 0)
    assert (h.scause, h.sepc, h.stval, h.htval, h.htinst) == (13, 0x1234, 0xABCD, 0x77, 0x3000)
    hstatus, status = board.read("hstatus"), board.read("mstatus")
    assert bool(hstatus & fields.HSTATUS_SPV) == bool(spv)
    assert bool(hstatus & fields.HSTATUS_GVA) == bool(spv)
    assert bool(hstatus & fields.HSTATUS_SPVP) == bool(spp if spv else 1 - spp)
    assert bool(status & fields.MSTATUS_SPP) == bool(spp)
    assert status & (fields.MSTATUS_SIE | fields.MSTATUS_SPIE) == fields.MSTATUS_SPIE
    assert status & fields.MSTATUS_MPP == fields.MSTATUS_MPP
    assert (h.mcause, h.mepc) == (0, 0)


@pytest.mark.parametrize(("mode", "spp"), [("VU", 0), ("VS", 1)])
def test_entry_to_vs(mode: str, spp: int) -> None:
    """A trap into VS writes the vs registers alone: V stays 1 and htval, hstatus, sstatus keep their values."""
    board = Board()
    for csr in ("medeleg", "hedeleg"):
        board.write(csr, 1 << 13)
    board.write("vstvec", 0x9001)
    board.write("vsstatus", fields.MSTATUS_SIE)
    board.write("htval", 0x55)
    h = board.mode(mode)
    before = (board.read("hstatus"), board.read("mstatus"))
    trap(board, 13, 0xABCD, 0x77, 0x3000, gva=1)
    assert (h.priv, h.virt) == (1, 1)
    assert (h.vscause, h.vsepc, h.vstval) == (13, 0x1234, 0xABCD)
    assert (board.read("hstatus"), board.read("mstatus")) == before
    assert (h.htval, h.scause, h.mtval2) == (0x55, 0, 0)
    assert bool(h.vsstatus & fields.MSTATUS_SPP != 0) == bool(spp)
    assert h.vsstatus & (fields.MSTATUS_SIE | fields.MSTATUS_SPIE) == fields.MSTATUS_SPIE
    assert h.next_pc == 0x9000


@pytest.mark.parametrize("cause", [2, 6])
def test_exceptions_keep_their_number_in_vscause(cause: int) -> None:
    """Corner case 1: causes 2, 6 and 10 are decremented for interrupts only, not for exceptions."""
    board = Board()
    for csr in ("medeleg", "hedeleg"):
        board.write(csr, 1 << cause)
    board.mode("VS")
    trap(board, cause)
    assert board.read("vscause") == cause


@pytest.mark.parametrize(("code", "seen"), [(2, 1), (6, 5), (10, 9)])
def test_vs_interrupts_are_renumbered(code: int, seen: int) -> None:
    """A VS-level interrupt has the supervisor's number in vscause, and vectored mode uses that number."""
    board = Board()
    board.write("hideleg", fields.VS_INTERRUPTS)
    board.write("vstvec", 0x4001)
    h = board.mode("VU")
    trap(board, INTERRUPT | code)
    assert board.read("vscause") == INTERRUPT | seen
    assert h.next_pc == 0x4000 + 4 * seen


def test_hedeleg_alone_delegates_nothing() -> None:
    """A hedeleg bit whose medeleg bit is clear has no effect: the trap goes to M."""
    board = Board()
    board.write("hedeleg", 1 << 13)
    h = board.mode("VS")
    trap(board, 13)
    assert h.priv == 3
    assert board.read("mcause") == 13


def test_m_never_delegates_its_own_traps() -> None:
    """A trap from M-mode stays in M-mode whatever medeleg says."""
    board = Board()
    board.write("medeleg", -1)
    trap(board, 13)
    assert (board.hart.priv, board.hart.mcause) == (3, 13)


def test_undelegated_interrupts_of_v1_go_to_m() -> None:
    """Corner case 16: with the mideleg bit clear, an interrupt taken at V=1 goes to M with MPV set."""
    board = Board()
    h = board.mode("VS")
    board.write("mie", fields.SSIP)
    board.write("mip", fields.SSIP)
    assert (h.irq_cause, h.irq_level) == (2, TO_M)
    trap(board, INTERRUPT | 1)
    assert board.read("mstatus") & fields.MSTATUS_MPV


@pytest.mark.parametrize(("hosted", "mode", "reason"), [("m", "HS", EXIT_HOSTED_M), ("hs", "VS", EXIT_HOSTED_HS)])
def test_hosted_destination_leaves_the_engine(hosted: str, mode: str, reason: int) -> None:
    """A trap to a hosted level asks native code to leave, with the cause as argument, after all CSRs are written."""
    board = Board()
    h = board.mode(mode)
    setattr(h, f"hosted_{hosted}", 1)
    if hosted == "hs":
        board.write("medeleg", 1 << 13)
    trap(board, 13)
    assert h.attention & 2 == 2
    assert (h.exit_reason, h.exit_arg) == (reason, 13)


def test_every_trap_is_counted_by_cause_origin_and_destination() -> None:
    """trap_count has one counter for each cause, origin and destination."""
    board = Board()
    h = board.hart
    board.write("medeleg", 1 << 8)
    board.write("hideleg", fields.VSSIP)
    board.mode("U")
    trap(board, 8)
    trap(board, 13)
    board.mode("VU")
    trap(board, INTERRUPT | 2)
    assert h.trap_count[trap_index(8, MODE_BY_NAME["U"], TO_HS)] == 1
    assert h.trap_count[trap_index(13, MODE_BY_NAME["HS"], TO_M)] == 1
    assert h.trap_count[trap_index(INTERRUPT | 2, MODE_BY_NAME["VU"], TO_VS)] == 1
    assert sum(h.trap_count[i] for i in range(len(h.trap_count))) == 3


@pytest.mark.parametrize(
    ("mode", "cause", "forgotten"),
    [("HS", 21, [0xA000]), ("HS", 13, []), ("VS", 21, []), ("VS", 23, []), ("HS", 22, [])],
)
def test_a_guest_page_fault_of_an_hlv_forgets_the_page(mode: str, cause: int, forgotten: list[int]) -> None:
    """What an HLV has found out holds for the guest too: its older translation of the page goes."""
    board = Board()
    h = board.mode(mode)
    seen: list[int] = []
    h.on_flush_page = seen.append  # type: ignore[method-assign]
    trap(board, cause, 0xA000, 0x77)
    assert seen == forgotten

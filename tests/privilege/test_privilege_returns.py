"""MRET and SRET."""

from __future__ import annotations

import pytest
from privilege_board import Board

from trapline.privilege import fields
from trapline.privilege.modes import MODE_BY_NAME
from trapline.privilege.returns import mret, sret


@pytest.mark.parametrize(("mpp", "mpv", "mode"), [(0, 0, "U"), (1, 0, "HS"), (0, 1, "VU"), (1, 1, "VS"), (3, 1, "M")])
def test_mret(mpp: int, mpv: int, mode: str) -> None:
    """MRET enters MPP and MPV (V=0 for M), unstacks MIE, and clears MPRV when it leaves M."""
    board = Board()
    h = board.hart
    h.mepc = 0x1000
    board.write("mstatus", mpp << 11 | mpv << 39 | fields.MSTATUS_MPIE | fields.MSTATUS_MPRV | fields.MSTATUS_GVA)
    mret(h)
    assert (h.priv, h.virt) == (MODE_BY_NAME[mode] & 3, MODE_BY_NAME[mode] >> 2)
    assert h.next_pc == 0x1000
    status = board.read("mstatus")
    assert status & fields.MSTATUS_MPP == 0
    assert not status & fields.MSTATUS_MPV
    assert status & fields.MSTATUS_MIE
    assert status & fields.MSTATUS_MPIE
    assert bool(status & fields.MSTATUS_MPRV) == (mode == "M")


@pytest.mark.parametrize("origin", ["HS", "M"])
@pytest.mark.parametrize(("spp", "spv", "mode"), [(0, 0, "U"), (1, 0, "HS"), (0, 1, "VU"), (1, 1, "VS")])
def test_sret_outside(origin: str, spp: int, spv: int, mode: str) -> None:
    """SRET at V=0 enters SPP and SPV, clears SPV, SPP and MPRV, and leaves vsstatus alone."""
    board = Board()
    h = board.mode(origin)
    h.sepc = 0x2000
    board.write("mstatus", spp << 8 | fields.MSTATUS_SPIE | fields.MSTATUS_MPRV)
    board.write("hstatus", spv << 7 | fields.HSTATUS_SPVP)
    board.write("vsstatus", fields.MSTATUS_SPP)
    sret(h)
    assert (h.priv, h.virt) == (MODE_BY_NAME[mode] & 3, MODE_BY_NAME[mode] >> 2)
    assert h.next_pc == 0x2000
    assert board.read("hstatus") & (fields.HSTATUS_SPV | fields.HSTATUS_SPVP) == fields.HSTATUS_SPVP
    status = board.read("mstatus")
    assert not status & (fields.MSTATUS_SPP | fields.MSTATUS_MPRV)
    assert status & fields.MSTATUS_SIE
    assert h.vsstatus & fields.MSTATUS_SPP == fields.MSTATUS_SPP


@pytest.mark.parametrize(("spp", "mode"), [(0, "VU"), (1, "VS")])
def test_sret_inside(spp: int, mode: str) -> None:
    """SRET at V=1 uses vsstatus and vsepc alone: V stays 1, hstatus and sstatus are untouched."""
    board = Board()
    h = board.mode("VS")
    h.vsepc = 0x3000
    board.write("vsstatus", spp << 8 | fields.MSTATUS_SPIE)
    board.write("hstatus", fields.HSTATUS_SPV)
    before = (board.read("hstatus"), board.read("mstatus"))
    sret(h)
    assert (h.priv, h.virt) == (MODE_BY_NAME[mode] & 3, 1)
    assert h.next_pc == 0x3000
    assert (board.read("hstatus"), board.read("mstatus")) == before
    assert h.vsstatus & (fields.MSTATUS_SPP | fields.MSTATUS_SIE) == fields.MSTATUS_SIE


def test_return_address_alignment_follows_c() -> None:
    """Without C, a return ignores bit 1 of xepc."""
    for isa, pc in (("rv64gch", 0x1002), ("rv64imafdh", 0x1000)):
        board = Board(isa)
        board.hart.mepc = 0x1002
        mret(board.hart)
        assert board.hart.next_pc == pc
        assert board.read("mepc") == pc


def test_instructions_are_accounted_to_their_mode() -> None:
    """mode_instret adds up what each mode retired; a real MRET counts for M, a hosted one retires nothing."""
    board = Board()
    h = board.hart
    h.instret = 9
    mret(h)
    h.instret = 10
    assert h.mode_instret[3] == 10
    assert h.mode_since == 10
    h.hosted_m = 1
    board.mode("M")
    mret(h)
    assert h.mode_since == 10

"""WARL fields, as Spike has them (written with all ones, then zeros, and read back)."""

from __future__ import annotations

import pytest
from privilege_board import Board

from trapline.privilege.isa_string import DEFAULT_ISA

MEASURED = [
    ("fflags", 0x1F, 0),
    ("frm", 7, 0),
    ("fcsr", 0xFF, 0),
    ("sstatus", 0x80000002000C6122, 0x200000000),
    ("sie", 0x2222, 0),
    ("stvec", 0xFFFFFFFFFFFFFFFD, 0),
    ("scounteren", 0xFFFFFFFF, 0),
    ("senvcfg", 0xF0, 0),
    ("sepc", 0xFFFFFFFFFFFFFFFE, 0),
    ("scause", 0xFFFFFFFFFFFFFFFF, 0),
    ("vsstatus", 0x80000002000C6122, 0x200000000),
    ("vsie", 0x222, 0),
    ("vsip", 2, 0),
    ("vstvec", 0xFFFFFFFFFFFFFFFD, 0),
    ("mstatus", 0x800000CA007E79AA, 0xA00000000),
    ("medeleg", 0xF0B7FE, 0),
    ("mideleg", 0x3666, 0x1444),
    ("mie", 0x3EEE, 0),
    ("mcounteren", 0xFFFFFFFF, 0),
    ("menvcfg", 0xE0000000000000F0, 0),
    ("mcountinhibit", 0xFFFFFFFD, 0),
    ("mhpmevent3", 0xFC00000000000000, 0),
    ("mhpmcounter3", 0, 0),
    ("mip", 0x2206, 0),
    ("sip", 0x2002, 0),
    ("mtinst", 0xFFFFFFFFFFFFFFFF, 0),
    ("mtval2", 0xFFFFFFFFFFFFFFFF, 0),
    ("pmpcfg2", 0x9F9F9F9F9F9F9F9F, 0x9F9F9F9F9F9F9F9F),
    ("pmpcfg4", 0, 0),
    ("pmpaddr16", 0, 0),
    ("hstatus", 0x2007003C0, 0x200000000),
    ("hedeleg", 0xB1FF, 0),
    ("hideleg", 0x444, 0),
    ("hie", 0x1444, 0),
    ("hip", 4, 0),
    ("hvip", 0x444, 0),
    ("hgeie", 0, 0),
    ("henvcfg", 0xE0000000000000F0, 0),
    ("htinst", 0xFFFFFFFFFFFFFFFF, 0),
    ("hgatp", 0x03FFFFFFFFFFFFFC, 0),
    ("vsatp", 0x0FFFFFFFFFFFFFFF, 0),
    ("satp", 0, 0),
]


@pytest.mark.parametrize(("csr", "ones", "zeros"), MEASURED, ids=[m[0] for m in MEASURED])
def test_written_bits(csr: str, ones: int, zeros: int) -> None:
    """Only the bits that Spike keeps are writable."""
    board = Board()
    for other in ("mideleg", "hideleg", "menvcfg", "mcounteren"):
        if other != csr:
            board.write(other, -1)
    board.hart.stimer_at = board.hart.vstimer_at = (1 << 64) - 1
    board.write(csr, -1)
    assert board.read(csr) == ones
    board.write(csr, 0)
    assert board.read(csr) == zeros


def test_medeleg_bit_0_appears_without_c() -> None:
    """Instruction address misaligned can be delegated only where it can occur."""
    board = Board("rv64imafdh")
    board.write("medeleg", -1)
    assert board.read("medeleg") == 0xF0B7FF


def test_without_h_its_causes_cannot_be_delegated() -> None:
    """Without H, mideleg has no read-only ones and medeleg neither 10 nor 20..23."""
    board = Board("rv64gc")
    board.write("medeleg", -1)
    board.write("mideleg", -1)
    assert (board.read("medeleg"), board.read("mideleg")) == (0xB3FE, 0x222)


def test_without_h_no_event_filters_virtual_modes() -> None:
    """mhpmevent.VSINH and VUINH are there with H only."""
    board = Board("rv64gc_sscofpmf")
    board.write("mhpmevent3", -1)
    assert board.read("mhpmevent3") == 0xF000000000000000


def test_unsupported_satp_mode_ignores_the_write() -> None:
    """satp, also as VS-mode writes it, ignores the whole write; vsatp and hgatp from outside keep MODE alone."""
    board = Board()
    for csr in ("satp", "vsatp", "hgatp"):
        board.write(csr, 8 << 60 | 0x1000)
    for csr in ("satp", "vsatp", "hgatp"):
        board.write(csr, 5 << 60 | 0x2000)
    assert board.read("satp") == 8 << 60 | 0x1000
    assert board.read("vsatp") == 8 << 60 | 0x2000
    assert board.read("hgatp") == 8 << 60 | 0x2000
    board.mode("VS")
    board.write("vsatp", 5 << 60 | 0x3000)
    assert board.read("vsatp") == 8 << 60 | 0x2000


@pytest.mark.parametrize(("limit", "modes"), [("sv39", {8}), ("sv48", {8, 9}), ("sv57", {8, 9, 10})])
def test_modes_of_translation_follow_the_isa_string(limit: str, modes: set[int]) -> None:
    """satp takes the modes up to the largest that the ISA string names."""
    board = Board(f"{DEFAULT_ISA}_{limit}")
    taken = set()
    for mode in range(1, 16):
        board.write("satp", mode << 60)
        if board.read("satp") >> 60 == mode:
            taken.add(mode)
    assert taken == modes


def test_reserved_values() -> None:
    """MPP=2 becomes U, CBIE=2 becomes 0, and a PMP entry with W but not R loses W."""
    board = Board()
    board.write("mstatus", 2 << 11)
    board.write("menvcfg", 2 << 4)
    board.write("pmpcfg2", 2)
    assert board.read("mstatus") >> 11 & 3 == 0
    assert board.read("menvcfg") == 0
    assert board.read("pmpcfg2") == 0


def test_henvcfg_shows_only_what_menvcfg_allows() -> None:
    """Corner case 13: ADUE, PBMTE and STCE of henvcfg are read-only zero while menvcfg's are 0."""
    board = Board()
    board.write("henvcfg", -1)
    assert board.read("henvcfg") == 0xF0
    board.write("menvcfg", -1)
    board.write("henvcfg", -1)
    board.write("menvcfg", 1 << 62)
    assert board.read("henvcfg") == 1 << 62 | 0xF0


def test_vgein_up_to_geilen() -> None:
    """hstatus.VGEIN exists with guest external interrupts only, and refuses numbers beyond GEILEN."""
    from trapline.privilege.isa_string import set_masks

    board = Board()
    board.hart.geilen = 5
    set_masks(board.hart)
    board.write("hstatus", 5 << 12)
    board.write("hstatus", 6 << 12)
    assert board.read("hstatus") >> 12 & 63 == 5
    board.write("hgeie", -1)
    assert board.read("hgeie") == 0x3E

"""Interrupts: which is taken where, the views of mip and mie, timers."""

from __future__ import annotations

import pytest
from privilege_board import Board

from trapline.lang.control import EXIT_TIMER
from trapline.privilege import fields
from trapline.privilege.causes import INTERRUPT
from trapline.privilege.derived import update_derived
from trapline.privilege.interrupts import next_timer, update_timers
from trapline.privilege.isa_string import set_masks
from trapline.privilege.modes import TO_HS, TO_M, TO_VS
from trapline.privilege.trap import take_interrupt

ORDER = [11, 3, 7, 9, 1, 5, 12, 10, 2, 6, 13]
NEVER = (1 << 64) - 1


def due(board: Board) -> tuple[int, int] | None:
    """The interrupt that comes next: code and level."""
    update_derived(board.hart)
    h = board.hart
    return (int(h.irq_cause) - 1, int(h.irq_level)) if h.irq_cause != 0 else None


def enabled(mode: str = "VS") -> Board:
    """A board that delegates all it can and enables everything."""
    board = Board()
    for csr in ("mideleg", "hideleg", "mie"):
        board.write(csr, -1)
    board.write("mstatus", fields.MSTATUS_MIE | fields.MSTATUS_SIE)
    board.write("vsstatus", fields.MSTATUS_SIE)
    board.mode(mode)
    return board


def test_order_within_a_level() -> None:
    """MEI MSI MTI SEI SSI STI SGEI VSEI VSSI VSTI LCOFI, at one level."""
    board = Board()
    board.write("mie", -1)
    h = board.mode("U")
    h.mideleg = 0
    left = list(ORDER)
    while left:
        h.mip = sum(1 << code for code in left)
        assert due(board) == (left.pop(0), TO_M)


def test_levels_come_first() -> None:
    """Corner case 16: M before HS before VS, whatever the codes are."""
    board = enabled()
    board.write("mideleg", -1 & ~fields.SSIP)
    board.write("hvip", -1)
    board.hart.mip = fields.SSIP | fields.SEIP
    assert due(board) == (1, TO_M)
    board.hart.mip = fields.SEIP
    assert due(board) == (9, TO_HS)
    board.hart.mip = 0
    assert due(board) == (10, TO_VS)


@pytest.mark.parametrize(
    ("mode", "mie", "sie", "vs_sie", "levels"),
    [
        ("M", 0, 1, 1, ()),
        ("M", 1, 1, 1, (TO_M,)),
        ("HS", 0, 0, 1, (TO_M,)),
        ("HS", 0, 1, 1, (TO_M, TO_HS)),
        ("U", 0, 0, 0, (TO_M, TO_HS)),
        ("VS", 0, 0, 0, (TO_M, TO_HS)),
        ("VS", 0, 0, 1, (TO_M, TO_HS, TO_VS)),
        ("VU", 0, 0, 0, (TO_M, TO_HS, TO_VS)),
    ],
)
def test_enables(mode: str, mie: int, sie: int, vs_sie: int, levels: tuple[int, ...]) -> None:
    """A level's enable bit counts in its own mode alone; VS-level interrupts wait while V=0."""
    board = enabled(mode)
    board.write("mstatus", fields.MSTATUS_MIE * mie | fields.MSTATUS_SIE * sie)
    board.write("vsstatus", fields.MSTATUS_SIE * vs_sie)
    taken = []
    for level, mip, hvip in ((TO_M, fields.MSIP, 0), (TO_HS, fields.SSIP, 0), (TO_VS, 0, fields.VSSIP)):
        board.hart.mip, board.hart.hvip = mip, hvip
        found = due(board)
        if found is not None:
            assert found[1] == level
            taken.append(level)
    assert tuple(taken) == levels


def test_sgei_is_never_delegated_to_vs() -> None:
    """SGEI goes to HS: hideleg[12] is read-only zero."""
    board = enabled()
    h = board.hart
    h.geilen = 4
    set_masks(h)
    h.hgeip = 1 << 3
    board.write("hgeie", -1)
    assert due(board) == (12, TO_HS)


def test_vgein_selects_vseip() -> None:
    """The guest external interrupt that VGEIN selects is VSEIP, also when hgeie masks its SGEI."""
    board = enabled()
    h = board.hart
    h.geilen = 4
    set_masks(h)
    h.hgeip = 1 << 3
    board.write("hstatus", 3 << 12)
    assert board.read("hip") == fields.VSEIP
    assert due(board) == (10, TO_VS)
    board.write("hstatus", 2 << 12)
    assert board.read("hip") == 0


def test_take_interrupt_delivers_at_pc() -> None:
    """An interrupt is delivered before the instruction at pc, with the supervisor's number in VS-mode."""
    board = enabled()
    board.hart.pc = 0x8000_1000
    board.write("hvip", fields.VSTIP)
    take_interrupt(board.hart)
    assert board.read("vscause") == INTERRUPT | 5
    assert board.read("vsepc") == 0x8000_1000
    assert due(board) is None


# --- views (corner case 11) ---


def test_vs_views_are_shifted_and_masked() -> None:
    """Corner case 11: vsip and vsie show hip and hie one bit lower, where hideleg delegates."""
    board = Board()
    board.write("hideleg", fields.VSSIP | fields.VSEIP)
    board.write("hvip", -1)
    board.write("hie", -1)
    assert board.read("vsip") == fields.SSIP | fields.SEIP
    assert board.read("vsie") == fields.SSIP | fields.SEIP
    board.write("vsie", 0)
    assert board.read("hie") == fields.SGEIP | fields.VSTIP


def test_vs_software_interrupt_is_hvips() -> None:
    """Corner case 11: vsip.SSIP, hip.VSSIP, mip.VSSIP and hvip.VSSIP are one bit."""
    board = Board()
    board.write("vsip", fields.SSIP)
    assert board.read("hvip") == 0
    board.write("hideleg", -1)
    board.write("vsip", fields.SSIP)
    assert [board.read(c) & fields.VSSIP for c in ("hvip", "hip", "mip")] == [fields.VSSIP] * 3
    board.write("hip", 0)
    assert board.read("hvip") == 0
    board.write("mip", fields.VSSIP)
    assert board.read("vsip") == fields.SSIP


def test_supervisor_views_hide_the_vs_level() -> None:
    """sip and sie show what mideleg delegates, without VS-level and SGEI bits; hie has just those."""
    board = Board()
    board.write("mie", -1)
    board.hart.mip = fields.SSIP | fields.STIP
    board.write("hvip", -1)
    assert (board.read("sie"), board.read("sip")) == (0, 0)
    board.write("mideleg", fields.SSIP)
    assert (board.read("sie"), board.read("sip")) == (fields.SSIP, fields.SSIP)
    assert board.read("hie") == fields.HS_INTERRUPTS
    board.write("sip", 0)
    assert board.hart.mip == fields.STIP


def test_seip_of_software_and_device_are_ored() -> None:
    """Corner case 11: mip.SEIP is M's bit ORed with the device's line, and read-only in sip."""
    board = Board()
    board.write("mideleg", -1)
    board.write("sip", -1)
    assert not board.read("sip") & fields.SEIP
    board.write("mip", fields.SEIP)
    assert board.read("sip") & fields.SEIP
    board.hart.mip = board.hart.mip | fields.SEIP
    board.write("mip", 0)
    assert board.read("mip") & fields.SEIP
    board.hart.mip = 0
    assert not board.read("mip") & fields.SEIP


def test_set_bits_of_mip_does_not_latch_the_line() -> None:
    """Reading mip while the device drives SEIP and writing it back leaves no SEIP of software's own."""
    board = Board()
    board.hart.mip = fields.SEIP
    board.write("mip", board.read("mip") | fields.STIP)
    board.hart.mip = board.hart.mip & ~fields.SEIP
    assert board.read("mip") == fields.STIP


# --- timers (Sstc) ---


def sstc(ratio: int = 100) -> Board:
    """A board with both comparators on and time at 5 ticks."""
    board = Board()
    h = board.hart
    h.time_ratio, h.instret = ratio, 5 * ratio
    for csr in ("menvcfg", "henvcfg"):
        board.write(csr, fields.ENVCFG_STCE)
    for csr in ("stimecmp", "vstimecmp"):
        board.write(csr, NEVER)
    h.attention = 0
    return board


def test_stimecmp_drives_stip() -> None:
    """STIP is time >= stimecmp, exactly from the instruction at which time gets there, and not writable."""
    board = sstc()
    h = board.hart
    board.write("stimecmp", 7)
    assert int(next_timer(h)) == 700
    h.instret = 699
    assert not board.read("mip") & fields.STIP
    h.instret = 700
    assert board.read("mip") & fields.STIP
    board.write("mip", 0)
    assert board.read("mip") & fields.STIP
    board.write("stimecmp", 8)
    assert not board.read("mip") & fields.STIP


def test_vstimecmp_compares_with_guest_time() -> None:
    """Corner case 11: VSTIP is hvip's bit ORed with time + htimedelta >= vstimecmp under henvcfg.STCE."""
    board = sstc()
    board.write("htimedelta", -3)
    board.write("vstimecmp", 4)
    assert int(next_timer(board.hart)) == 700
    board.hart.instret = 700
    assert board.read("hip") == fields.VSTIP
    board.write("henvcfg", 0)
    assert board.read("hip") == 0
    board.write("hvip", fields.VSTIP)
    assert board.read("hip") == fields.VSTIP


def test_nearer_deadline_leaves_native_code() -> None:
    """Moving a comparator nearer asks for EXIT_TIMER; moving it away does not."""
    board = sstc()
    h = board.hart
    board.write("stimecmp", 50)
    assert (h.attention & 2, h.exit_reason) == (2, EXIT_TIMER)
    h.attention = 0
    board.write("stimecmp", 60)
    assert h.attention & 2 == 0


def test_far_deadlines_never_come() -> None:
    """A deadline beyond 64 bits of instructions is no deadline."""
    board = sstc()
    board.write("stimecmp", NEVER - 1)
    update_timers(board.hart)
    assert int(next_timer(board.hart)) == NEVER


def test_change_of_time_is_seen() -> None:
    """When the platform moves time, the comparators are looked at again."""
    board = sstc()
    board.write("stimecmp", 1000)
    board.hart.time_offset = 995
    update_derived(board.hart)
    assert board.read("mip") & fields.STIP


def test_without_stce_stip_is_software() -> None:
    """With menvcfg.STCE=0, STIP is a bit that M writes and stimecmp drives nothing."""
    board = Board()
    board.write("mip", fields.STIP)
    assert board.read("mip") == fields.STIP
    board.write("mip", 0)
    assert board.read("mip") == 0

"""Explicit accesses: the order of their faults, and the loads and stores on behalf of a guest."""

from __future__ import annotations

import pytest
from privilege_board import RAM, RWX, USER_RWX, A, Board, R, U, V, X

from trapline.lang.functions import Trap
from trapline.lang.values import U64
from trapline.privilege import fields
from trapline.privilege.memory import (
    amo_load,
    guest_load,
    guest_store,
    load,
    load_reserved,
    store,
    store_conditional,
)

VA, PA = 0x10_2000_3000, RAM + 0x5000
MODES = ("U", "HS", "M")


def guest(flags: int = RWX, g_flags: int = USER_RWX) -> Board:
    """HS-mode over a guest whose VA maps to PA."""
    board = Board()
    root, g_root = board.table(), board.table(4)
    board.write("vsatp", 8 << 60 | root >> 12)
    board.write("hgatp", 8 << 60 | g_root >> 12)
    board.map(root, 3, VA, 0x9000_0000, flags)
    board.map(g_root, 3, 0x9000_0000, PA, g_flags, widened=True)
    for page in range(RAM + 0x1F_0000, RAM + 0x20_0000, 4096):
        board.map(g_root, 3, page, page, USER_RWX, widened=True)
    board.mode("HS")
    return board


def raised(function: object, *args: object) -> Trap:
    """The trap of a call."""
    with pytest.raises(Trap) as info:
        function(*args)  # type: ignore[operator]
    return info.value


@pytest.mark.parametrize("mode", MODES)
def test_hlv_and_hsv_reach_the_guest(mode: str) -> None:
    """Corner case 8: HLV and HSV translate as V=1 whatever the hart's mode and TVM are."""
    board = guest()
    board.write("hstatus", fields.HSTATUS_SPVP | fields.HSTATUS_HU)
    board.write("mstatus", fields.MSTATUS_TVM | fields.MSTATUS_MPRV | fields.MSTATUS_MPP)
    board.mode(mode)
    guest_store(board.hart, U64(VA + 8), U64(8), U64(0x1122334455667788))
    assert board.read64(PA + 8) == 0x1122334455667788
    assert guest_load(board.hart, U64(VA + 12), U64(4), U64(0)) == 0x11223344


@pytest.mark.parametrize(("flags", "spvp", "cause"), [(USER_RWX, 1, 13), (USER_RWX, 0, 0), (RWX, 0, 13), (RWX, 1, 0)])
def test_hlv_runs_at_spvp(flags: int, spvp: int, cause: int) -> None:
    """Corner case 8: the privilege of HLV is hstatus.SPVP; faults report GVA=1."""
    board = guest(flags)
    board.write("hstatus", fields.HSTATUS_SPVP * spvp)
    board.write("mstatus", fields.MSTATUS_SUM)
    if cause == 0:
        guest_load(board.hart, U64(VA), U64(8), U64(0))
    else:
        trap = raised(guest_load, board.hart, U64(VA), U64(8), U64(0))
        assert (trap.cause, trap.tval, trap.gva) == (cause, VA, 1)


def test_hsv_guest_page_fault() -> None:
    """Corner case 8: HSV to a page that G-stage maps read-only is a store guest-page fault with the GPA."""
    board = guest(g_flags=V | R | U | A)
    board.write("hstatus", fields.HSTATUS_SPVP)
    trap = raised(guest_store, board.hart, U64(VA + 4), U64(4), U64(0))
    assert (trap.cause, trap.tval, trap.tval2, trap.gva) == (23, VA + 4, 0x9000_0004 >> 2, 1)


def test_hlvx_needs_read_and_execute_of_pmp() -> None:
    """Corner case 7: HLVX reads execute-only pages, but PMP must permit both read and execute."""
    board = guest(V | X | A, V | X | U | A)
    board.write("hstatus", fields.HSTATUS_SPVP)
    board.write64(PA, 0xFFFF_FFFF)
    assert guest_load(board.hart, U64(VA), U64(4), U64(1)) == 0xFFFF_FFFF
    board.write("pmpaddr0", PA >> 2 | 0x1FF)
    board.write("pmpaddr1", -1)
    for rights, works in ((5, True), (1, False), (4, False)):
        board.write("pmpcfg0", 0x1F << 8 | 0x18 | rights)
        if works:
            guest_load(board.hart, U64(VA), U64(4), U64(1))
        else:
            assert raised(guest_load, board.hart, U64(VA), U64(4), U64(1)).cause == 5


def test_misaligned_comes_before_translation() -> None:
    """Corner case 2: where misaligned accesses trap, they do so before any fault of translation."""
    board = guest()
    board.mode("VS")
    for va in (VA + 1, 0x1001):
        assert raised(load, board.hart, U64(va), U64(4)).cause == 4
        assert raised(store, board.hart, U64(va), U64(4), U64(0)).cause == 6


def test_misaligned_in_hardware_splits_at_the_page() -> None:
    """Where the hart splits them (corner case 2), a fault on the second page reports that page; nothing is written."""
    board = guest()
    board.hart.misaligned_hardware = 1
    board.mode("VS")
    store(board.hart, U64(VA + 1), U64(8), U64(0x0102030405060708))
    assert load(board.hart, U64(VA + 1), U64(8)) == 0x0102030405060708
    trap = raised(store, board.hart, U64(VA + 4094), U64(4), U64(-1))
    assert (trap.cause, trap.tval, trap.gva) == (15, VA + 4096, 1)
    assert board.read64(PA + 4088) == 0


@pytest.mark.parametrize(("hardware", "causes"), [(0, (4, 6, 6)), (1, (5, 7, 7))])
def test_misaligned_atomics(hardware: int, causes: tuple[int, ...]) -> None:
    """Corner case 2: misaligned LR is 4, SC and AMO 6; where the hart splits plain accesses they are 5 and 7."""
    board = guest()
    board.hart.misaligned_hardware = hardware
    board.mode("VS")
    h, va, size = board.hart, U64(VA + 2), U64(4)
    got = [
        raised(load_reserved, h, va, size).cause,
        raised(store_conditional, h, va, size, U64(0)).cause,
        raised(amo_load, h, va, size).cause,
    ]
    assert tuple(got) == causes


def test_store_conditional_faults_without_a_reservation() -> None:
    """An SC that would fail anyway still raises its store page fault."""
    board = guest(V | R | A)
    board.mode("VS")
    assert raised(store_conditional, board.hart, U64(VA), U64(8), U64(0)).cause == 15
    assert raised(amo_load, board.hart, U64(VA), U64(8)).cause == 15


def test_mprv_accesses_as_the_guest() -> None:
    """Corner case 8: loads under MPRV with MPV=1 act as VS or VU, and their faults at V=0 have GVA=1."""
    board = guest(USER_RWX)
    board.mode("M")
    board.write("mstatus", fields.MSTATUS_MPRV | fields.MSTATUS_MPV)
    load(board.hart, U64(VA), U64(8))
    board.write("mstatus", fields.MSTATUS_MPRV | fields.MSTATUS_MPV | 1 << 11)
    trap = raised(load, board.hart, U64(VA), U64(8))
    assert (trap.cause, trap.gva) == (13, 1)
    board.write("mstatus", fields.MSTATUS_MPRV | fields.MSTATUS_MPV | 3 << 11)
    assert raised(load, board.hart, U64(VA), U64(8)).cause == 5


def test_change_of_paging_mode_takes_effect_at_once() -> None:
    """Corner case 12: between Bare and a paged mode no fence is needed."""
    board = guest()
    board.mode("VS")
    load(board.hart, U64(VA), U64(8))
    board.write("vsatp", 0)
    assert raised(load, board.hart, U64(VA), U64(8)).cause == 21

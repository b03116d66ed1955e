"""Programmable counters: what they count, in which modes, and their overflow."""

from __future__ import annotations

import pytest
from privilege_board import RAM, RWX, Board

from trapline.lang.values import U64
from trapline.privilege import fields, hpm
from trapline.privilege.causes import IRQ_LCOFI
from trapline.privilege.derived import update_derived
from trapline.privilege.memory import fetch_parcel, load, store
from trapline.privilege.trap import take_trap

INHIBIT = {"M": 1 << 62, "HS": 1 << 61, "U": 1 << 60, "VS": 1 << 59, "VU": 1 << 58}
MODES = ("M", "HS", "U", "VS", "VU")


def retire(board: Board, count: int) -> None:
    """As an engine does: instructions pass, and it looks again where the counters have asked for it."""
    h = board.hart
    h.instret = h.instret + count
    if h.instret >= h.hpm_due:
        update_derived(h)


def enter(board: Board, mode: str) -> None:
    """Change the mode, accounting what has retired in the old one."""
    h = board.hart
    index = int(h.priv) | int(h.virt) << 2
    now = h.instret - h.not_retired
    h.mode_instret[index] = h.mode_instret[index] + (now - h.mode_since)
    h.mode_since = now
    board.mode(mode)


@pytest.mark.parametrize("event", [1, 2])
def test_cycles_and_instructions(event: int) -> None:
    """Both events count what retires, from the value that the counter has; no event counts nothing."""
    board = Board()
    board.write("mhpmcounter3", 1000)
    retire(board, 5)
    assert board.read("mhpmcounter3") == 1000
    board.write("mhpmevent3", event)
    retire(board, 5)
    assert (board.read("mhpmcounter3"), board.read("hpmcounter3")) == (1005, 1005)
    board.write("mhpmevent3", 0)
    retire(board, 5)
    assert board.read("mhpmcounter3") == 1005


def test_attempts_that_trap_are_not_counted() -> None:
    """An instruction that traps has not retired."""
    board = Board()
    board.write("mhpmevent3", 2)
    board.hart.not_retired = 3
    retire(board, 10)
    assert board.read("mhpmcounter3") == 7


@pytest.mark.parametrize("inhibited", MODES)
def test_filters(inhibited: str) -> None:
    """MINH, SINH, UINH, VSINH and VUINH keep a counter from what retires in their mode, to the instruction."""
    board = Board()
    board.write("mhpmevent3", INHIBIT[inhibited] | 2)
    board.write("mhpmevent4", sum(INHIBIT.values()) & ~INHIBIT[inhibited] | 2)
    for number, mode in enumerate(MODES):
        enter(board, mode)
        retire(board, 10**number)
    own = 10 ** MODES.index(inhibited)
    assert board.read("mhpmcounter4") == own
    assert board.read("mhpmcounter3") == 11111 - own


def test_inhibited_counter_stands_still() -> None:
    """mcountinhibit stops a counter, which goes on from where it stood."""
    board = Board()
    board.write("mhpmevent31", 2)
    retire(board, 10)
    board.write("mcountinhibit", 1 << 31)
    retire(board, 20)
    assert board.read("mhpmcounter31") == 10
    board.write("mcountinhibit", 0)
    retire(board, 5)
    assert board.read("mhpmcounter31") == 15


def test_written_counter_is_what_the_next_instruction_reads() -> None:
    """A write takes the place of the writing instruction's own increment, where its mode counts."""
    board = Board()
    board.write("mhpmevent3", 2)
    board.write("mhpmevent4", INHIBIT["M"] | 2)
    for name in ("mhpmcounter3", "mhpmcounter4"):
        board.write(name, 1000)
    retire(board, 1)
    assert board.read("mhpmcounter3") == 1000
    assert board.read("mhpmcounter4") == 1000


@pytest.mark.parametrize("filters", [0, INHIBIT["M"], INHIBIT["M"] | INHIBIT["U"]])
@pytest.mark.parametrize("left", [1, 100, 3 * hpm.NEAR])
def test_overflow(left: int, filters: int) -> None:
    """A counter that wraps sets OF and LCOFIP, not one instruction earlier, whatever its filters; then it goes on."""
    board = Board()
    enter(board, "HS")
    board.write("mhpmevent3", filters | 2)
    board.write("mhpmcounter3", -left)
    retire(board, 1)  # the write itself
    passed = 0
    while passed < left - 1:
        step = min(left - 1 - passed, int(board.hart.hpm_due) - int(board.hart.instret))
        retire(board, step)
        passed += step
    assert board.read("mhpmevent3") >> 63 == 0
    assert board.read("mip") & fields.LCOFIP == 0
    retire(board, 1)
    assert board.read("mhpmevent3") == 1 << 63 | filters | 2
    assert board.read("mip") & fields.LCOFIP
    assert board.read("mhpmcounter3") == 0
    retire(board, 7)
    assert board.read("mhpmcounter3") == 7


def test_overflow_interrupt_comes_once() -> None:
    """While OF is set another overflow raises nothing; software clears OF for the next."""
    board = Board()
    board.write("mhpmevent3", 1 << 63 | 2)
    board.write("mhpmcounter3", -5)
    retire(board, 20)
    assert board.read("mip") & fields.LCOFIP == 0
    board.write("mhpmevent3", 2)
    board.write("mhpmcounter3", -5)
    board.write("mie", fields.LCOFIP)
    board.write("mstatus", fields.MSTATUS_MIE)
    retire(board, 6)
    assert board.hart.irq_cause == IRQ_LCOFI + 1
    board.write("mip", 0)
    assert board.hart.irq_cause == 0


def test_a_counter_of_another_mode_waits_for_that_mode() -> None:
    """Close to its overflow, a filtered counter does not make the hart look in modes that it does not count."""
    board = Board()
    board.write("mhpmevent3", INHIBIT["M"] | 2)
    board.write("mhpmcounter3", -3)
    assert (int(board.hart.hpm_due), int(board.hart.hpm_near)) == (fields.ALL_ONES, 1)
    enter(board, "HS")
    assert board.hart.hpm_due == board.hart.instret + 3


def test_without_sscofpmf_nothing_overflows() -> None:
    """Zihpm alone: counters count and wrap, and there is no OF."""
    board = Board("rv64gc_zihpm")
    board.write("mhpmevent3", -1)
    assert board.read("mhpmevent3") == hpm.EVENT_MASK
    board.write("mhpmevent3", 2)
    board.write("mhpmcounter3", -1)
    retire(board, 3)
    assert board.read("mhpmcounter3") == 1
    assert board.read("mhpmevent3") == 2


def test_without_zihpm_counters_are_zero() -> None:
    """No programmable counter: mhpmcounter and mhpmevent are read-only zero."""
    board = Board("rv64gc")
    for csr in ("mhpmcounter3", "mhpmevent3"):
        board.write(csr, -1)
        assert board.read(csr) == 0


@pytest.mark.parametrize(("kinds", "expected"), [(1, 2), (2, 1), (3, 3)])
def test_traps(kinds: int, expected: int) -> None:
    """Bit 0 of the event counts exceptions, bit 1 interrupts, in the mode that they are taken from."""
    board = Board()
    board.write("mhpmevent3", 0x20000 | kinds)
    board.write("mhpmevent4", INHIBIT["HS"] | 0x20000 | kinds)
    for cause in (2, 13, 1 << 63 | 5):
        enter(board, "HS")
        take_trap(board.hart, U64(cause), U64(0), U64(0), U64(0), U64(0), U64(0))
    assert board.read("mhpmcounter3") == expected
    assert board.read("mhpmcounter4") == 0
    board.write("mhpmevent3", 0)
    assert board.hart.hpm_traps == 1
    board.write("mhpmevent4", 0)
    assert board.hart.hpm_traps == 0


def paged() -> Board:
    """A board in HS-mode with some pages under Sv39 and counters of the TLB's misses."""
    board = Board()
    root = board.table()
    for page in range(4):
        board.map(root, 3, 0x4000_0000 + page * 4096, RAM + page * 4096, RWX)
    board.map(root, 3, 0x4000_0000 + 4096 * 512, RAM, RWX)
    board.write("satp", 8 << 60 | root >> 12)
    for number, event in ((3, 0x10019), (4, 0x1001B), (5, 0x10021)):
        board.write(f"mhpmevent{number}", event)
    enter(board, "HS")
    return board


def misses(board: Board) -> tuple[int, int, int]:
    """Of loads, stores and fetches."""
    return board.read("mhpmcounter3"), board.read("mhpmcounter4"), board.read("mhpmcounter5")


def test_misses_of_the_tlb() -> None:
    """A page misses once for data and once for fetches, whoever is first; another page in its place ousts it."""
    board = paged()
    h, at = board.hart, 0x4000_0000
    for _ in range(3):
        load(h, U64(at), U64(8))
        store(h, U64(at + 8), U64(8), U64(1))
    assert misses(board) == (1, 0, 0)
    store(h, U64(at + 4096), U64(8), U64(1))
    load(h, U64(at + 4096), U64(8))
    fetch_parcel(h, U64(at))
    fetch_parcel(h, U64(at + 2))
    assert misses(board) == (1, 1, 1)
    load(h, U64(at + 4096 * 512), U64(8))
    load(h, U64(at), U64(8))
    assert misses(board) == (3, 1, 1)


def test_m_mode_misses_nothing() -> None:
    """Where nothing is translated there is no TLB."""
    board = paged()
    enter(board, "M")
    load(board.hart, U64(RAM), U64(8))
    fetch_parcel(board.hart, U64(RAM))
    assert misses(board) == (0, 0, 0)

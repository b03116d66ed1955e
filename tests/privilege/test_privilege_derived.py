"""What is derived is never stale."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from privilege_board import Board

from trapline.engine.forms import form_of
from trapline.engine.settled import settled
from trapline.engine.tlb import describe_context
from trapline.lang.state.words import LAYOUT
from trapline.lang.values import U64
from trapline.privilege import fields
from trapline.privilege.csr import csr_exists
from trapline.privilege.csr_numbers import CSR_BY_NAME, CSR_NAMES
from trapline.privilege.csr_table import ROWS
from trapline.privilege.derived import follow_time, update_derived
from trapline.privilege.interrupts import update_timers
from trapline.privilege.isa_string import DEFAULT_ISA
from trapline.privilege.protection import update_pmp
from trapline.privilege.returns import mret, sret
from trapline.privilege.trap import destination, trap_into

WORDS = (
    *("fp_ready", "fp_clean", "data_priv", "data_virt", "irq_cause", "ctx_now", "unsettled", "timer_due", "pmp_active"),
    *("stimer_at", "vstimer_at"),
)
ARRAYS = ("ctx_base", "pmp_low", "pmp_high")
CAUSES = [0, 2, 3, 5, 8, 12, 13, 15, 20, 21, 22, 23, 1 << 63 | 1, 1 << 63 | 10, 1 << 63 | 11]

VALUES = st.integers(0, (1 << 64) - 1) | st.integers(0, 63).map(lambda n: 1 << n) | st.sampled_from([0, (1 << 64) - 1])
STEPS = st.lists(
    st.tuples(st.sampled_from(sorted(CSR_NAMES)), VALUES)
    | st.tuples(st.just("trap"), st.sampled_from(CAUSES))
    | st.tuples(st.sampled_from(["mret", "sret"]), st.just(0)),
    max_size=12,
)


def derived(board: Board) -> dict[str, list[int]]:
    h = board.hart
    found = {name: [int(getattr(h, name))] for name in WORDS}
    if found["irq_cause"] != [0]:
        found["irq_level"] = [int(h.irq_level)]
    return found | {name: [int(getattr(h, name)[i]) for i in range(len(getattr(h, name)))] for name in ARRAYS}


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_stored_equals_recomputed(steps: list[tuple[int | str, int]]) -> None:
    """After any CSR write, trap or return, what is derived equals a recomputation from scratch."""
    check_steps(Board(), steps)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_stored_equals_recomputed_with_imsic(steps: list[tuple[int | str, int]]) -> None:
    """The same with Smaia and an IMSIC."""
    check_steps(Board(f"{DEFAULT_ISA}_smaia", 3), steps)


def check_steps(board: Board, steps: list[tuple[int | str, int]]) -> None:
    """Each step by the compiler's form, on a hart that is settled or not, and by the specification beside it."""
    plain = Board(board.isa, board.guests)
    for step, value in steps:
        take_step(board, step, value, form_of)
        take_step(plain, step, value, lambda function: function)
        assert words_of(board) == words_of(plain), step
        stored = derived(board)
        update_pmp(board.hart)
        update_timers(board.hart)
        update_derived(board.hart)
        assert derived(board) == stored


def take_step(board: Board, step: int | str, value: int, chosen: Callable[[Any], Any]) -> None:
    h = board.hart
    if step == "trap":
        to = destination(h, U64(value & 63), U64(value >> 63))
        chosen(trap_into)(h, to, U64(value), U64(0x1000), U64(0), U64(0), U64(0), U64(0))
    elif step in ("mret", "sret"):
        chosen({"mret": mret, "sret": sret}[str(step)])(h)
    elif csr_exists(h, U64(int(step))):
        row = ROWS[int(step)]
        if row.derives is not None:
            chosen(row.write)(h, U64(value))
        else:
            board.write(row.name, value)


def words_of(board: Board) -> dict[str, list[int]]:
    """Every word but what says that the mode must be looked at again, and what is known of each hart's memory."""
    apart = ("attention", "region_host")
    mem = board.hart.mem
    return {f.name: list(mem[f.index : f.index + f.count]) for f in LAYOUT.fields.values() if f.name not in apart}


@settings(max_examples=100, deadline=None)
@given(
    *[st.integers(0, 60)] * 2,
    st.integers(0, 0x3FFF),
    st.lists(st.tuples(st.integers(0, 25), st.booleans()), max_size=8),
)
def test_time_that_moves_leaves_nothing_stale(own: int, guest: int, mie: int, moves: list[tuple[int, bool]]) -> None:
    """However time moves, a hart that is settled has nothing derived that a recomputation would change."""
    board = timed_board(own, guest)
    h = board.hart
    board.write("mie", mie)
    for ticks, again in moves:
        h.time_offset = h.time_offset + ticks
        follow_time(h)
        if again or settled(h):
            was_settled = settled(h)
            stored = derived(board)
            update_timers(h)
            update_derived(h)
            assert not was_settled or derived(board) == stored


def test_time_short_of_a_deadline_leaves_a_hart_settled() -> None:
    """Time that moves, but reaches no comparator, gives a settled hart nothing to derive; at the comparator it does."""
    board = timed_board(50, 40)
    h = board.hart
    seen = []
    for _ in range(4):
        h.time_offset = h.time_offset + 10
        follow_time(h)
        seen.append(settled(h))
    assert seen == [True, True, True, False]


def test_a_timer_that_has_come_stays_when_time_moves() -> None:
    """A comparator that was reached long ago is pending still, and the other's deadline comes nearer."""
    board = timed_board(0, 40)
    h = board.hart
    h.time_offset = h.time_offset + 10
    follow_time(h)
    assert (int(h.stimer_at), int(h.vstimer_at), int(h.timer_due)) == (0, *[30 * int(h.time_ratio)] * 2)


def timed_board(own: int, guest: int) -> Board:
    """Return a board with both comparators of Sstc on, set to these times."""
    board = Board()
    board.write("menvcfg", fields.ENVCFG_STCE)
    board.write("henvcfg", fields.ENVCFG_STCE)
    board.write("stimecmp", own)
    board.write("vstimecmp", guest)
    return board


def test_only_what_translation_uses_changes_the_context() -> None:
    """A translation set belongs to the registers that the mode's translation depends on, and to no others."""
    board = Board()

    def context() -> list[int]:
        describe_context(board.hart)
        return [int(board.hart.ctx_wanted[i]) for i in range(4)]

    def changes(csr: str, value: int, mode: str) -> bool:
        board.mode(mode)
        before = context()
        old = board.read(csr)
        board.write(csr, old ^ value)
        after = context()
        board.write(csr, old)
        return before != after

    pbmte, adue = fields.ENVCFG_PBMTE, fields.ENVCFG_ADUE
    expected = {
        ("satp", 8 << 60, "M"): False,
        ("satp", 8 << 60, "HS"): True,
        ("satp", 1 << 44, "U"): True,
        ("satp", 8 << 60, "VS"): False,
        ("vsatp", 8 << 60, "HS"): False,
        ("vsatp", 8 << 60, "VU"): True,
        ("hgatp", 1 << 44, "VS"): True,
        ("hgatp", 1 << 44, "HS"): False,
        ("mstatus", fields.MSTATUS_SUM, "HS"): True,
        ("mstatus", fields.MSTATUS_SUM, "VS"): False,
        ("mstatus", fields.MSTATUS_SUM, "U"): False,
        ("mstatus", fields.MSTATUS_MXR, "VS"): True,
        ("mstatus", fields.MSTATUS_SIE, "HS"): False,
        ("vsstatus", fields.MSTATUS_SUM, "VS"): True,
        ("vsstatus", fields.MSTATUS_MXR, "VU"): True,
        ("vsstatus", fields.MSTATUS_MXR, "HS"): False,
        ("menvcfg", pbmte, "HS"): True,
        ("menvcfg", adue, "VS"): True,
        ("menvcfg", pbmte, "M"): False,
        ("mstatus", fields.MSTATUS_MPRV, "M"): True,
    }
    assert {case: changes(*case) for case in expected} == expected


def test_mprv_translates_data_only() -> None:
    """Corner case 8: MPRV makes loads and stores run at MPP and MPV; MPV does not count when MPP is M."""
    board = Board()
    h = board.hart
    for mpp, mpv, data in ((0, 0, (0, 0)), (1, 1, (1, 1)), (0, 1, (0, 1)), (3, 1, (3, 0))):
        board.write("mstatus", fields.MSTATUS_MPRV | mpp << 11 | mpv << 39)
        assert (h.data_priv, h.data_virt) == data
    assert len(CSR_BY_NAME) == len(CSR_NAMES)

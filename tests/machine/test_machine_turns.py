"""The order of the harts' turns: the same under both engines, from run to run, and however a run is cut."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise

from test_machine_run import BASE, machine

from trapline.machine.machine import Machine
from trapline.session.schedule import Stride

HARTS = 3
LOG, LOG_BYTES = BASE + 0x4000, 0x2000

# Each hart notes its number and the low half of its time in a common log, sets its timer, asks the next hart for
# attention, and waits for an interrupt; it works for as long as its number says in between.
PROGRAM = f"""
    csrr s0, mhartid
    la t0, 9f
    csrw mtvec, t0
    li t0, 0x88
    csrw mie, t0
    li s1, {LOG}
    li s2, 0x2000000
    slli t0, s0, 2
    add s3, s2, t0
    addi t1, s0, 1
    li t2, {HARTS}
    blt t1, t2, 1f
    li t1, 0
1:  slli t1, t1, 2
    add s4, s2, t1
    slli t0, s0, 3
    li t1, 0x2004000
    add s5, t1, t0
    li s6, 0
2:  li t0, 1
    amoadd.w t1, t0, (s1)
    li t2, 500
    bge t1, t2, 8f
    slli t1, t1, 3
    add t1, t1, s1
    sw s0, 8(t1)
    csrr t2, time
    sw t2, 12(t1)
    addi t2, t2, 40
    slli t3, s0, 6
    add t2, t2, t3
    sd t2, 0(s5)
    li t0, 1
    sw t0, 0(s4)
    slli t0, s0, 5
    addi t0, t0, 40
3:  addi t0, t0, -1
    bnez t0, 3b
    wfi
    sw zero, 0(s3)
    addi s6, s6, 1
    andi t0, s6, 7
    bnez t0, 2b
    csrsi mstatus, 8
    csrci mstatus, 8
    j 2b
8:  wfi
    j 8b
9:  sw zero, 0(s3)
    li t0, -1
    sd t0, 0(s5)
    mret
"""


def _state(board: Machine) -> tuple[bytes, list[tuple[int, int, int]]]:
    log = board.regions.read(LOG, LOG_BYTES)
    return bytes(log), [(int(h.instret), int(h.pc), int(h.time_offset)) for h in board.harts]


def _ran(engine: str, *cuts: int) -> tuple[bytes, list[tuple[int, int, int]]]:
    board = machine(PROGRAM, engine, harts=HARTS)
    for cut in cuts:
        board.run(cut)
    return _state(board)


def test_both_engines_take_the_same_turns() -> None:
    """Harts that wake each other by timers and IPIs write the same log, at the same times, under both engines."""
    reference, native = _ran("reference", 24_000), _ran("native", 24_000)
    assert reference == native
    assert len({native[0][8 + 8 * n] for n in range(60)}) == HARTS


def test_the_turns_are_the_same_however_a_run_is_cut() -> None:
    """A run in many parts, and another run, end where the first did."""
    whole = _ran("native", 900_000)
    assert _ran("native", 900_000) == whole
    assert _ran("native", *[7_919] * 113, 900_000 - 113 * 7_919) == whole


# Each hart waits for its timer, again and again, and counts.
SLEEPS = """
    csrr s0, mhartid
    li t0, 0x80
    csrw mie, t0
    slli t0, s0, 3
    li t1, 0x2004000
    add s1, t1, t0
1:  csrr t0, time
    addi t0, t0, 700
    slli t1, s0, 5
    add t0, t0, t1
    sd t0, 0(s1)
    wfi
    addi s2, s2, 1
    j 1b
"""


def _counting(skip_to: Callable[[int], None], skipped: list[int]) -> Callable[[int], None]:
    """Return what passes the time of a board, noting the ticks."""

    def noted(tick: int) -> None:
        skipped.append(tick)
        skip_to(tick)

    return noted


def test_a_board_whose_harts_all_sleep_passes_the_time_without_python() -> None:
    """Where nobody can type, sleeping harts reach their timers in native code, at the ticks at which Python would."""
    states: list[tuple[object, list[int]]] = []
    skips: list[int] = []
    for on_round in (None, lambda: None):
        board = machine(SLEEPS, "native", harts=HARTS)
        board.on_round = on_round
        skipped: list[int] = []
        board.schedule.skip_to = _counting(board.schedule.skip_to, skipped)  # type: ignore[method-assign]
        board.run(60_000)
        states.append((_state(board), [int(h.x[18]) for h in board.harts]))
        skips.append(len(skipped))
    assert skips[0] * 20 < skips[1]
    assert states[0] == states[1]
    assert min(states[0][1]) > 1_000


def test_a_stall_gives_the_turn_away_under_both_engines() -> None:
    """wrs.sto and an untrapped wrs.nto with a reservation end the hart's turn, in native code as in the reference."""
    program = PROGRAM.replace(
        "    wfi\n    sw zero",
        "    lr.w t1, (s1)\n    wrs.sto\n    addi s7, s7, 1\n    lr.w t1, (s1)\n    wrs.nto\n    wfi\n    sw zero",
    )
    assert program != PROGRAM
    states = []
    for engine in ("reference", "native"):
        board = machine(program, engine, harts=HARTS)
        board.run(12_000)
        states.append(_state(board))
    assert states[0] == states[1]


def _of_length(stride: int) -> tuple[int, tuple[bytes, list[tuple[int, int, int]]]]:
    """How often Python looks at a run whose strides are so long, and what it comes to."""
    board, looks = machine(PROGRAM, "native", harts=HARTS), []
    look, board._stride.fit = board._look_outside, lambda seconds: None  # type: ignore[method-assign]
    board._stride.times = stride
    board._look_outside = lambda: (looks.append(1), look())[1]  # type: ignore[func-returns-value,method-assign]
    board.run(9_000_000)
    return len(looks), _state(board)


def test_longer_strides_change_nothing_but_how_often_python_looks() -> None:
    """Rounds that are taken sixteen at a time end where single ones do; somebody who looks on has single ones."""
    (often, single), (seldom, together) = _of_length(1), _of_length(16)
    assert single == together
    assert seldom < often

    watched, seen = machine("1: j 1b\n", "native"), []
    watched._stride.times = 16
    watched.on_round = lambda: seen.append(int(watched.harts[0].instret))
    watched.run(20_000_000)
    assert max(after - before for before, after in pairwise(seen)) <= watched.engine.turn


def test_a_stride_is_fitted_to_a_few_milliseconds() -> None:
    """Strides become longer where they take a moment, up to a bound, and shorter where they take long."""
    stride, lengths = Stride(), []
    for seconds in [0.001] * 6 + [0.008] * 2 + [0.1] * 6:
        stride.fit(seconds)
        lengths.append(stride.times)
    assert lengths == [2, 4, 8, 16, 16, 16, 16, 16, 8, 4, 2, 1, 1, 1]


class _Slow:
    """A device that takes its time."""

    def load(self, hart: object, offset: int, size: int) -> int:
        """Answer after a while."""
        time.sleep(0.0001)
        return 0

    def store(self, hart: object, offset: int, size: int, value: int) -> None:
        """Take anything."""


def test_a_slow_device_ends_a_long_stride() -> None:
    """A run that polls a slow device ends when its time is over, however long its strides had become."""
    board = machine("lui t0, 0x40000\n1: lw t1, 0(t0)\nj 1b\n", "native")
    board.add_device("slow", 0x4000_0000, 0x1000, _Slow())
    board._stride.times = 16
    began = time.monotonic()
    assert board.run(max_seconds=0.2).reason == "limit"
    assert time.monotonic() - began < 5

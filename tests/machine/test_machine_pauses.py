"""A hart that pauses lets time pass and others run (Zihintpause)."""

from __future__ import annotations

import pytest
from test_machine_run import machine
from test_machine_turns import _state

from trapline.machine.machine import Machine
from trapline.privilege.passing import PAUSE_COST, PAUSES

# Hart 0 works and then writes a word that hart 1 waits for.
SPINS = """
    csrr s0, mhartid
    la s1, flag
    bnez s0, 2f
    li t0, {rounds}
1:  addi t0, t0, -1
    bnez t0, 1b
    sw t0, 4(s1)
    li t0, 1
    sw t0, 0(s1)
    j 3f
2:  {hint}
    lw t1, 0(s1)
    beqz t1, 2b
3:  wfi
    j 3b
.align 3
flag: .dword 0
"""
# A hart waits for a tick of its clock.
DELAY = """
    csrr t0, time
    addi t0, t0, 1000
1:  {hint}
    csrr t1, time
    bltu t1, t0, 1b
2:  wfi
    j 2b
"""
COUNT = """
    li t0, {count}
1:  pause
    addi t0, t0, -1
    bnez t0, 1b
    csrr s1, time
2:  wfi
    j 2b
"""


def ran(source: str, engine: str, *cuts: int, harts: int = 2) -> Machine:
    """A board that has run."""
    board = machine(source, engine, harts=harts)
    for cut in cuts:
        board.run(cut)
    return board


def test_one_that_spins_gives_its_turns_away() -> None:
    """A hart that waits with pause for one that works makes a fourth of its attempts at most; without, as many."""
    spent = {}
    for hint in ("pause", "nop"):
        board = ran(SPINS.format(hint=hint, rounds=1_000_000), "native", 10_000_000)
        spent[hint] = [int(hart.instret) for hart in board.harts]
    assert 4 * spent["pause"][1] < spent["pause"][0]
    assert spent["nop"][1] > 0.9 * spent["nop"][0]
    assert spent["pause"][0] == pytest.approx(spent["nop"][0], rel=0.01)


@pytest.mark.parametrize("harts", [1, 2, 3])
def test_a_delay_is_not_executed(harts: int) -> None:
    """A hart that waits for 1000 ticks with pause makes few of the attempts that they would last, alone or not."""
    for engine in ("reference", "native"):
        board = ran(DELAY.format(hint="pause"), engine, 100_000, harts=harts)
        for hart in board.harts:
            assert 4 * int(hart.instret) < 1000 * int(hart.time_ratio)
            assert int(hart.x[6]) >= int(hart.x[5]) >= 1000


@pytest.mark.parametrize("engine", ["reference", "native"])
@pytest.mark.parametrize("count", [1, PAUSES - 1, PAUSES, 2 * PAUSES - 1, 2 * PAUSES, 1000])
def test_pauses_take_time_together(count: int, engine: str) -> None:
    """Time passes with every 64th pause, as for 6400 instructions, and with no other."""
    board = ran(COUNT.format(count=count), engine, 100_000, harts=1)
    hart = board.harts[0]
    executed = 3 * count + 1  # what came before the read
    ticks = executed // int(hart.time_ratio) + count // PAUSES * PAUSES * PAUSE_COST // int(hart.time_ratio)
    assert abs(int(hart.x[9]) - ticks) <= 1
    assert int(hart.pauses) == count % PAUSES


def test_the_turns_are_the_same_under_both_engines_and_however_a_run_is_cut() -> None:
    """Harts that spin on each other end with the same clocks, registers and memory."""
    source = SPINS.format(hint="pause", rounds=50_000)
    whole = ran(source, "native", 90_000, harts=3)
    assert min(int(hart.instret) for hart in whole.harts) > 10 * PAUSES
    assert _state(ran(source, "reference", 90_000, harts=3)) == _state(whole)
    assert _state(ran(source, "native", *[997] * 90, 90_000 - 997 * 90, harts=3)) == _state(whole)

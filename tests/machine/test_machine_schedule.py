"""The deterministic schedule, with an engine that only counts."""

from __future__ import annotations

from machine_fakes import FakeEngine, FakeHart

from trapline.lang.control import EXIT_STOP, EXIT_WFI
from trapline.machine.clint import time_of
from trapline.machine.schedule import QUANTUM, Schedule


class FakeBoard:
    """Deadlines and wake-ups by table."""

    def __init__(self, harts: list[FakeHart]) -> None:
        self.harts = harts
        self.at: dict[int, list[int]] = {}
        self.due: set[int] = set()
        self.handled: list[tuple[int, int]] = []

    def tick(self, index: int) -> None:
        """Note deadlines that have passed."""
        if any(t <= time_of(self.harts[index]) for t in self.at.get(index, [])):
            self.due.add(index)

    def deadline(self, index: int) -> int | None:
        """The next one in the table."""
        return min((t for t in self.at.get(index, []) if t > time_of(self.harts[index])), default=None)

    def wakes(self, index: int) -> bool:
        """A passed deadline wakes."""
        return index in self.due

    def handle(self, index: int, reason: int) -> None:
        """Remember it."""
        self.handled.append((index, reason))


def _setup(count: int, slice_instructions: int = 10_000) -> tuple[Schedule, FakeBoard, FakeEngine]:
    harts = [FakeHart() for _ in range(count)]
    board, engine = FakeBoard(harts), FakeEngine()
    return Schedule(harts, engine, board, slice_instructions), board, engine


def test_a_slice_ends_exactly_at_the_deadline() -> None:
    """The engine runs to the very instruction at which the timer is due, whatever the phase."""
    schedule, board, engine = _setup(1)
    schedule.harts[0].instret = 37
    board.at = {0: [25]}
    schedule.round(None)
    assert engine.turns == [(37, 2500), (2500, 10_000)]


def test_harts_take_equal_turns() -> None:
    """Several harts run the same number of ticks a round."""
    schedule, _, engine = _setup(2)
    assert schedule.round(None) == 2 * QUANTUM
    assert time_of(schedule.harts[0]) == time_of(schedule.harts[1])
    assert engine.turns[0][0] == 0


def test_a_budget_is_exact() -> None:
    """The limit counts the instructions of all harts and is not exceeded by one."""
    schedule, _, _ = _setup(2)
    assert schedule.round(15_001) == 15_001


def test_a_sleeping_hart_wakes_at_its_deadline() -> None:
    """After wfi time passes without instructions until the timer; then the hart goes on."""
    schedule, board, engine = _setup(1)
    engine.exits = {500: EXIT_WFI}
    board.at = {0: [50]}
    schedule.round(None)
    assert engine.turns == [(0, 500), (500, 500 + (100 - 50) * 100)]


def test_all_asleep_is_noticed() -> None:
    """When no hart can run, the next deadline of all is where time may jump."""
    schedule, board, engine = _setup(2)
    engine.exits = {500: EXIT_WFI}
    board.at = {1: [100_000]}
    schedule.round(None)
    assert schedule.all_asleep()
    assert schedule.next_deadline() == 100_000
    schedule.skip_to(100_000)
    assert not schedule.all_asleep()
    assert time_of(schedule.harts[0]) == 100_000


def test_a_reservation_stall_ends_by_itself() -> None:
    """wrs.* gives up the rest of the turn when other harts exist, and nothing when alone."""
    schedule, _, engine = _setup(2)
    engine.exits = {500: EXIT_WFI}
    for hart in schedule.harts:
        hart.reservation = 0x8000_0000
    schedule.round(None)
    assert schedule.asleep == [False, False]
    assert engine.turns == [(0, 500), (0, 500)]


def test_stop_and_hosted_exits() -> None:
    """A stop ends the round at once; other exits reach the board."""
    schedule, board, engine = _setup(1)
    engine.exits = {100: 3, 200: EXIT_STOP}
    schedule.round(None)
    assert board.handled == [(0, 3)]
    assert schedule.stop_requested
    assert int(schedule.harts[0].instret) == 200

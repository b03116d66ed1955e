"""The deterministic schedule, with an engine that only counts."""

from __future__ import annotations

from machine_fakes import FakeEngine, FakeHart

from trapline.lang.control import EXIT_STOP, EXIT_WFI
from trapline.lang.devices import DeviceState
from trapline.machine.devices.clint import Clint, time_of
from trapline.machine.schedule import Schedule
from trapline.privilege.fields import MTIP
from trapline.session.turns import QUANTUM


class FakeBoard:
    """Devices that are never due; what reaches it is remembered."""

    tired = False

    def __init__(self) -> None:
        self.handled: list[tuple[int, int]] = []
        self.due: int | None = None
        self.resumed: list[int] = []
        self.turns = self

    def tick(self, now: int) -> bool:
        """Remember the time; nothing is due any more."""
        self.resumed.append(now)
        self.due = None
        return False

    def handle(self, index: int, reason: int) -> None:
        """Remember it."""
        self.handled.append((index, reason))

    def stopped(self, index: int) -> None:
        """No test has stops."""

    def arrived(self, index: int) -> None:
        """No test has a goal."""


def _setup(count: int, slice_instructions: int = 10_000) -> tuple[Schedule, FakeBoard, FakeEngine]:
    harts = [FakeHart() for _ in range(count)]
    io = DeviceState()
    Clint(harts, io)
    for number, hart in enumerate(harts):
        hart.mhartid, hart.mie = number, MTIP
    board, engine = FakeBoard(), FakeEngine()
    return Schedule(harts, engine, board, slice_instructions, io), board, engine


def test_a_slice_ends_exactly_at_the_deadline() -> None:
    """The engine runs to the very instruction at which the timer is due, whatever the phase."""
    schedule, _, engine = _setup(1)
    schedule.harts[0].instret = 37
    schedule.io.mtimecmp[0] = 25
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
    schedule, _, engine = _setup(1)
    engine.exits = {500: EXIT_WFI}
    schedule.io.mtimecmp[0] = 50
    schedule.round(None)
    assert engine.turns == [(0, 500), (500, 500 + (100 - 50) * 100)]


def test_all_asleep_is_noticed() -> None:
    """When no hart can run, the next deadline of all is where time may jump."""
    schedule, _, engine = _setup(2)
    engine.exits = {500: EXIT_WFI}
    schedule.io.mtimecmp[1] = 100_000
    schedule.round(None)
    assert schedule.all_wait()
    assert schedule.next_event() == 100_000
    schedule.skip_to(100_000)
    assert not schedule.all_wait()
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


def test_devices_go_on_at_the_tick_they_asked_for() -> None:
    """A turn is cut where devices are due, and they hear what time it is."""
    schedule, board, engine = _setup(2)
    board.due = 30
    schedule.round(None)
    assert board.resumed == [30]
    assert engine.turns[:2] == [(0, 3000), (3000, 13_000)]


def test_a_round_that_is_cut_goes_on_where_it_was() -> None:
    """However a budget cuts the rounds, the harts' turns begin and end at the same instructions."""
    whole, _, _ = _setup(3)
    whole.round(None)
    cut, _, _ = _setup(3)
    done = 0
    while done < 3 * QUANTUM:
        done += cut.round(min(7_001, 3 * QUANTUM - done))
    assert [int(h.instret) for h in cut.harts] == [int(h.instret) for h in whole.harts] == 3 * [QUANTUM]

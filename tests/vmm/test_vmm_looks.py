"""How long a VM runs before Python looks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from trapline.lang.devices import DeviceState
from trapline.lang.state import Hart
from trapline.vmm.guest import Guest

ATTEMPTS, ALONE = 100_000, 10_000


class NotingEngine:
    """Runs nothing; notes the rounds that it was asked for."""

    rounds = 0

    def call_turns(self, loop: Callable[[Hart, DeviceState], None], hart: Hart, io: DeviceState) -> None:
        """Note them."""
        self.rounds = int(io.turn_rounds)


@pytest.mark.parametrize(("vcpus", "attempts_of_one"), [(1, ALONE), (3, 20_000)])
def test_a_budget_below_a_turn_is_not_made_longer(vcpus: int, attempts_of_one: int) -> None:
    """A VM takes 16 times the rounds of its attempts at once, but not with the small budget of one who looks on."""
    guest = Guest("linux-7.2", memory=1 << 20, vcpus=vcpus)
    engine: Any = NotingEngine()
    rounds = []
    for budget in (None, ATTEMPTS, ATTEMPTS - 1, 1):
        guest.vm.schedule.take(engine, ATTEMPTS, ALONE, budget)
        rounds.append(engine.rounds)
    once = ATTEMPTS // attempts_of_one
    assert rounds == [16 * once, 16 * once, once, once]

"""An engine around an engine: every so many instructions it tells where a hart is. What harts do is the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from trapline.engine.api import Before, Engine
from trapline.lang.control import EXIT_LIMIT
from trapline.lang.devices import DeviceState
from trapline.lang.state import Hart
from trapline.machine.turns import take_turns


class Sampled(Before):
    """Runs harts by `engine`; `look` sees a hart after each `every` attempts."""

    def __init__(self, engine: Engine, every: int, look: Callable[[Hart], None]) -> None:
        super().__init__(engine)
        self._every, self._look = every, look
        self._due: dict[int, int] = {}

    def run(self, hart: Hart, limit: int) -> int:
        """Run until `limit` more attempts or another reason to leave (EXIT_*)."""
        now = int(hart.instret)
        end = now + limit
        while True:
            reason = int(self.engine.run(hart, min(end - now, self._left(hart))))
            self._look_at(hart)
            now = int(hart.instret)
            if reason != EXIT_LIMIT or now >= end:
                return reason

    def call_turns(self, function: Callable[..., Any], hart: Hart, *args: Any) -> None:
        """Let harts take turns by themselves: a board's in native code, from one look to the next."""
        if not self.engine.compiles or function is not take_turns:
            function(hart, *args)
            return
        io: DeviceState = args[0]
        harts = [Hart.at[int(io.hart_at[number])] for number in range(int(io.clint_harts))]
        budget = int(io.turn_budget)
        cut = True
        while cut:
            # No hart does more than all of them do together.
            io.turn_budget = min(budget, int(io.turn_done) + min(map(self._left, harts)))
            try:
                self.engine.call_turns(function, hart, io)
            finally:
                for one in harts:
                    self._look_at(one)
            cut = io.turn_stop == 0 and int(io.turn_budget) <= int(io.turn_done) < budget

    def _left(self, hart: Hart) -> int:
        """How many attempts of a hart are left until it is looked at."""
        return self._due.setdefault(id(hart), int(hart.instret) + self._every) - int(hart.instret)

    def _look_at(self, hart: Hart) -> None:
        if self._left(hart) <= 0:
            self._look(hart)
            self._due[id(hart)] = int(hart.instret) + self._every


def sampled(engine: Engine, every: int, look: Callable[[Hart], None]) -> Engine:
    """Return an engine like `engine` whose harts `look` sees after each `every` attempts."""
    return cast("Engine", Sampled(engine, every, look))

"""An engine around an engine: every so many instructions it tells where a hart is. What harts do is the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from trapline.engine.api import Engine
from trapline.lang.control import EXIT_LIMIT
from trapline.lang.state import Hart


class Sampled:
    """Runs harts by `engine`; everything else is the engine's own. `look` sees a hart after each `every` attempts."""

    def __init__(self, engine: Engine, every: int, look: Callable[[Hart], None]) -> None:
        self.engine = engine
        self._every, self._look = every, look
        self._due: dict[int, int] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def run(self, hart: Hart, limit: int) -> int:
        """Run until `limit` more attempts or another reason to leave (EXIT_*)."""
        now, key, every = int(hart.instret), id(hart), self._every
        end = now + limit
        due = self._due.get(key, now + every)
        while True:
            reason = int(self.engine.run(hart, min(end, due) - now))
            now = int(hart.instret)
            if now >= due:
                self._look(hart)
                due = now + every
            self._due[key] = due
            if reason != EXIT_LIMIT or now >= end:
                return reason


def sampled(engine: Engine, every: int, look: Callable[[Hart], None]) -> Engine:
    """Return an engine like `engine` whose harts `look` sees after each `every` attempts."""
    return cast("Engine", Sampled(engine, every, look))

"""An engine around an engine: it follows single round trips of traps instruction by instruction.

The observer leaves the hart at the traps to be followed; from there to the return every pc is kept, and what
else happens is the same as without: limits and interrupts fall on the same instructions.
"""

from __future__ import annotations

from trapline.dataclass import dataclass, field
from trapline.engine.api import Before, Engine
from trapline.lang.control import EXIT_LIMIT, EXIT_OBSERVE
from trapline.lang.state import Hart
from trapline.session.observe.observer import Kind, Observer, OpenTrap

AGAIN = 16  # the first round trip of a kind is followed, and this one, which is warm
LONGEST = 50_000  # instructions that are followed; what is longer (a trap that slept) is cut there


@dataclass(slots=True)
class Followed:
    """One round trip: the mode index and pc of each of its instructions; `whole` unless it was cut."""

    kind: Kind
    steps: list[tuple[int, int]] = field(default_factory=list, repr=False)
    whole: bool = False


class Sampler(Before):
    """Runs harts by `engine`; `followed` has the newest sample of each kind."""

    def __init__(self, engine: Engine, observer: Observer) -> None:
        super().__init__(engine)
        self.observer = observer
        self.followed: dict[Kind, Followed] = {}
        self._active: dict[int, tuple[OpenTrap, Followed]] = {}

    def run(self, hart: Hart, limit: int) -> int:
        """Run until `limit` more attempts or another reason to leave (EXIT_*)."""
        end = int(hart.instret) + limit
        while True:
            left = end - int(hart.instret)
            reason = self._step(hart) if id(hart) in self._active else int(self.engine.run(hart, left))
            if reason == EXIT_OBSERVE:
                self._begin(hart)
            elif reason != EXIT_LIMIT:
                return reason
            if int(hart.instret) >= end:
                return EXIT_LIMIT

    def _begin(self, hart: Hart) -> None:
        trap = self.observer.awaited(hart)
        if trap is not None and id(hart) not in self._active:
            self._active[id(hart)] = trap, Followed(trap.kind)
            self.observer.wait_for(AGAIN, trap.kind)

    def _step(self, hart: Hart) -> int:
        trap, followed = self._active[id(hart)]
        followed.steps.append((int(hart.priv) | int(hart.virt) << 2, int(hart.pc)))
        reason = int(self.engine.run(hart, 1))
        followed.whole = not trap.is_open
        if followed.whole or len(followed.steps) >= LONGEST:
            del self._active[id(hart)]
            old = self.followed.get(followed.kind)
            if old is None or followed.whole or not old.whole:
                self.followed[followed.kind] = followed
        return reason

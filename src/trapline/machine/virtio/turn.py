"""How much a device does at a time: the harts stand still meanwhile, and no driver may keep it at work for ever."""

from __future__ import annotations

from collections.abc import Callable

# All in bytes: what takes about as long as moving so many does.
LENGTH = 8 << 20  # of a turn
REQUEST = 64 << 10
DESCRIPTOR = 4 << 10
FLUSH = 1 << 20


class Turn:
    """What a device may still do before the harts go on; counted, not timed, so that runs repeat."""

    snapshot_skips = ("left", "_open")

    def __init__(self) -> None:
        self.left = LENGTH
        self._open = False
        self.stopping: Callable[[], bool] = lambda: False  # the run is to end

    def begin(self) -> bool:
        """Start a turn; False if one is under way, which a device's queues share."""
        if self._open:
            return False
        self._open, self.left = True, LENGTH
        return True

    def end(self) -> int:
        """The harts go on; return what was done."""
        self._open = False
        return LENGTH - self.left

    def spend(self, cost: int) -> None:
        """Count work done, in bytes."""
        self.left -= cost

    @property
    def over(self) -> bool:
        """Whether what is left must wait for the next turn."""
        return self.left <= 0 or self.stopping()

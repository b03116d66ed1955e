"""While another program has the terminal: the guest's output is kept for later, and its keyboard is not read."""

from __future__ import annotations

import time

MOST_KEPT = 1 << 20  # bytes of output
STEP = 0.05  # seconds between looks at whether the terminal is back


class Aside:
    """What a console keeps meanwhile; of more than MOST_KEPT bytes the end."""

    def __init__(self) -> None:
        self.kept = bytearray()

    def keep(self, data: bytes) -> None:
        """The guest has written something."""
        self.kept += data
        if len(self.kept) > 2 * MOST_KEPT:
            del self.kept[:-MOST_KEPT]

    def wait(self, seconds: float | None) -> bool:
        """Sleep a little; return that input may come again."""
        time.sleep(STEP if seconds is None else min(seconds, STEP))
        return True

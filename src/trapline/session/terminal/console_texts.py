"""Texts on the console that somebody waits for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trapline.dataclass import dataclass

_TAIL = 4096


@dataclass(frozen=True, slots=True)
class Printed:
    """A text that has appeared on the console, and the end of what was written up to it."""

    text: bytes
    tail: bytes


@dataclass(eq=False, slots=True)
class Watched:
    """A text that somebody waits for. `owner` counts it in its `hits`."""

    owner: Any
    text: bytes
    function: Callable[[Any], object]
    stop: Callable[[], object]
    _before: bytes = b""

    def restart(self) -> None:
        """What comes is not behind what came."""
        self._before = b""

    def feed(self, data: bytes) -> None:
        """The guest has written something."""
        seen, at = self._before + data, 0
        while (found := seen.find(self.text, at)) >= 0:
            at = found + len(self.text)
            self.owner.hits += 1
            if self.function(Printed(self.text, seen[max(0, at - _TAIL) : at])):
                self.stop()
        self._before = seen[max(at, len(seen) - max(_TAIL, len(self.text) - 1)) :]

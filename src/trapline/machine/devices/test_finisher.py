"""SiFive test finisher: a store ends the run (exit code, or a reset request)."""

from __future__ import annotations

from collections.abc import Callable

from trapline.lang.state import Hart

FAIL, PASS, RESET = 0x3333, 0x5555, 0x7777


class TestFinisher:
    """`finish(hart, code)` is called with the exit code; `reset(hart)` for a reset request."""

    __test__ = False

    def __init__(self, finish: Callable[[Hart, int], None], reset: Callable[[Hart], None]) -> None:
        self._finish = finish
        self._reset = reset

    def load(self, hart: Hart, offset: int, size: int) -> int:
        """Reads are zero."""
        return 0

    def store(self, hart: Hart, offset: int, size: int, value: int) -> None:
        """Bits 0..15 of register 0 say what to do, bits 16..31 of a failure are its code."""
        if offset != 0:
            return
        match value & 0xFFFF:
            case 0x5555:
                self._finish(hart, 0)
            case 0x3333:
                self._finish(hart, (value >> 16 & 0xFFFF) or 1)
            case 0x7777:
                self._reset(hart)

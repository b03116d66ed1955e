"""Where regions lie: executable memory that is filled from its start, and emptied as a whole when it is full."""

from __future__ import annotations

import ctypes
import sys

from trapline.engine.jit.source import prefix_words
from trapline.lang.host_pages import anonymous

CODE_BYTES = 64 << 20
STUB_BYTES = 16


class CodeArea:
    """Executable memory of some bytes. `full`: something did not fit that would fit into an empty one."""

    def __init__(self, size: int = CODE_BYTES) -> None:
        self.memory = anonymous(size, executable=True)
        self.base = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        self.size, self.end, self.full = size, 0, False

    def __contains__(self, address: int) -> bool:
        return self.base <= address < self.base + self.size

    def empty(self) -> None:
        """Nothing in it is used any more."""
        self.end, self.full = 0, False

    def add(self, tables: list[int], code: bytes, entries: int) -> int | None:
        """Place a region's code, with the tables of its pages in front of it; return its first instruction.

        None where there is no room for it and for the stubs of all its entries.
        """
        start = (self.end + 31) & ~31
        if start + len(code) + STUB_BYTES * (entries + 1) > self.size:
            self.full = self.full or self.end > 0
            return None
        entry = start + 8 * prefix_words(len(tables))
        self.memory[start : start + len(code)] = code
        for n, word in enumerate(tables[1:], 1):
            self.memory[entry - 8 * n : entry - 8 * n + 8] = word.to_bytes(8, sys.byteorder)
        self.end = start + len(code)
        return self.base + entry

    def stub(self, original: int, code: int) -> int | None:
        """Make a way into a region: the handler whose place it takes, and behind it a jump."""
        start = (self.end + STUB_BYTES - 1) & -STUB_BYTES
        if start + STUB_BYTES > self.size:
            self.full = True
            return None
        jump = b"\xe9" + (code - (self.base + start + 13)).to_bytes(4, "little", signed=True)
        self.memory[start : start + 13] = original.to_bytes(8, sys.byteorder) + jump
        self.end = start + STUB_BYTES
        return self.base + start + 8

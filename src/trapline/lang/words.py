"""Named 64-bit words of a flat block, as subset functions and hosted software see them."""

from __future__ import annotations

from typing import Any

from trapline.lang.values import MASK64, U64, _new


class Words:
    """An array field as subset functions index it."""

    __slots__ = ("_base", "_count", "_mem")

    def __init__(self, mem: Any, base: int, count: int) -> None:
        self._mem, self._base, self._count = mem, base, count

    def __getitem__(self, index: int) -> U64:
        if not 0 <= index < self._count:
            raise IndexError(f"index {int(index)} outside 0..{self._count - 1}")
        return _new(U64, self._mem[self._base + index])

    def __setitem__(self, index: int, value: int) -> None:
        if not 0 <= index < self._count:
            raise IndexError(f"index {int(index)} outside 0..{self._count - 1}")
        self._mem[self._base + index] = value & MASK64

    def __len__(self) -> int:
        return self._count


def word(index: int) -> property:
    """A field of an object whose words are `mem`: reading gives U64, writing takes 64-bit values."""

    def read(self: Any) -> U64:
        return _new(U64, self.mem[index])

    def write(self: Any, value: int) -> None:
        self.mem[index] = value & MASK64

    return property(read, write)

"""A driver's buffer: pieces of guest memory, consumed from the front."""

from __future__ import annotations

from collections.abc import Sequence


class Span:
    """Pieces of memory that count as one stretch of bytes."""

    def __init__(self, pieces: Sequence[memoryview] = ()) -> None:
        self._pieces = list(pieces)
        self._pieces.reverse()

    def __len__(self) -> int:
        """Bytes that are left."""
        return sum(len(piece) for piece in self._pieces)

    @property
    def count(self) -> int:
        """Pieces that are left."""
        return len(self._pieces)

    def views(self, size: int) -> list[memoryview]:
        """Take the next `size` bytes (fewer at the end) as they lie in memory."""
        taken = []
        while size > 0 and self._pieces:
            piece = self._pieces.pop()
            if len(piece) > size:
                self._pieces.append(piece[size:])
                piece = piece[:size]
            taken.append(piece)
            size -= len(piece)
        return taken

    def read(self, size: int) -> bytes:
        """Take and copy the next `size` bytes (fewer at the end)."""
        return b"".join(self.views(size))

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Fill the next bytes; return how many fitted."""
        done = 0
        for view in self.views(len(data)):
            view[:] = data[done : done + len(view)]
            done += len(view)
        return done

    def cut_tail(self, size: int) -> Span:
        """Split the last `size` bytes off."""
        head = self.views(max(0, len(self) - size))
        tail = Span(self._pieces[::-1])
        self._pieces = head[::-1]
        return tail

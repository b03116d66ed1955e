"""The bytes of a program file: in memory, or read from the file as they are asked for.

A file is never mapped: one that becomes shorter while it is read would end the process (SIGBUS).
"""

from __future__ import annotations

import io
import os
import weakref
from collections.abc import Iterator

_PIECE = 256 << 10  # bytes: they stay in the host's second cache between reading and copying


class ImageError(ValueError):
    """A program image that cannot be loaded; the message names the file and the defect."""


class OpenFile:
    """A regular file, of which any bytes can be had; ImageError if it became shorter since it was opened."""

    def __init__(self, file: io.BufferedReader, name: str) -> None:
        self._name, self._size = name, os.fstat(file.fileno()).st_size
        self._descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._descriptor)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, wanted: slice) -> bytes:
        start, stop, _ = wanted.indices(self._size)
        found: list[bytes] = []
        while start < stop:
            try:
                piece = os.pread(self._descriptor, stop - start, start)
            except OSError as error:
                raise ImageError(f"{self._name}: {error.strerror or error}") from error
            if not piece:
                raise ImageError(f"{self._name}: the file became shorter while it was read")
            found.append(piece)
            start += len(piece)
        return found[0] if len(found) == 1 else b"".join(found)


Content = bytes | OpenFile


def pieces(content: Content, start: int, size: int) -> Iterator[tuple[int, bytes | memoryview]]:
    """Yield these bytes with their places from `start` on, a file's in pieces that are soon copied."""
    if isinstance(content, bytes):
        yield 0, memoryview(content)[start : start + size]
        return
    for at in range(0, size, _PIECE):
        yield at, content[start + at : start + min(at + _PIECE, size)]

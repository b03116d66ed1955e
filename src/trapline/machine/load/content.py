"""The bytes of a program file: in memory, or read from the file as they are asked for.

A file is never mapped: one that becomes shorter while it is read would end the process (SIGBUS).
"""

from __future__ import annotations

import io
import os
import threading
import weakref
from collections.abc import Callable
from typing import Protocol

MOST = 1 << 30  # bytes of a program that somebody gets who names no number
_PAGE = 4096
_MUCH = 4 << 20  # bytes


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
        found = bytearray(max(stop - start, 0))
        self._fill(memoryview(found), start)
        return bytes(found)

    def read_into(self, view: memoryview, start: int) -> None:
        """Fill host memory from a place of the file on; half of much of it by another thread.

        Two thirds of the time are the host's faults at memory that is touched for the first time.
        """
        first = len(view) if len(view) < _MUCH else len(view) // 2 & -_PAGE
        if first == len(view):
            self._fill(view, start)
            return
        errors: list[ImageError] = []

        def rest() -> None:
            try:
                self._fill(view[first:], start + first)
            except ImageError as error:
                errors.append(error)

        other = threading.Thread(target=rest)
        try:
            other.start()
        except RuntimeError:  # the host gives no more threads
            self._fill(view, start)
            return
        try:
            self._fill(view[:first], start)
        finally:
            other.join()
        if errors:
            raise errors[0]

    def _fill(self, view: memoryview, start: int) -> None:
        done = 0
        while done < len(view):
            try:
                got = os.preadv(self._descriptor, [view[done:]], start + done)
            except OSError as error:
                raise ImageError(f"{self._name}: {error.strerror or error}") from error
            if not got:
                raise ImageError(f"{self._name}: the file became shorter while it was read")
            done += got


Content = bytes | OpenFile


class Memory(Protocol):
    """Where programs go: a board's regions, or a guest's slots."""

    def view(self, address: int, size: int) -> memoryview:
        """Return the bytes there; ValueError if they are not all memory."""

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Copy bytes in."""

    def write_by(self, address: int, size: int, fill: Callable[[memoryview], None]) -> None:
        """Let somebody else copy bytes in."""

    def ram_ranges(self) -> list[tuple[int, int]]:
        """Return (base, size) of each stretch of RAM."""


def place(memory: Memory, address: int, content: Content, start: int, size: int) -> None:
    """Copy bytes of a file to an address."""
    if isinstance(content, bytes):
        memory.write(address, memoryview(content)[start : start + size])
    elif size:
        memory.write_by(address, size, lambda view: content.read_into(view, start))

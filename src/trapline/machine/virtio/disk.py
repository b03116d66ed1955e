"""Disk images on the host: raw files, and a layer that keeps writes in memory."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

SECTOR = 512
_IOV_MAX = 1024
_BLOCK = 4096
_KEEP_SIZE, _PUNCH_HOLE, _ZERO_RANGE = 1, 2, 16  # fallocate(2)


class Disk(Protocol):
    """A block device's contents. Offsets and sizes are in bytes; failures are OSError."""

    size: int
    read_only: bool

    def read(self, offset: int, into: Sequence[memoryview]) -> None:
        """Fill the pieces with the bytes from `offset` on."""

    def write(self, offset: int, pieces: Sequence[memoryview]) -> None:
        """Store the pieces from `offset` on."""

    def flush(self) -> None:
        """Return when everything written so far is on the host's disk."""

    def zero(self, offset: int, size: int, *, unmap: bool) -> None:
        """Make the bytes zero; `unmap` lets the host's file become sparse."""

    def close(self) -> None:
        """Give the file back."""


class RawDisk:
    """A file whose bytes are the disk's; locked, so that no two machines write the same one."""

    def __init__(self, path: Path, *, read_only: bool) -> None:
        self.read_only, self._path = read_only, path
        self._fd = os.open(path, (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC)
        try:
            self.size = os.lseek(self._fd, 0, os.SEEK_END)
            self._lock(path)
        except BaseException:
            os.close(self._fd)
            raise

    def _lock(self, path: Path) -> None:
        try:
            fcntl.flock(self._fd, (fcntl.LOCK_SH if self.read_only else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{path}: another machine uses this disk image (open it with ,ro in both)") from None
        except OSError:
            return  # a file system without locks

    def read(self, offset: int, into: Sequence[memoryview]) -> None:
        """Read straight into the pieces; what lies behind the end of a file that shrank is zero."""
        for pieces in _batches(into):
            while pieces:
                got = os.preadv(self._fd, pieces, offset)
                if got == 0:
                    for piece in pieces:
                        piece[:] = bytes(len(piece))
                    got = sum(map(len, pieces))
                offset += got
                pieces = _after(pieces, got)

    def write(self, offset: int, pieces: Sequence[memoryview]) -> None:
        """Write straight from the pieces."""
        for batch in _batches(pieces):
            while batch:
                done = os.pwritev(self._fd, batch, offset)
                offset += done
                batch = _after(batch, done)

    def state(self) -> dict[str, int]:
        """Return what a snapshot keeps of a disk: not its contents, but as of when they are."""
        found = os.fstat(self._fd)
        return {"size": found.st_size, "written": found.st_mtime_ns}

    def set_state(self, state: dict[str, int]) -> None:
        """Refuse an image that somebody has written since."""
        if self.state() != state:
            raise ValueError(f"{self._path}: the disk image has changed since the snapshot was taken")

    def flush(self) -> None:
        """fdatasync."""
        if not self.read_only:
            os.fdatasync(self._fd)

    def zero(self, offset: int, size: int, *, unmap: bool) -> None:
        """Ask the file system; write zeros where it cannot."""
        mode = _KEEP_SIZE | (_PUNCH_HOLE if unmap else _ZERO_RANGE)
        if _fallocate(self._fd, mode, offset, size):
            return
        chunk = bytes(1 << 20)
        while size > 0:
            done = os.pwrite(self._fd, memoryview(chunk)[: min(size, len(chunk))], offset)
            offset, size = offset + done, size - done

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):
            os.close(self._fd)
        self._fd = -1


class Overlay:
    """A disk whose writes stay in memory: the image behind it never changes."""

    read_only = False

    def __init__(self, base: Disk) -> None:
        self._base, self.size = base, base.size
        self._blocks: dict[int, bytearray] = {}

    def read(self, offset: int, into: Sequence[memoryview]) -> None:
        """Read from the image, then lay over it what was written."""
        self._base.read(offset, into)
        for piece in into:
            for number, start, at, size in _blocks(offset, len(piece)):
                if (block := self._blocks.get(number)) is not None:
                    piece[at : at + size] = block[start : start + size]
            offset += len(piece)

    def write(self, offset: int, pieces: Sequence[memoryview]) -> None:
        """Keep the bytes."""
        for piece in pieces:
            for number, start, at, size in _blocks(offset, len(piece)):
                self._block(number)[start : start + size] = piece[at : at + size]
            offset += len(piece)

    def _block(self, number: int) -> bytearray:
        block = self._blocks.get(number)
        if block is None:
            block = self._blocks[number] = bytearray(min(_BLOCK, self.size - number * _BLOCK))
            self._base.read(number * _BLOCK, [memoryview(block)])
        return block

    def flush(self) -> None:
        """Nothing is meant to last."""

    def zero(self, offset: int, size: int, *, unmap: bool) -> None:
        """Keep zeros."""
        for number, start, _, part in _blocks(offset, size):
            self._block(number)[start : start + part] = bytes(part)

    def close(self) -> None:
        """Forget the writes."""
        self._blocks.clear()
        self._base.close()


def _blocks(offset: int, size: int) -> list[tuple[int, int, int, int]]:
    """Cut a range at block boundaries: block number, start in the block, start in the range, size."""
    parts, at = [], 0
    while at < size:
        number, start = divmod(offset + at, _BLOCK)
        part = min(_BLOCK - start, size - at)
        parts.append((number, start, at, part))
        at += part
    return parts


def _batches(pieces: Sequence[memoryview]) -> list[list[memoryview]]:
    return [list(pieces[i : i + _IOV_MAX]) for i in range(0, len(pieces), _IOV_MAX)]


def _after(pieces: list[memoryview], done: int) -> list[memoryview]:
    """Return what is left of the pieces after `done` bytes."""
    for index, piece in enumerate(pieces):
        if done < len(piece):
            return [piece[done:], *pieces[index + 1 :]]
        done -= len(piece)
    return []


def _fallocate(fd: int, mode: int, offset: int, size: int) -> bool:
    function = getattr(ctypes.CDLL(None, use_errno=True), "fallocate", None)
    if function is None:
        return False
    function.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return bool(function(fd, mode, offset, size) == 0)

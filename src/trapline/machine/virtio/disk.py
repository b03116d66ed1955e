"""Disk images on the host: raw files, and a layer that takes the writes of a disk that must not change."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

from trapline.session.state.plain_state import StateError

SECTOR = 512
_IOV_MAX = 1024
_ZEROS = bytes(1 << 20)
_SMALLEST_BLOCK, _MOST_BLOCKS = 4096, 1 << 24
_BASE, _WRITTEN, _ZERO = 0, 1, 2  # where a block's bytes are: in the image, in the file, nowhere
_MARKS = (_BASE, _WRITTEN, _ZERO)
_MOST_SAVED = 256 << 20  # bytes of writes that a snapshot of the machine holds
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

    def state(self) -> dict[str, Any]:
        """Return what a snapshot keeps of a disk."""

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot; ValueError says why that cannot be."""


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
        read_pieces(self._fd, offset, into)

    def write(self, offset: int, pieces: Sequence[memoryview]) -> None:
        """Write straight from the pieces."""
        write_pieces(self._fd, offset, pieces)

    def state(self) -> dict[str, Any]:
        """Return what a snapshot keeps of a disk: not its contents, but as of when they are."""
        found = os.fstat(self._fd)
        return {"size": found.st_size, "written": found.st_mtime_ns}

    def set_state(self, state: dict[str, Any]) -> None:
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
        while size > 0:
            done = os.pwrite(self._fd, memoryview(_ZEROS)[: min(size, len(_ZEROS))], offset)
            offset, size = offset + done, size - done

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):
            os.close(self._fd)
        self._fd = -1


class GuardedDisk(RawDisk):
    """A raw disk that the user did not call raw: its guest cannot write the header of another format into it."""

    def __init__(self, path: Path, refused: Sequence[bytes]) -> None:
        super().__init__(path, read_only=False)
        self._refused = tuple(refused)

    def write(self, offset: int, pieces: Sequence[memoryview]) -> None:
        """Write, but for what would be taken for something else the next time."""
        if offset == 0 and b"".join(bytes(p[:SECTOR]) for p in pieces[:SECTOR])[:SECTOR].startswith(self._refused):
            raise OSError(errno.EPERM, "the header of an image format, on a disk without format=raw")
        super().write(offset, pieces)


class Overlay:
    """A disk whose writes go elsewhere: the image behind it never changes, and this process' memory does not grow.

    The file lies in TMPDIR, otherwise in /var/tmp. One byte of memory for each block says where its bytes are.
    """

    read_only = False

    def __init__(self, base: Disk) -> None:
        self._base, self.size = base, base.size
        self._block = _SMALLEST_BLOCK
        while self._block * _MOST_BLOCKS < self.size:
            self._block *= 2
        self._marks = bytearray()
        self._file: IO[bytes] | None = None
        # By checkpoint: mark and bytes of each block before it was first changed after that.
        self._journals: list[dict[int, tuple[int, bytes]]] = []

    def read(self, offset: int, into: Sequence[memoryview]) -> None:
        """Read each stretch from where it is."""
        if not self._marks:
            self._base.read(offset, into)
            return
        for piece in into:
            at = 0
            for mark, size in self._stretches(offset, len(piece)):
                part = piece[at : at + size]
                if mark == _BASE:
                    self._base.read(offset + at, [part])
                elif mark == _WRITTEN:
                    read_pieces(self._descriptor(), offset + at, [part])
                else:
                    clear(part)
                at += size
            offset += len(piece)

    def _stretches(self, offset: int, size: int) -> Iterator[tuple[int, int]]:
        """Cut a range where its bytes are no longer in the same place: mark, bytes."""
        end = offset + size
        while offset < end:
            number, last = offset // self._block, -(-end // self._block)
            mark = self._marks[number]
            others = [at for m in _MARKS if m != mark and (at := self._marks.find(m, number, last)) >= 0]
            stop = min(end, min(others, default=last) * self._block)
            yield mark, stop - offset
            offset = stop

    def _descriptor(self) -> int:
        if self._file is None:
            place = os.environ.get("TMPDIR") or "/var/tmp"
            folder = place if Path(place).is_dir() and os.access(place, os.W_OK) else None
            self._file = tempfile.TemporaryFile(dir=folder, prefix="trapline-", buffering=0)  # noqa: SIM115
        return self._file.fileno()

    def _mark(self, first: int, end: int, mark: int) -> None:
        if not self._marks:
            self._marks = bytearray(-(-self.size // self._block))
        self._marks[first:end] = bytes((mark,)) * (end - first)

    def write(self, offset: int, pieces: Sequence[memoryview]) -> None:
        """Store the bytes in the file, with what else is in their first and last block."""
        end = offset + sum(map(len, pieces))
        if end == offset:
            return
        first, last = offset // self._block, (end - 1) // self._block
        self._remember(first, last + 1)
        if offset % self._block:
            self._fill(first)
        if end % self._block and end != self.size:
            self._fill(last)
        write_pieces(self._descriptor(), offset, pieces)
        self._mark(first, last + 1, _WRITTEN)

    def _fill(self, number: int) -> None:
        """Have a whole block in the file."""
        if self._marks and self._marks[number] == _WRITTEN:
            return
        start = number * self._block
        block = memoryview(bytearray(min(self._block, self.size - start)))
        self.read(start, [block])
        write_pieces(self._descriptor(), start, [block])
        self._mark(number, number + 1, _WRITTEN)

    def flush(self) -> None:
        """Nothing is meant to last."""

    def zero(self, offset: int, size: int, *, unmap: bool) -> None:
        """Note that whole blocks are zero; write the zeros of others."""
        end = offset + size
        first, last = -(-offset // self._block), end // self._block
        if end == self.size:
            last = -(-end // self._block)
        if first >= last:
            self.write(offset, [memoryview(bytes(size))])
            return
        self._remember(first, last)
        if offset < first * self._block:
            self.write(offset, [memoryview(bytes(first * self._block - offset))])
        if end > last * self._block:
            self.write(last * self._block, [memoryview(bytes(end - last * self._block))])
        if self._marks and self._marks.find(_WRITTEN, first, last) >= 0:
            punch_hole(self._descriptor(), first * self._block, (last - first) * self._block)
        self._mark(first, last, _ZERO)

    def close(self) -> None:
        """Forget the writes."""
        self._marks = bytearray()
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None
        self._base.close()

    # --- checkpoints (session.state.kept_state) ---
    def begin_undo(self) -> None:
        """A checkpoint is made."""
        self._journals.append({})

    def undo(self) -> None:
        """Go back to the newest."""
        for number, (mark, data) in self._journals[-1].items():
            if data:
                write_pieces(self._descriptor(), number * self._block, [memoryview(data)])
            self._mark(number, number + 1, mark)
        self._journals[-1].clear()

    def end_undo(self, number: int) -> None:
        """One is given up."""
        given_up = self._journals.pop(number)
        if number:
            self._journals[number - 1] = {**given_up, **self._journals[number - 1]}

    def _remember(self, first: int, end: int) -> None:
        """Blocks are about to change."""
        for number in range(first, end) if self._journals else ():
            if number not in self._journals[-1]:
                mark = self._marks[number] if self._marks else _BASE
                block = bytearray(min(self._block, self.size - number * self._block) if mark == _WRITTEN else 0)
                self.read(number * self._block, [memoryview(block)])
                self._journals[-1][number] = mark, bytes(block)

    # --- snapshots of the machine ---
    def state(self) -> dict[str, Any]:
        """Return what was written, and as of when the image is; StateError if that is too much."""
        written, zeros, at = [], [], 0
        total = self._marks.count(_WRITTEN) * self._block
        if total > _MOST_SAVED:
            raise StateError(f"a disk with ,snapshot has {total} bytes of writes, a snapshot holds {_MOST_SAVED}")
        for mark, size in self._stretches(0, self.size) if self._marks else ():
            if mark == _WRITTEN:
                block = bytearray(size)
                self.read(at, [memoryview(block)])
                written.append((at, bytes(block)))
            elif mark == _ZERO:
                zeros.append((at, size))
            at += size
        return {"image": self._base.state(), "written": written, "zeros": zeros}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot; ValueError if it does not fit this image."""
        self._base.set_state(state["image"])
        written = [(int(at), bytes(data)) for at, data in state["written"]]
        zeros = [(int(at), int(size)) for at, size in state["zeros"]]
        for at, size in [*zeros, *((at, len(data)) for at, data in written)]:
            if at < 0 or size <= 0 or at + size > self.size:
                raise ValueError(f"the snapshot's disk has writes at {at:#x}, behind the end of this one")
        for at, data in written:
            self.write(at, [memoryview(data)])
        for at, size in zeros:
            self.zero(at, size, unmap=False)


def read_pieces(descriptor: int, offset: int, into: Sequence[memoryview]) -> None:
    """Fill the pieces from a file; what lies behind its end is zero."""
    for pieces in _batches(into):
        while pieces:
            got = os.preadv(descriptor, pieces, offset)
            if got == 0:
                for piece in pieces:
                    clear(piece)
                got = sum(map(len, pieces))
            offset += got
            pieces = _after(pieces, got)


def write_pieces(descriptor: int, offset: int, pieces: Sequence[memoryview]) -> None:
    """Write the pieces into a file."""
    for batch in _batches(pieces):
        while batch:
            done = os.pwritev(descriptor, batch, offset)
            offset += done
            batch = _after(batch, done)


def clear(piece: memoryview) -> None:
    """Make bytes zero, without as many bytes beside them."""
    for at in range(0, len(piece), len(_ZEROS)):
        part = piece[at : at + len(_ZEROS)]
        part[:] = _ZEROS[: len(part)]


def punch_hole(descriptor: int, offset: int, size: int) -> bool:
    """Give a stretch of a file back to the file system; return whether it can take it. The bytes are zero then."""
    return _fallocate(descriptor, _KEEP_SIZE | _PUNCH_HOLE, offset, size)


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

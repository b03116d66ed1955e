"""qcow2 images, read through libqcow's Python binding (the extra trapline[qcow2])."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MAGIC = b"QFI\xfb"
# Header (QEMU's docs/interop/qcow2): magic, version, backing file offset and size, cluster bits, size,
# encryption, L1 entries, L1 offset, refcount table offset, refcount table clusters.
_HEADER = struct.Struct(">4sIQIIQIIQQI")
_OFFSET = 0x00FF_FFFF_FFFF_FE00
_COMPRESSED = 1 << 62
_FEATURES = struct.Struct(">72xQ")  # of version 3: the incompatible ones, behind what version 2 has
_MOST_ENTRIES = 4 << 20  # of the first table, as in QEMU
_PIECE = 1 << 20  # bytes that are read at a time
_SMALLEST_CLUSTER, _LARGEST_CLUSTER = 9, 21


class Qcow2Disk:
    """A qcow2 image, read only."""

    read_only = True

    def __init__(self, path: Path) -> None:
        self._path = path
        check_complete(path)
        self._file = _open(path)
        self.size = int(self._file.get_media_size())

    def read(self, offset: int, into: Sequence[memoryview]) -> None:
        """Fill the pieces."""
        for piece in into:
            for at in range(0, len(piece), _PIECE):
                part = piece[at : at + _PIECE]
                data = self._file.read_buffer_at_offset(len(part), offset)
                part[:] = data.ljust(len(part), b"\0")
                offset += len(part)

    def write(self, offset: int, pieces: Sequence[memoryview]) -> None:
        """Refuse."""
        raise OSError("a qcow2 image is read only")

    def flush(self) -> None:
        """Nothing was written."""

    def zero(self, offset: int, size: int, *, unmap: bool) -> None:
        """Refuse."""
        raise OSError("a qcow2 image is read only")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def state(self) -> dict[str, Any]:
        """Return what a snapshot keeps of the image: as of when it is."""
        found = self._path.stat()
        return {"size": found.st_size, "written": found.st_mtime_ns}

    def set_state(self, state: dict[str, Any]) -> None:
        """Refuse an image that somebody has written since."""
        if self.state() != state:
            raise ValueError(f"{self._path}: the disk image has changed since the snapshot was taken")


def _open(path: Path) -> Any:
    try:
        import pyqcow
    except ImportError:
        raise ValueError(
            f"{path}: reading qcow2 needs a library: pip install 'trapline[qcow2]' "
            "(or convert the image: qemu-img convert -O raw)"
        ) from None
    file = pyqcow.file()
    try:
        file.open(str(path))
    except OSError as error:
        raise ValueError(f"{path}: this qcow2 image cannot be read: {_first_words(error)}") from None
    return file


def _first_words(error: OSError) -> str:
    """The library's messages carry its call stack; the last part says what was wrong."""
    return str(error).strip().rsplit(": ", 1)[-1]


def check_complete(path: Path) -> None:
    """Check an image's tables against the file's length; ValueError says what is wrong or not supported.

    This takes time in proportion to the tables that the file really has: each is read once, and holes are not.
    """
    with path.open("rb") as file:
        length = os.fstat(file.fileno()).st_size
        head = file.read(_FEATURES.size)
        if len(head) < _HEADER.size or head[:4] != MAGIC:
            raise ValueError(f"{path}: not a qcow2 image (no header)")
        _, version, backing, _, bits, size, encryption, entries, l1_at, table_at, _ = _HEADER.unpack_from(head)
        if version not in (2, 3):
            raise ValueError(f"{path}: qcow2 version {version} is not known (2 and 3 are)")
        if not _SMALLEST_CLUSTER <= bits <= _LARGEST_CLUSTER:
            raise ValueError(f"{path}: a qcow2 image with clusters of 2^{bits} bytes")
        if backing or encryption:
            what = "a backing file" if backing else "encryption"
            raise ValueError(f"{path}: a qcow2 image with {what} (flatten it: qemu-img convert)")
        if version == 3 and (odd := _odd_features(head)):
            raise ValueError(f"{path}: a qcow2 image with {odd} (convert it: qemu-img convert)")
        if entries < -(-size // (1 << 2 * bits - 3)):
            raise ValueError(f"{path}: a qcow2 image whose first table is too short for {size} bytes")
        if entries > _MOST_ENTRIES:
            raise ValueError(f"{path}: a qcow2 image whose first table has {entries} entries (more than 32 MiB)")
        wanted = max(table_at, l1_at + 8 * entries)
        if wanted <= length:
            file.seek(l1_at)
            tables = struct.unpack(f">{entries}Q", file.read(8 * entries))
            try:
                wanted = _needed(file, tables, bits, size, length)
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from None
    if wanted > length:
        raise ValueError(f"{path}: this qcow2 image is truncated: it needs {wanted} bytes and has {length}")


def _odd_features(head: bytes) -> str:
    """Name the incompatible features of version 3 that nothing here knows; a dirty image is only unclean."""
    if len(head) < _FEATURES.size:
        return "a header cut short"
    (features,) = _FEATURES.unpack(head)
    known = {
        1: "the mark of a corrupt image",
        2: "an external data file",
        3: "another compression",
        4: "extended entries",
    }
    return next((known.get(bit, f"unknown feature {bit}") for bit in range(1, 64) if features >> bit & 1), "")


def _needed(file: Any, tables: Sequence[int], bits: int, size: int, length: int) -> int:
    """Return the first byte behind the last byte of the image file that the disk's contents need."""
    cluster, most = 1 << bits, 0
    hole = (0, 0)  # the last hole of the file that was met
    seen: set[int] = set()
    for number, entry in enumerate(tables):
        at = entry & _OFFSET
        if not at:
            continue
        if at in seen or at % cluster:
            raise ValueError("a qcow2 image whose first table names one table twice, or no cluster")
        seen.add(at)
        if at + cluster > length:
            return at + cluster
        if not hole[0] <= at < at + cluster <= hole[1]:
            hole = at, _next_data(file, at, length)
        if at + cluster <= hole[1]:
            continue  # a table of zeros
        file.seek(at)
        most = max(most, _end_of(file.read(cluster), number << 2 * bits - 3, bits, size))
    return most


def _next_data(file: Any, at: int, length: int) -> int:
    """Return where the first byte from `at` on is that the file system stores; the file's length if none is."""
    try:
        return int(os.lseek(file.fileno(), at, os.SEEK_DATA))
    except OSError as error:
        return length if error.errno == errno.ENXIO else at


def _end_of(table: bytes, place: int, bits: int, size: int) -> int:
    """Return the end of the last cluster that a second table, whose first cluster is that at `place`, names."""
    most, cluster = 0, 1 << bits
    for word in struct.unpack(f">{cluster // 8}Q", table):
        if word & _COMPRESSED:
            # libqcow 20260703 gives zeros for some of these.
            raise ValueError("a qcow2 image with compressed clusters (unpack it: qemu-img convert -O raw)")
        if word & _OFFSET:
            most = max(most, (word & _OFFSET) + min(cluster, size - place))
        place += cluster
    return most

"""qcow2 images, read through libqcow's Python binding (the extra trapline[qcow2])."""

from __future__ import annotations

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
_SMALLEST_CLUSTER, _LARGEST_CLUSTER = 9, 21


class Qcow2Disk:
    """A qcow2 image, read only."""

    read_only = True
    snapshot_skips = ("_file",)

    def __init__(self, path: Path) -> None:
        check_complete(path)
        self._file = _open(path)
        self.size = int(self._file.get_media_size())

    def read(self, offset: int, into: Sequence[memoryview]) -> None:
        """Fill the pieces."""
        for piece in into:
            data = self._file.read_buffer_at_offset(len(piece), offset)
            piece[:] = data.ljust(len(piece), b"\0")
            offset += len(piece)

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
    """Check an image's tables against the file's length; ValueError says what is wrong or not supported."""
    with path.open("rb") as file:
        length = os.fstat(file.fileno()).st_size
        head = file.read(_HEADER.size)
        if len(head) < _HEADER.size or head[:4] != MAGIC:
            raise ValueError(f"{path}: not a qcow2 image (no header)")
        _, version, backing, _, bits, size, encryption, entries, l1_at, table_at, _ = _HEADER.unpack(head)
        if version not in (2, 3):
            raise ValueError(f"{path}: qcow2 version {version} is not known (2 and 3 are)")
        if not _SMALLEST_CLUSTER <= bits <= _LARGEST_CLUSTER:
            raise ValueError(f"{path}: a qcow2 image with clusters of 2^{bits} bytes")
        if backing or encryption:
            what = "a backing file" if backing else "encryption"
            raise ValueError(f"{path}: a qcow2 image with {what} (flatten it: qemu-img convert)")
        if entries < -(-size // (1 << 2 * bits - 3)):
            raise ValueError(f"{path}: a qcow2 image whose first table is too short for {size} bytes")
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


def _needed(file: Any, tables: Sequence[int], bits: int, size: int, length: int) -> int:
    """Return the first byte behind the last byte of the image file that the disk's contents need."""
    cluster, most = 1 << bits, 0
    for number, entry in enumerate(tables):
        at = entry & _OFFSET
        if not at:
            continue
        if at + cluster > length:
            return at + cluster
        file.seek(at)
        place = number << 2 * bits - 3
        for word in struct.unpack(f">{cluster // 8}Q", file.read(cluster)):
            if word & _COMPRESSED:
                # libqcow 20260703 gives zeros for some of these.
                raise ValueError("a qcow2 image with compressed clusters (unpack it: qemu-img convert -O raw)")
            if word & _OFFSET:
                most = max(most, (word & _OFFSET) + min(cluster, size - place))
            place += cluster
    return most

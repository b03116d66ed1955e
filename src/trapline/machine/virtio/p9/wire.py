"""Messages of 9P2000.L as bytes (the 9P2000 manual pages, section 5; diod's description of the .L dialect)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

(
    TLERROR, TSTATFS, TLOPEN, TLCREATE, TSYMLINK, TMKNOD, TRENAME, TREADLINK, TGETATTR, TSETATTR, TXATTRWALK,
    TXATTRCREATE, TREADDIR, TFSYNC, TLOCK, TGETLOCK, TLINK, TMKDIR, TRENAMEAT, TUNLINKAT, TVERSION, TAUTH, TATTACH,
    TFLUSH, TWALK, TREAD, TWRITE, TCLUNK, TREMOVE,
) = (
    6, 8, 12, 14, 16, 18, 20, 22, 24, 26, 30, 32, 40, 50, 52, 54, 70, 72, 74, 76, 100, 102, 104, 108, 110, 116, 118,
    120, 122,
)  # fmt: skip
RLERROR = TLERROR + 1

VERSION = b"9P2000.L"
HEADER = struct.Struct("<IBH")  # size, type, tag
IO_HEADER = HEADER.size + 4  # of Rread and Rreaddir: the count follows
NO_FID = 0xFFFF_FFFF

QT_DIR, QT_SYMLINK, QT_FILE = 0x80, 0x02, 0x00
# What Tsetattr sets.
ATTR_MODE, ATTR_UID, ATTR_GID, ATTR_SIZE, ATTR_ATIME, ATTR_MTIME = 1, 2, 4, 8, 0x10, 0x20
ATTR_ATIME_SET, ATTR_MTIME_SET = 0x80, 0x100
GETATTR_BASIC = 0x7FF
REMOVE_DIR = 0x200
UNLOCKED = 2  # the lock type that says that nobody holds a lock

# Flags of Tlopen and Tlcreate have numbers of their own, whatever the host's are.
OPEN_ACCESS, OPEN_EXCL, OPEN_TRUNC, OPEN_DIRECTORY = 3, 0o200, 0o1000, 0o200000


class WireError(Exception):
    """A message that ends before its fields do."""


class Reader:
    """Takes fields off a message."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        piece = self._data[self._at : self._at + size]
        if len(piece) < size:
            raise WireError("the message is too short")
        self._at += size
        return piece

    def u8(self) -> int:
        """One byte."""
        return self.take(1)[0]

    def u16(self) -> int:
        """Two bytes."""
        return int.from_bytes(self.take(2), "little")

    def u32(self) -> int:
        """Four bytes."""
        return int.from_bytes(self.take(4), "little")

    def u64(self) -> int:
        """Eight bytes."""
        return int.from_bytes(self.take(8), "little")

    def text(self) -> bytes:
        """A string, in the host's bytes."""
        return self.take(self.u16())


@dataclass(frozen=True, slots=True)
class Qid:
    """What identifies a file: its kind, a version, a number that no other file of the share has."""

    kind: int
    version: int
    path: int

    def pack(self) -> bytes:
        """Return the 13 bytes."""
        return struct.pack("<BIQ", self.kind, self.version, self.path)


def pack_text(text: bytes) -> bytes:
    """Return a string's bytes with their count."""
    return struct.pack("<H", len(text)) + text

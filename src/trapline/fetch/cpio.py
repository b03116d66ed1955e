"""Writing an initramfs: a cpio archive in the "newc" format.

Linux, Documentation/driver-api/early-userspace/buffer-format.rst.
"""

from __future__ import annotations

_ALIGN, _DATA_ALIGN, _BLOCK, _HEADER = 4, 16, 512, 110
DIRECTORY, FILE, PROGRAM, LINK, DEVICE = 0o040755, 0o100644, 0o100755, 0o120777, 0o020600


class Cpio:
    """An archive under construction. Everything belongs to root, and no time is written: same input, same bytes."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._names: set[str] = set()

    def directory(self, name: str) -> None:
        """Add a directory and those above it."""
        if name and name not in self._names:
            self.directory(name.rpartition("/")[0])
            self._add(name, DIRECTORY)

    def file(self, name: str, data: bytes, mode: int = FILE) -> None:
        """Add a regular file and the directories above it."""
        self.directory(name.rpartition("/")[0])
        self._add(name, mode, data)

    def link(self, name: str, target: str) -> None:
        """Add a symbolic link and the directories above it."""
        self.directory(name.rpartition("/")[0])
        self._add(name, LINK, target.encode())

    def device(self, name: str, major: int, minor: int) -> None:
        """Add a character device."""
        self.directory(name.rpartition("/")[0])
        self._add(name, DEVICE, device=(major, minor))

    def finish(self) -> bytes:
        """Return the archive."""
        self._add("TRAILER!!!", 0)
        return bytes(self._data + bytes(-len(self._data) % _BLOCK))

    def _add(self, name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        self._names.add(name)
        encoded = name.encode() + b"\0"
        if data:
            # Contents that start at a multiple of eight are copied by words, not by bytes; more NULs behind the
            # name are the way there that the format allows.
            encoded += bytes(-(len(self._data) + _HEADER + len(encoded)) % _DATA_ALIGN)
        fields = (len(self._names), mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(encoded), 0)
        self._append(b"070701" + b"".join(b"%08X" % field for field in fields) + encoded)
        self._append(data)

    def _append(self, data: bytes) -> None:
        self._data += data
        self._data += bytes(-len(self._data) % _ALIGN)

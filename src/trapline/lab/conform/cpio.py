"""An initramfs as the kernel unpacks it: cpio, "newc" format (Linux, Documentation/driver-api/early-userspace)."""

from __future__ import annotations

from collections.abc import Mapping

_DIRECTORY, _EXECUTABLE, _DEVICE = 0o040755, 0o100755, 0o020600


class Archive:
    """An archive under construction."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._inode = 0
        self._directories: set[str] = set()

    def file(self, name: str, content: bytes) -> None:
        """Add a file that may be executed, and the directories above it."""
        self._parents(name)
        self._member(name, _EXECUTABLE, content)

    def device(self, name: str, major: int, minor: int) -> None:
        """Add a character device."""
        self._parents(name)
        self._member(name, _DEVICE, device=(major, minor))

    def finish(self) -> bytes:
        """Return the archive."""
        self._member("TRAILER!!!", 0)
        return bytes(self._data)

    def _parents(self, name: str) -> None:
        parts = name.split("/")[:-1]
        for n in range(len(parts)):
            directory = "/".join(parts[: n + 1])
            if directory not in self._directories:
                self._directories.add(directory)
                self._member(directory, _DIRECTORY)

    def _member(self, name: str, mode: int, content: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        self._inode += 1
        encoded = name.encode() + b"\0"
        words = (self._inode, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(encoded), 0)
        self._append(b"070701" + b"".join(b"%08X" % word for word in words) + encoded)
        self._append(content)

    def _append(self, data: bytes) -> None:
        self._data += data + bytes(-(len(self._data) + len(data)) % 4)


def initramfs(init: bytes, files: Mapping[str, bytes]) -> bytes:
    """Return an archive with `init`, a console, and files by path (without the leading slash)."""
    archive = Archive()
    archive.file("init", init)
    archive.device("dev/console", 5, 1)
    for name, content in files.items():
        archive.file(name, content)
    return archive.finish()

"""A small initramfs: a static busybox, an /init script, and files (cpio, "newc" format)."""

from __future__ import annotations

from pathlib import Path

_DIRECTORY, _FILE, _LINK, _DEVICE = 0o040755, 0o100755, 0o120777, 0o020666
_APPLETS = ("sh", "mount", "cat", "echo", "dmesg", "grep", "insmod", "poweroff", "uname", "sleep", "nproc", "find",
    "reboot", "time",
)  # fmt: skip


class _Archive:
    def __init__(self) -> None:
        self.data = bytearray()
        self._inode = 0

    def add(self, name: str, mode: int, content: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        """Append a member."""
        self._inode += 1
        encoded = name.encode() + b"\0"
        fields = (self._inode, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(encoded), 0)
        self._append(b"070701" + b"".join(b"%08X" % field for field in fields) + encoded)
        self._append(content)

    def _append(self, data: bytes) -> None:
        self.data += data + bytes(-(len(self.data) + len(data)) % 4)


def initramfs(busybox: Path, init: str, files: dict[str, Path] | None = None) -> bytes:
    """Build the archive; `init` is a shell script, `files` go to the root directory."""
    archive = _Archive()
    for directory in ("bin", "dev", "proc", "sys"):
        archive.add(directory, _DIRECTORY)
    archive.add("dev/console", _DEVICE, device=(5, 1))
    archive.add("bin/busybox", _FILE, busybox.read_bytes())
    for applet in _APPLETS:
        archive.add(f"bin/{applet}", _LINK, b"busybox")
    archive.add("init", _FILE, init.encode())
    for name, path in (files or {}).items():
        archive.add(name, _FILE, path.read_bytes())
    archive.add("TRAILER!!!", 0)
    return bytes(archive.data)

"""The host's files behind a share. Every file is held by a descriptor (O_PATH) and reached from its folder's, so that
no name, symbolic link or renaming leads out of the shared folder.
"""

from __future__ import annotations

import errno
import os
import stat

from trapline.machine.virtio.p9.wire import QT_DIR, QT_FILE, QT_SYMLINK, Qid

_HOLD = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class Node:
    """A file of the host that some fid names; closed with the last of them."""

    def __init__(self, descriptor: int, parent: Node | None, name: bytes) -> None:
        self.descriptor, self.parent, self.name = descriptor, parent, name

    def __del__(self) -> None:
        os.close(self.descriptor)

    @property
    def path(self) -> str:
        """A path that leads to this very file, whatever it is called by now."""
        return f"/proc/self/fd/{self.descriptor}"

    def status(self) -> os.stat_result:
        """fstat."""
        return os.fstat(self.descriptor)

    def child(self, name: bytes) -> Node:
        """Walk one step; the root's parent is the root."""
        if name == b"..":
            return self.parent or self
        if name == b".":
            return self
        check_name(name)
        return Node(os.open(name, _HOLD, dir_fd=self.descriptor), self, name)

    def open(self, flags: int) -> int:
        """Open for reading or writing: files and folders only, as opening anything else may block the machine."""
        mode = self.status().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise OSError(errno.ENXIO, "not a file")
        return os.open(self.path, flags | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)


class Share:
    """A shared folder."""

    def __init__(self, folder: str, *, read_only: bool) -> None:
        self.read_only = read_only
        self.root = Node(os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), None, b"")
        self._devices: dict[int, int] = {}

    def qid(self, status: os.stat_result) -> Qid:
        """Return what identifies a file; inode numbers of another file system are told apart."""
        kind = QT_DIR if stat.S_ISDIR(status.st_mode) else QT_SYMLINK if stat.S_ISLNK(status.st_mode) else QT_FILE
        device = self._devices.setdefault(status.st_dev, len(self._devices))
        version = status.st_mtime_ns ^ status.st_size << 8
        return Qid(kind, version & 0xFFFF_FFFF, (status.st_ino ^ device << 48) & 0xFFFF_FFFF_FFFF_FFFF)


def check_name(name: bytes) -> None:
    """Refuse what is not the name of an entry of a folder."""
    if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
        raise OSError(errno.EINVAL, "not a name")


def raise_file_limit() -> None:
    """Let this process open as many files as the host allows: a guest's cache holds many."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

"""The host's files behind a share. Every file is held by a descriptor (O_PATH) and reached from its folder's, so that
no name, symbolic link or renaming leads out of the shared folder.
"""

from __future__ import annotations

import errno
import os
import stat

from trapline.machine.virtio.descriptors import Quota, allotment
from trapline.machine.virtio.p9.wire import QT_DIR, QT_FILE, QT_SYMLINK, Qid

_HOLD = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN = os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK | os.O_NOFOLLOW
GIVEN_MODE = 0o1777  # what a guest may set: no file of the host runs as its owner because a guest says so


class Node:
    """A file of the host that some fid names; closed with the last of them."""

    def __init__(self, descriptor: int, parent: Node | None, name: bytes, quota: Quota) -> None:
        self.descriptor, self.parent, self.name, self._quota = descriptor, parent, name, quota

    def __del__(self) -> None:
        os.close(self.descriptor)
        self._quota.give()

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
        return Node(self._held(name, _HOLD, dir_fd=self.descriptor), self, name, self._quota)

    def open(self, flags: int) -> int:
        """Open for reading or writing: files and folders only, as opening anything else may block the machine."""
        mode = self.status().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise OSError(errno.ENXIO, "not a file")
        return self._held(self.path, flags | _OPEN & ~os.O_NOFOLLOW)  # the path is a link to the very file

    def create(self, name: bytes, flags: int, mode: int, *, exclusive: bool) -> tuple[Node, int, bool]:
        """Make a file, or open the one that is there, as `open` would; return it, its descriptor, and if it is new."""
        check_name(name)
        flags &= ~os.O_DIRECTORY
        try:
            opened = self._held(name, flags | _OPEN | os.O_CREAT | os.O_EXCL, mode & GIVEN_MODE, dir_fd=self.descriptor)
        except FileExistsError:
            if exclusive:
                raise
            node = self.child(name)
            if stat.S_ISLNK(node.status().st_mode):
                raise OSError(errno.ELOOP, "a symbolic link") from None
            return node, node.open(flags), False
        try:
            # Whatever has been renamed since, this is the file that was made.
            held = self._held(f"/proc/self/fd/{opened}", _HOLD & ~os.O_NOFOLLOW)
        except OSError:
            self.close(opened)
            raise
        return Node(held, self, name, self._quota), opened, True

    def close(self, opened: int) -> None:
        """Close what `open` or `create` returned."""
        os.close(opened)
        self._quota.give()

    def _held(self, path: str | bytes, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        self._quota.take()
        try:
            return os.open(path, flags, mode, dir_fd=dir_fd)
        except BaseException:
            self._quota.give()
            raise


class Share:
    """A shared folder; a guest may hold `descriptors` of this process (None: what one device may have)."""

    def __init__(self, folder: str, *, read_only: bool, descriptors: int | None = None) -> None:
        self.read_only = read_only
        self.quota = Quota(descriptors or allotment(1))
        self.quota.take()
        root = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.root = Node(root, None, b"", self.quota)
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

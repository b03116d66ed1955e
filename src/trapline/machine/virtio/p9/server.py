"""The 9P2000.L server: one method a request, in the protocol's words."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path

from trapline.machine.virtio.p9 import wire as w
from trapline.machine.virtio.p9.fids import Fid, Fids
from trapline.machine.virtio.p9.files import GIVEN_MODE, Node, Share, check_name
from trapline.machine.virtio.p9.wire import Reader, WireError, pack_text
from trapline.machine.virtio.span import Span
from trapline.machine.virtio.turn import DESCRIPTOR, FLUSH
from trapline.session.state.plain_state import StateError

LARGEST_MESSAGE = 512 << 10
_SMALLEST_MESSAGE = 4096
_MOST_NAMES = 16  # that one walk may name
_NAME_MAX = 255
_TYPE = 0o170000  # of a mode
_U64 = (1 << 64) - 1
_V9FS_MAGIC = 0x0102_1997
_WRITERS = frozenset(
    (w.TLCREATE, w.TSYMLINK, w.TMKNOD, w.TRENAME, w.TSETATTR, w.TLINK, w.TMKDIR, w.TRENAMEAT, w.TUNLINKAT, w.TWRITE,
     w.TREMOVE, w.TXATTRCREATE)
)  # fmt: skip


def _fail(code: int) -> OSError:
    return OSError(code, os.strerror(code))


class P9Server:
    """Answers one client's requests. Failures of the host go to the guest as error numbers.

    `spend` hears what a request costs beside the bytes that it moves (machine.virtio.turn).
    """

    def __init__(self, share: Share, spend: Callable[[int], None] = lambda cost: None) -> None:
        self.share, self._spend = share, spend
        self.msize = _SMALLEST_MESSAGE
        self._fids = Fids()
        self._handlers: dict[int, Callable[[Reader, Span], bytes]] = {
            w.TVERSION: self._version, w.TAUTH: self._auth, w.TATTACH: self._attach, w.TFLUSH: self._flush,
            w.TWALK: self._walk, w.TCLUNK: self._clunk, w.TREMOVE: self._remove, w.TGETATTR: self._getattr,
            w.TSETATTR: self._setattr, w.TLOPEN: self._lopen, w.TLCREATE: self._lcreate, w.TWRITE: self._write,
            w.TREADDIR: self._readdir, w.TFSYNC: self._fsync, w.TSTATFS: self._statfs, w.TREADLINK: self._readlink,
            w.TSYMLINK: self._symlink, w.TMKNOD: self._mknod, w.TMKDIR: self._mkdir, w.TLINK: self._link,
            w.TRENAME: self._rename, w.TRENAMEAT: self._renameat, w.TUNLINKAT: self._unlinkat, w.TLOCK: self._lock,
            w.TGETLOCK: self._getlock, w.TXATTRWALK: self._no_xattr, w.TXATTRCREATE: self._no_xattr,
        }  # fmt: skip

    def reset(self) -> None:
        """Forget every fid."""
        self._fids.clear()

    def state(self) -> dict[str, int]:
        """Return what a snapshot keeps: nothing, as long as the folder is not mounted."""
        if self._fids:
            raise StateError("the guest has mounted a shared folder, which no snapshot can hold: unmount it first")
        return {"msize": self.msize}

    def set_state(self, state: dict[str, int]) -> None:
        """Go on from a snapshot."""
        if not _SMALLEST_MESSAGE <= state["msize"] <= LARGEST_MESSAGE:
            raise ValueError(f"a message size of {state['msize']} bytes")
        self.msize = int(state["msize"])

    def answer(self, message: bytes, reply: Span) -> int:
        """Serve one message; fill in the reply and return its length, which is 0 if there is no room for one."""
        room = len(reply)
        if room < w.IO_HEADER:
            return 0
        _, kind, tag = w.HEADER.unpack_from(message)
        reader = Reader(message)
        reader.take(w.HEADER.size)
        try:
            if self.share.read_only and kind in _WRITERS:
                raise _fail(errno.EROFS)
            if kind == w.TREAD:
                return self._read(reader, tag, reply)
            handler = self._handlers.get(kind)
            if handler is None:
                raise _fail(errno.EOPNOTSUPP)
            body = handler(reader, reply)
            kind += 1
        except OSError as error:
            kind, body = w.RLERROR, struct.pack("<I", error.errno or errno.EIO)
        except (WireError, ValueError, OverflowError, struct.error):
            kind, body = w.RLERROR, struct.pack("<I", errno.EINVAL)
        size = w.HEADER.size + len(body)
        if size > room:
            kind, body, size = w.RLERROR, struct.pack("<I", errno.EMSGSIZE), w.IO_HEADER
        return reply.write(w.HEADER.pack(size, kind, tag) + body)

    # --- fids ---
    def _fid(self, reader: Reader) -> Fid:
        fid = self._fids.find(reader.u32())
        if fid is None:
            raise _fail(errno.EBADF)
        return fid

    def _io(self, fid: Fid) -> int:
        if fid.opened is None:
            raise _fail(errno.EBADF)
        return fid.opened

    def _name(self, reader: Reader) -> bytes:
        name = reader.text()
        check_name(name)
        return name

    def _qid_of(self, node: Node, name: bytes) -> bytes:
        status = os.stat(name, dir_fd=node.descriptor, follow_symlinks=False)
        return self.share.qid(status).pack()

    # --- session ---
    def _version(self, reader: Reader, reply: Span) -> bytes:
        msize, version = reader.u32(), reader.text()
        self.reset()
        if msize < _SMALLEST_MESSAGE:
            raise _fail(errno.EMSGSIZE)
        self.msize = min(msize, LARGEST_MESSAGE)
        return struct.pack("<I", self.msize) + pack_text(w.VERSION if version == w.VERSION else b"unknown")

    def _auth(self, reader: Reader, reply: Span) -> bytes:
        raise _fail(errno.EOPNOTSUPP)

    def _attach(self, reader: Reader, reply: Span) -> bytes:
        number, _, _, _, uid = reader.u32(), reader.u32(), reader.text(), reader.text(), reader.u32()
        if number in self._fids:
            raise _fail(errno.EBADF)
        self._fids.add(number, Fid(self.share.root, uid))
        return self.share.qid(self.share.root.status()).pack()

    def _flush(self, reader: Reader, reply: Span) -> bytes:
        return b""  # every request is answered before the next is read

    def _walk(self, reader: Reader, reply: Span) -> bytes:
        fid, number, count = self._fid(reader), reader.u32(), reader.u16()
        old = self._fids.find(number)
        if count > _MOST_NAMES or (old is not None and old is not fid):
            raise _fail(errno.EINVAL)
        names = [reader.text() for _ in range(count)]
        node = fid.node
        qids: list[bytes] = []
        for name in names:
            self._spend(DESCRIPTOR)
            try:
                node = node.child(name)
            except OSError:
                if not qids:
                    raise
                break
            qids.append(self.share.qid(node.status()).pack())
        if len(qids) == count:
            self._fids.add(number, Fid(node, fid.uid))
        return struct.pack("<H", len(qids)) + b"".join(qids)

    def _clunk(self, reader: Reader, reply: Span) -> bytes:
        number = reader.u32()
        if self._fids.drop(number) is None:
            raise _fail(errno.EBADF)
        return b""

    def _remove(self, reader: Reader, reply: Span) -> bytes:
        number = reader.u32()
        fid = self._fids.drop(number)
        if fid is None:
            raise _fail(errno.EBADF)
        parent = fid.node.parent
        if parent is None:
            raise _fail(errno.EBUSY)
        self._unlink(parent, fid.node.name, folder=stat.S_ISDIR(fid.node.status().st_mode))
        return b""

    # --- attributes ---
    def _getattr(self, reader: Reader, reply: Span) -> bytes:
        fid = self._fid(reader)
        s = fid.node.status()
        times = [part for t in (s.st_atime_ns, s.st_mtime_ns, s.st_ctime_ns) for part in _time(t)]
        return struct.pack("<Q", w.GETATTR_BASIC) + self.share.qid(s).pack() + struct.pack(
            "<3I15Q", s.st_mode, s.st_uid, s.st_gid, s.st_nlink, s.st_rdev, s.st_size, s.st_blksize, s.st_blocks,
            *times, 0, 0, 0, 0,
        )  # fmt: skip

    def _setattr(self, reader: Reader, reply: Span) -> bytes:
        fid, valid, mode, uid, gid = self._fid(reader), reader.u32(), reader.u32(), reader.u32(), reader.u32()
        size, atime, atime_ns, mtime, mtime_ns = (reader.u64() for _ in range(5))
        path, before = fid.node.path, fid.node.status()
        if valid & w.ATTR_MODE:
            if stat.S_ISLNK(before.st_mode):
                raise _fail(errno.EOPNOTSUPP)
            kept = before.st_mode & stat.S_ISGID if stat.S_ISDIR(before.st_mode) else 0  # the host's, for new files
            Path(path).chmod(mode & GIVEN_MODE | kept)
        if valid & (w.ATTR_UID | w.ATTR_GID):
            owner = uid if valid & w.ATTR_UID else -1
            group = gid if valid & w.ATTR_GID else -1
            # A machine that is no superuser's keeps the files its user's.
            with contextlib.suppress(OSError):
                os.chown(path, owner, group)
        if valid & w.ATTR_SIZE:
            if not stat.S_ISREG(before.st_mode):
                raise _fail(errno.EINVAL)
            os.truncate(path, size)
        if valid & (w.ATTR_ATIME | w.ATTR_MTIME):
            self._set_times(fid.node, valid, (_nanoseconds(atime, atime_ns), _nanoseconds(mtime, mtime_ns)))
        return b""

    def _set_times(self, node: Node, valid: int, times: tuple[int, int]) -> None:
        import time

        now, status = time.time_ns(), node.status()
        chosen = []
        for bit, setting, given, old in (
            (w.ATTR_ATIME, w.ATTR_ATIME_SET, times[0], status.st_atime_ns),
            (w.ATTR_MTIME, w.ATTR_MTIME_SET, times[1], status.st_mtime_ns),
        ):
            chosen.append(old if not valid & bit else given if valid & setting else now)
        os.utime(node.path, ns=(chosen[0], chosen[1]))

    def _statfs(self, reader: Reader, reply: Span) -> bytes:
        s = os.fstatvfs(self._fid(reader).node.descriptor)
        return struct.pack(
            "<II6QI", _V9FS_MAGIC, s.f_bsize, s.f_blocks, s.f_bfree, s.f_bavail, s.f_files, s.f_ffree, 0, _NAME_MAX
        )

    def _readlink(self, reader: Reader, reply: Span) -> bytes:
        return pack_text(os.readlink(b"", dir_fd=self._fid(reader).node.descriptor))

    def _no_xattr(self, reader: Reader, reply: Span) -> bytes:
        raise _fail(errno.EOPNOTSUPP)

    # --- open files ---
    def _lopen(self, reader: Reader, reply: Span) -> bytes:
        fid, flags = self._fid(reader), reader.u32()
        access = flags & w.OPEN_ACCESS
        if fid.opened is not None:
            raise _fail(errno.EBADF)
        if self.share.read_only and (access or flags & w.OPEN_TRUNC):
            raise _fail(errno.EROFS)
        fid.opened = fid.node.open(_open_flags(flags))
        return self.share.qid(fid.node.status()).pack() + struct.pack("<I", 0)

    def _lcreate(self, reader: Reader, reply: Span) -> bytes:
        fid, name, flags, mode, gid = self._fid(reader), self._name(reader), reader.u32(), reader.u32(), reader.u32()
        if fid.opened is not None:
            raise _fail(errno.EBADF)
        node, opened, new = fid.node.create(name, _open_flags(flags), mode, exclusive=flags & w.OPEN_EXCL != 0)
        if new:
            self._give(node.path, fid, gid)
        fid.node, fid.opened = node, opened
        return self.share.qid(fid.node.status()).pack() + struct.pack("<I", 0)

    def _own(self, node: Node, name: bytes, fid: Fid, gid: int) -> None:
        with contextlib.suppress(OSError):
            self._give(node.child(name).path, fid, gid)

    def _give(self, path: str, fid: Fid, gid: int) -> None:
        """A new file is the guest's user's, where this process may give files away."""
        with contextlib.suppress(OSError):
            os.chown(path, -1 if fid.uid == w.NO_FID else fid.uid, gid)

    def _read(self, reader: Reader, tag: int, reply: Span) -> int:
        fid, offset, count = self._fid(reader), reader.u64(), reader.u32()
        io = self._io(fid)
        count = min(count, self.msize - w.IO_HEADER, len(reply) - w.IO_HEADER)
        if offset >= 1 << 63:
            raise _fail(errno.EINVAL)
        start = reply.views(w.IO_HEADER)
        try:
            done = os.preadv(io, reply.views(count), offset) if count else 0
            head = w.HEADER.pack(w.IO_HEADER + done, w.TREAD + 1, tag) + struct.pack("<I", done)
        except OSError as error:
            done = 0
            head = w.HEADER.pack(w.IO_HEADER, w.RLERROR, tag) + struct.pack("<I", error.errno or errno.EIO)
        return Span(start).write(head) + done

    def _write(self, reader: Reader, reply: Span) -> bytes:
        fid, offset, count = self._fid(reader), reader.u64(), reader.u32()
        return struct.pack("<I", os.pwrite(self._io(fid), reader.take(count), offset))

    def _fsync(self, reader: Reader, reply: Span) -> bytes:
        self._spend(FLUSH)
        os.fsync(self._io(self._fid(reader)))
        return b""

    def _readdir(self, reader: Reader, reply: Span) -> bytes:
        fid, offset, count = self._fid(reader), reader.u64(), reader.u32()
        self._io(fid)
        node = fid.node
        entries, read = self._fids.listings.names(fid, again=offset == 0)
        self._spend(read << 10)
        room = min(count, self.msize - w.IO_HEADER, len(reply) - w.IO_HEADER)
        parts, size = [], 0
        for at in range(offset, len(entries)):
            name = entries[at]
            try:
                above = node.parent or node
                qid = self.share.qid(above.status()).pack() if name == b".." else self._qid_of(node, name)
            except FileNotFoundError:
                continue  # it has gone since the list was made
            kind = 4 if qid[0] == w.QT_DIR else 10 if qid[0] == w.QT_SYMLINK else 0
            entry = qid + struct.pack("<QB", at + 1, kind) + pack_text(name)
            if size + len(entry) > room:
                break
            parts.append(entry)
            size += len(entry)
        return struct.pack("<I", size) + b"".join(parts)

    def _lock(self, reader: Reader, reply: Span) -> bytes:
        self._fid(reader)
        return b"\0"  # one client: its own kernel keeps its locks

    def _getlock(self, reader: Reader, reply: Span) -> bytes:
        self._fid(reader)
        reader.u8()
        start, length, process, client = reader.u64(), reader.u64(), reader.u32(), reader.text()
        return struct.pack("<BQQI", w.UNLOCKED, start, length, process) + pack_text(client)

    # --- folders ---
    def _symlink(self, reader: Reader, reply: Span) -> bytes:
        fid, name, target, gid = self._fid(reader), self._name(reader), reader.text(), reader.u32()
        os.symlink(target, name, dir_fd=fid.node.descriptor)
        self._own(fid.node, name, fid, gid)
        return self._qid_of(fid.node, name)

    def _mknod(self, reader: Reader, reply: Span) -> bytes:
        fid, name, mode, _, _, gid = (
            self._fid(reader), self._name(reader), reader.u32(), reader.u32(), reader.u32(), reader.u32()
        )  # fmt: skip
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            raise _fail(errno.EPERM)  # a guest makes no devices of the host
        os.mknod(name, mode & (GIVEN_MODE | _TYPE), dir_fd=fid.node.descriptor)
        self._own(fid.node, name, fid, gid)
        return self._qid_of(fid.node, name)

    def _mkdir(self, reader: Reader, reply: Span) -> bytes:
        fid, name, mode, gid = self._fid(reader), self._name(reader), reader.u32(), reader.u32()
        os.mkdir(name, mode & GIVEN_MODE, dir_fd=fid.node.descriptor)
        self._own(fid.node, name, fid, gid)
        return self._qid_of(fid.node, name)

    def _link(self, reader: Reader, reply: Span) -> bytes:
        folder, fid, name = self._fid(reader), self._fid(reader), self._name(reader)
        os.link(fid.node.path, name, dst_dir_fd=folder.node.descriptor)
        return b""

    def _rename(self, reader: Reader, reply: Span) -> bytes:
        fid, folder, name = self._fid(reader), self._fid(reader), self._name(reader)
        parent = fid.node.parent
        if parent is None:
            raise _fail(errno.EBUSY)
        os.rename(fid.node.name, name, src_dir_fd=parent.descriptor, dst_dir_fd=folder.node.descriptor)
        fid.node.parent, fid.node.name = folder.node, name
        return b""

    def _renameat(self, reader: Reader, reply: Span) -> bytes:
        old, old_name, new, new_name = self._fid(reader), self._name(reader), self._fid(reader), self._name(reader)
        os.rename(old_name, new_name, src_dir_fd=old.node.descriptor, dst_dir_fd=new.node.descriptor)
        return b""

    def _unlinkat(self, reader: Reader, reply: Span) -> bytes:
        fid, name, flags = self._fid(reader), self._name(reader), reader.u32()
        self._unlink(fid.node, name, folder=flags & w.REMOVE_DIR != 0)
        return b""

    def _unlink(self, node: Node, name: bytes, *, folder: bool) -> None:
        if folder:
            os.rmdir(name, dir_fd=node.descriptor)
        else:
            os.unlink(name, dir_fd=node.descriptor)


def _time(nanoseconds: int) -> tuple[int, int]:
    """Return a time as the protocol's seconds and nanoseconds: those before 1970 are negative, in 64 bits."""
    seconds, rest = divmod(nanoseconds, 10**9)
    return seconds & _U64, rest


def _nanoseconds(seconds: int, rest: int) -> int:
    return (seconds - (1 << 64) if seconds >> 63 else seconds) * 10**9 + rest


def _open_flags(flags: int) -> int:
    """Translate the protocol's flags; the rest (direct, large files...) means nothing here."""
    found = (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR)[flags & w.OPEN_ACCESS]
    for bit, host in ((w.OPEN_TRUNC, os.O_TRUNC), (w.OPEN_DIRECTORY, os.O_DIRECTORY)):
        if flags & bit:
            found |= host
    return found

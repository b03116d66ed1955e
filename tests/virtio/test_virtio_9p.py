"""Sharing a folder: the 9P2000.L server, what it does with files, and what it keeps a guest from."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct
from pathlib import Path

import pytest
from p9_client import ROOM, Client, P9Error, text

from trapline.machine.virtio import numbers as n
from trapline.machine.virtio.p9 import wire as w
from trapline.machine.virtio.p9.device import P9Device
from trapline.machine.virtio.share import ShareArgument, open_share, parse_share
from trapline.session.state.plain_state import StateError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    share = tmp_path / "shared"
    (share / "sub").mkdir(parents=True)
    (share / "file").write_bytes(b"contents")
    (share / "sub" / "inner").write_bytes(b"inner")
    (share / "out").symlink_to("../secret")
    (share / "up").symlink_to("..")
    (tmp_path / "secret").write_bytes(b"secret")
    return share


def refused(client: Client, kind: int, body: bytes) -> int:
    """The error number that a request gets."""
    with pytest.raises(P9Error) as caught:
        client.ask(kind, body)
    return caught.value.errno


def test_mount_tag(folder: Path) -> None:
    """The configuration holds the tag with its length."""
    driver = Client(folder).driver
    assert driver.get(n.CONFIG, 2) == 3
    assert bytes(driver.get(n.CONFIG + 2 + k, 1) for k in range(3)) == b"tag"


def test_version_is_negotiated(folder: Path) -> None:
    """Another dialect is answered with unknown; the message size is the smaller of the two."""
    client = Client(folder)
    assert client.ask(w.TVERSION, struct.pack("<I", 1 << 30) + text("9P2000.u"))[6:] == b"unknown"
    assert client.ask(w.TVERSION, struct.pack("<I", 1 << 30) + text("9P2000.L"))[:4] == struct.pack("<I", 512 << 10)
    assert refused(client, w.TVERSION, struct.pack("<I", 100) + text("9P2000.L")) == errno.EMSGSIZE


def test_read_a_file(folder: Path) -> None:
    """Walk, open, read from anywhere; behind the end there is nothing."""
    client = Client(folder)
    assert client.walk(1, "sub", "inner") == 2
    client.open(1)
    assert client.read(1, 0, 100) == b"inner" and client.read(1, 3, 1) == b"e" and client.read(1, 99, 4) == b""
    assert client.read(1, 0, 100, room=w.IO_HEADER + 2) == b"in"


def test_list_a_folder(folder: Path) -> None:
    """Entries come sorted, with . and .., in pieces as small as the client asks for."""
    client = Client(folder)
    client.walk(1)
    client.open(1)
    assert client.names(1) == client.names(1, 60) == [b".", b"..", b"file", b"out", b"sub", b"up"]


def test_create_write_and_remove(folder: Path) -> None:
    """Files, folders, links and symbolic links can be made, renamed and removed."""
    client = Client(folder)
    client.walk(1)
    client.ask(w.TLCREATE, struct.pack("<I", 1) + text("new") + struct.pack("<III", 0o1102, 0o640, 0))
    assert client.write(1, 2, b"abc") == 3
    assert (folder / "new").read_bytes() == b"\0\0abc" and stat.S_IMODE((folder / "new").stat().st_mode) == 0o640
    client.ask(w.TFSYNC, struct.pack("<II", 1, 0))
    client.ask(w.TMKDIR, struct.pack("<I", 0) + text("made") + struct.pack("<II", 0o700, 0))
    client.ask(w.TSYMLINK, struct.pack("<I", 0) + text("link") + text("new") + struct.pack("<I", 0))
    client.walk(2, "link")
    assert client.ask(w.TREADLINK, struct.pack("<I", 2)) == text("new")
    client.walk(3, "made")
    client.ask(w.TLINK, struct.pack("<II", 3, 1) + text("hard"))
    assert (folder / "made" / "hard").read_bytes() == b"\0\0abc"
    client.ask(w.TRENAMEAT, struct.pack("<I", 3) + text("hard") + struct.pack("<I", 0) + text("moved"))
    client.walk(4, "moved")
    client.ask(w.TRENAME, struct.pack("<II", 4, 3) + text("again"))
    client.ask(w.TREMOVE, struct.pack("<I", 4))
    client.ask(w.TUNLINKAT, struct.pack("<I", 0) + text("made") + struct.pack("<I", w.REMOVE_DIR))
    client.ask(w.TUNLINKAT, struct.pack("<I", 0) + text("link") + struct.pack("<I", 0))
    assert sorted(p.name for p in folder.iterdir()) == ["file", "new", "out", "sub", "up"]


def test_attributes(folder: Path) -> None:
    """Attributes are the host's; mode, size and times can be set."""
    client = Client(folder)
    client.walk(1, "file")
    answer = client.ask(w.TGETATTR, struct.pack("<IQ", 1, w.GETATTR_BASIC))
    mode, uid, _, links, _, size = struct.unpack_from("<3I3Q", answer, 8 + 13)
    assert stat.S_ISREG(mode) and uid == os.getuid() and links == 1 and size == 8
    bits = w.ATTR_MODE | w.ATTR_SIZE | w.ATTR_MTIME | w.ATTR_MTIME_SET
    client.ask(w.TSETATTR, struct.pack("<5I5Q", 1, bits, 0o600, 0, 0, 3, 0, 0, 1000, 5)[: 4 * 5 + 8 * 5])
    status = (folder / "file").stat()
    assert status.st_size == 3 and stat.S_IMODE(status.st_mode) == 0o600 and status.st_mtime_ns == 1000 * 10**9 + 5


def test_an_open_file_survives_its_removal(folder: Path) -> None:
    """A fid holds the file, not its name."""
    client = Client(folder)
    client.walk(1, "file")
    client.open(1, 2)
    client.ask(w.TUNLINKAT, struct.pack("<I", 0) + text("file") + struct.pack("<I", 0))
    assert client.read(1, 0, 100) == b"contents" and client.write(1, 0, b"C") == 1
    client.ask(w.TGETATTR, struct.pack("<IQ", 1, w.GETATTR_BASIC))


def test_nothing_leads_out_of_the_folder(folder: Path) -> None:
    """Neither .., nor a name with a slash, nor a symbolic link that the server would follow."""
    client = Client(folder)
    assert client.walk(1, "..", "..", "file") == 3
    for name in ("../secret", "sub/inner", "", "a\0b"):
        assert refused(client, w.TWALK, struct.pack("<IIH", 0, 2, 1) + text(name)) == errno.EINVAL
    assert client.walk(3, "up", "secret") == 1
    assert refused(client, w.TLOPEN, struct.pack("<II", 3, 0)) == errno.EBADF
    assert client.walk(4, "out") == 1
    assert refused(client, w.TLOPEN, struct.pack("<II", 4, 0)) == errno.ENXIO
    create = struct.pack("<I", 0) + text("out") + struct.pack("<III", 0o102, 0o600, 0)
    assert refused(client, w.TLCREATE, create) in (errno.ELOOP, errno.EEXIST)
    for name in ("..", ".", "x/y"):
        assert (
            refused(client, w.TMKDIR, struct.pack("<I", 0) + text(name) + struct.pack("<II", 0o700, 0)) == errno.EINVAL
        )
        assert refused(client, w.TUNLINKAT, struct.pack("<I", 0) + text(name) + struct.pack("<I", 0)) == errno.EINVAL
    assert (folder.parent / "secret").read_bytes() == b"secret"


def test_a_guest_cannot_block_the_machine(folder: Path) -> None:
    """Opening a pipe would wait for its other end: it is refused. So are device nodes."""
    client = Client(folder)
    client.ask(w.TMKNOD, struct.pack("<I", 0) + text("pipe") + struct.pack("<4I", stat.S_IFIFO | 0o600, 0, 0, 0))
    client.walk(1, "pipe")
    assert refused(client, w.TLOPEN, struct.pack("<II", 1, 0)) == errno.ENXIO
    node = struct.pack("<I", 0) + text("null") + struct.pack("<4I", stat.S_IFCHR | 0o600, 1, 3, 0)
    assert refused(client, w.TMKNOD, node) == errno.EPERM


def test_read_only(folder: Path) -> None:
    """Every request that would change something fails with EROFS."""
    client = Client(folder, read_only=True)
    client.walk(1, "file")
    for kind in (w.TLCREATE, w.TSYMLINK, w.TMKNOD, w.TRENAME, w.TSETATTR, w.TLINK, w.TMKDIR, w.TRENAMEAT, w.TUNLINKAT,
                 w.TWRITE, w.TREMOVE):  # fmt: skip
        assert refused(client, kind, bytes(64)) == errno.EROFS
    for flags in (1, 2, w.OPEN_TRUNC):
        assert refused(client, w.TLOPEN, struct.pack("<II", 1, flags)) == errno.EROFS
    client.open(1)
    assert client.read(1, 0, 100) == b"contents"


def test_bad_requests_get_an_error_number(folder: Path) -> None:
    """Unknown fids, unknown messages, messages cut short, absurd offsets and counts."""
    client = Client(folder)
    assert refused(client, w.TGETATTR, struct.pack("<IQ", 99, 0)) == errno.EBADF
    assert refused(client, w.TCLUNK, struct.pack("<I", 99)) == errno.EBADF
    assert refused(client, 99, b"") == errno.EOPNOTSUPP
    assert refused(client, w.TAUTH, b"") == errno.EOPNOTSUPP
    assert refused(client, w.TWALK, b"\0\0") == errno.EINVAL
    assert refused(client, w.TXATTRWALK, struct.pack("<II", 0, 1) + text("user.x")) == errno.EOPNOTSUPP
    assert refused(client, w.TWALK, struct.pack("<IIH", 0, 1, 17)) == errno.EINVAL
    client.walk(1, "file")
    assert refused(client, w.TREAD, struct.pack("<IQI", 1, 0, 10)) == errno.EBADF
    client.open(1, 2)
    assert refused(client, w.TREAD, struct.pack("<IQI", 1, 1 << 63, 10)) == errno.EINVAL
    assert refused(client, w.TWRITE, struct.pack("<IQI", 1, 1 << 63, 1) + b"x") in (errno.EINVAL, errno.EFBIG)
    assert refused(client, w.TWRITE, struct.pack("<IQI", 1, 0, 100) + b"x") == errno.EINVAL
    assert client.read(1, 0, 0xFFFF_FFFF) == b"contents"
    assert client.ask(w.TCLUNK, struct.pack("<I", 1)) == b""


@pytest.mark.parametrize(
    ("readable", "room"),
    [([b"abc"], ROOM), ([w.HEADER.pack(100, w.TCLUNK, 0)], ROOM), ([w.HEADER.pack(7, w.TFLUSH, 0)], 6), ([], ROOM)],
)
def test_what_is_no_request_needs_a_reset(folder: Path, readable: list[bytes], room: int) -> None:
    """A header cut short, a size that the buffer does not have, no room for an answer."""
    driver = Client(folder).driver
    driver.chain(readable, [room])
    driver.offer(0)
    driver.put(n.QUEUE_NOTIFY, 0)
    assert driver.needs_reset


def descriptors(folder: Path) -> int:
    """How many of this process' descriptors are a folder or something in it."""
    count = 0
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            count += entry.readlink().is_relative_to(folder)
    return count


def test_reset_closes_every_file(folder: Path) -> None:
    """After a reset of the device no descriptor of a client is left but that of the folder."""
    client = Client(folder)
    for fid in range(1, 20):
        client.walk(fid, "file")
        client.open(fid)
    assert descriptors(folder) >= 20
    client.driver.put(n.STATUS, 0)
    assert descriptors(folder) == 1
    client.driver.mmio.device.close()


def test_option(folder: Path) -> None:
    """DIR[:TAG][,ro]; a name with a colon is a folder if there is one."""
    assert parse_share("dir") == ShareArgument(Path("dir"), "share")
    assert parse_share("dir:work,ro", 1) == ShareArgument(Path("dir"), "work", True)
    assert parse_share("dir", 2).tag == "share2"
    odd = folder / "a:b"
    odd.mkdir()
    assert parse_share(str(odd)) == ShareArgument(odd, "share")
    for wrong, message in ((":tag", "no folder"), ("dir:a b", "the tag"), ("dir,fast", "'fast' is not known")):
        with pytest.raises(ValueError, match=message):
            parse_share(wrong)
    for missing in (folder / "none", folder / "file"):
        with pytest.raises(ValueError, match="cannot share this folder"):
            open_share(ShareArgument(missing))


def test_a_mounted_folder_is_in_no_snapshot(folder: Path) -> None:
    """What a client has open is the host's: a snapshot says to unmount, and works before and after."""
    device = open_share(ShareArgument(folder))
    assert device._server.state() == {"msize": 4096}
    client = Client(folder)
    device = client.driver.mmio.device
    assert isinstance(device, P9Device)
    with pytest.raises(StateError, match="unmount it first"):
        device._server.state()

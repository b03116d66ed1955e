"""What a guest must not do to the host through a shared folder."""

from __future__ import annotations

import errno
import os
import stat
import struct
from pathlib import Path

import pytest
from p9_client import Client, P9Error, text
from virtio_driver import Driver

from trapline.machine.virtio.descriptors import Quota, allotment
from trapline.machine.virtio.p9 import wire as w
from trapline.machine.virtio.p9.fids import Fid, Fids
from trapline.machine.virtio.p9.files import Share
from trapline.machine.virtio.share import ShareArgument, open_share


def refused(client: Client, kind: int, body: bytes) -> int:
    """The error number that a request gets."""
    with pytest.raises(P9Error) as error:
        client.ask(kind, body)
    return error.value.errno


def create(client: Client, name: str, flags: int, mode: int = 0o644, fid: int = 99) -> bytes:
    """Tlcreate in the root."""
    client.walk(fid)
    return client.ask(w.TLCREATE, struct.pack("<I", fid) + text(name) + struct.pack("<III", flags, mode, 0))


def attributes(client: Client, fid: int) -> tuple[int, ...]:
    """Tgetattr: mode, then the times in seconds (of access, of change, of the status)."""
    data = client.ask(w.TGETATTR, struct.pack("<IQ", fid, w.GETATTR_BASIC))
    mode, *rest = struct.unpack_from("<3I5Q6q", data, 8 + 13)
    return mode, *rest[7::2]


@pytest.mark.parametrize("seconds", [-1, -(1 << 31) - 5, -300_000_000, 0, 1 << 33])
def test_times_before_1970(tmp_path: Path, seconds: int) -> None:
    """A file of any date has attributes, negative ones are 64-bit numbers, and the guest can set them."""
    (tmp_path / "old").touch()
    os.utime(tmp_path / "old", ns=(seconds * 10**9 + 7, seconds * 10**9 + 7))
    seen = (tmp_path / "old").stat().st_mtime_ns // 10**9  # what the host's file system made of it
    client = Client(tmp_path)
    client.walk(1, "old")
    assert attributes(client, 1)[1:3] == (seen, seen)
    bits = w.ATTR_MTIME | w.ATTR_MTIME_SET
    client.ask(w.TSETATTR, struct.pack("<5I3QqQ", 1, bits, 0, 0, 0, 0, 0, 0, seconds - 1, 3))
    os.utime(tmp_path / "old", ns=(0, (seconds - 1) * 10**9 + 3))
    assert attributes(client, 1)[2] == (tmp_path / "old").stat().st_mtime_ns // 10**9


@pytest.mark.parametrize("kind", ["pipe", "null", "socket", "link"])
@pytest.mark.parametrize("flags", [0, 1, 2, w.OPEN_TRUNC | 2, w.OPEN_EXCL | 2, w.OPEN_DIRECTORY])
def test_nothing_but_files_is_opened(tmp_path: Path, kind: str, flags: int) -> None:
    """Neither Tlopen nor Tlcreate opens a pipe, a device node, a socket or a symbolic link that is there."""
    place = tmp_path / kind
    if kind == "link":
        place.symlink_to("/dev/null")
    elif kind == "null":
        if os.getuid():
            return  # only a superuser can make one
        os.mknod(place, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    else:
        os.mknod(place, (stat.S_IFIFO if kind == "pipe" else stat.S_IFSOCK) | 0o666)
    client = Client(tmp_path)
    before = open_files(tmp_path)
    client.walk(1, kind)
    assert refused(client, w.TLOPEN, struct.pack("<II", 1, flags)) == errno.ENXIO
    with pytest.raises(P9Error) as error:
        create(client, kind, flags)
    wanted = errno.EEXIST if flags & w.OPEN_EXCL else errno.ELOOP if kind == "link" else errno.ENXIO
    assert error.value.errno == wanted
    client.ask(w.TCLUNK, struct.pack("<I", 1))
    assert open_files(tmp_path) == before


def open_files(folder: Path) -> list[str]:
    """What this process has open below a folder."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(link.readlink()))
        except FileNotFoundError:
            continue
    return sorted(name for name in found if name.startswith(str(folder) + "/"))


def test_create_opens_what_is_there(tmp_path: Path) -> None:
    """Tlcreate over a file opens it, with its contents and its owner, unless it must be new."""
    (tmp_path / "file").write_bytes(b"contents")
    before, client = (tmp_path / "file").stat(), Client(tmp_path)
    create(client, "file", 2, 0o777)
    assert client.read(99, 0, 100) == b"contents" and (tmp_path / "file").stat() == before
    with pytest.raises(P9Error) as error:
        create(client, "file", 2 | w.OPEN_EXCL, fid=98)
    assert error.value.errno == errno.EEXIST


def test_no_set_user_id_on_the_host(tmp_path: Path) -> None:
    """Whatever a guest makes or changes runs as nobody else: set-user-ID and set-group-ID vanish."""
    client = Client(tmp_path)
    create(client, "made", 2, 0o6755)
    client.ask(w.TMKDIR, struct.pack("<I", 0) + text("folder") + struct.pack("<II", 0o6755, 0))
    node = struct.pack("<4I", stat.S_IFREG | 0o6755, 0, 0, 0)
    client.ask(w.TMKNOD, struct.pack("<I", 0) + text("node") + node)
    (tmp_path / "host").touch()
    (tmp_path / "host").chmod(0o4755)
    for number, name in enumerate(("made", "folder", "node", "host"), start=20):
        client.walk(number, name)
        client.ask(w.TSETATTR, struct.pack("<5I5Q", number, w.ATTR_MODE, 0o6755, 0, 0, 0, 0, 0, 0, 0))
        assert (tmp_path / name).stat().st_mode & 0o7777 == 0o755, name


def test_a_folder_keeps_the_hosts_set_group_id(tmp_path: Path) -> None:
    """The bit that makes new files the group's is the host's to set, and a guest's chmod does not take it away."""
    (tmp_path / "group").mkdir()
    (tmp_path / "group").chmod(0o2755)
    client = Client(tmp_path)
    client.walk(1, "group")
    client.ask(w.TSETATTR, struct.pack("<5I5Q", 1, w.ATTR_MODE, 0o700, 0, 0, 0, 0, 0, 0, 0))
    assert (tmp_path / "group").stat().st_mode & 0o7777 == 0o2700


def test_a_guest_holds_no_more_descriptors_than_its_share(tmp_path: Path) -> None:
    """Walks and opens beyond the share's number get EMFILE; what is clunked can be had again."""
    (tmp_path / "d").mkdir()
    driver = Driver(open_share(ShareArgument(tmp_path), 10))
    client = Client.of(driver)
    for fid in range(1, 10):
        client.walk(fid, "d")
    assert refused(client, w.TWALK, struct.pack("<IIH", 0, 10, 1) + text("d")) == errno.EMFILE
    assert refused(client, w.TLOPEN, struct.pack("<II", 1, 0)) == errno.EMFILE
    with pytest.raises(P9Error) as error:
        create(client, "new", 2)
    assert error.value.errno == errno.EMFILE
    for fid in (2, 3):
        client.ask(w.TCLUNK, struct.pack("<I", fid))
    client.open(1)
    client.walk(2, "d")
    driver.mmio.device.close()
    assert not open_files(tmp_path)


def test_a_deep_walk_is_forgotten_at_once(tmp_path: Path) -> None:
    """A fid holds its whole way from the root; no depth is too much to close."""
    deep, client = tmp_path, Client(tmp_path)
    client.walk(1)
    for _ in range(400):
        client.ask(w.TMKDIR, struct.pack("<I", 1) + text("d") + struct.pack("<II", 0o755, 0))
        client.walk(1, "d", fid=1)
    client.ask(w.TCLUNK, struct.pack("<I", 1))
    assert not open_files(deep)


def test_a_client_has_so_many_numbers(tmp_path: Path) -> None:
    """Fids that cost no descriptor are counted, too; one that is given anew is no more than before."""
    share = Share(str(tmp_path), read_only=True)
    table = Fids(most=2)
    for number in (1, 2, 2):
        table.add(number, Fid(share.root, 0))
    with pytest.raises(OSError) as error:
        table.add(3, Fid(share.root, 0))
    assert error.value.errno == errno.EMFILE and len(table) == 2


def test_names_of_open_folders_are_bounded(tmp_path: Path) -> None:
    """The oldest listings are forgotten and read again; a folder that is too large alone is refused."""
    for name in range(20):
        (tmp_path / f"{name:02}").touch()
    node = Share(str(tmp_path), read_only=True).root
    table = Fids(most_listed=20 * 70)
    found = [Fid(node, 0, node.open(0)) for _ in range(3)]
    names = [table.listings.names(fid, again=True)[0] for fid in found]
    assert names[0] == names[1] and table.listings.names(found[2], again=False)[1] == 0
    assert table.listings.names(found[0], again=False)[1] == 22
    with pytest.raises(OSError, match="more names"):
        Fids(most_listed=100).listings.names(found[0], again=True)
    for fid in found:
        fid.close()


def test_what_is_left_for_the_machine() -> None:
    """A guest's devices share what the process may open, less what it needs itself."""
    one, two = allotment(1), allotment(2)
    assert 8 <= two <= one <= 1 << 16
    quota = Quota(1)
    quota.take()
    with pytest.raises(OSError) as error:
        quota.take()
    assert error.value.errno == errno.EMFILE
    quota.give()
    quota.take()

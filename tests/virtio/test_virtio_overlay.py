"""Disks that a guest may write and that must not change; formats that a guest must not choose."""

from __future__ import annotations

import os
import random
import struct
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qcow2_image import CLUSTER, qcow2
from virtio_driver import Driver

from trapline.machine.virtio.blk import S_IOERR, S_OK, T_OUT, BlockDevice
from trapline.machine.virtio.disk import Disk, Overlay, RawDisk
from trapline.machine.virtio.drive import DriveArgument, open_drive
from trapline.machine.virtio.qcow2 import check_complete
from trapline.session.state.plain_state import StateError

SIZE = 64 << 10
MIB = 1 << 20


def contents(disk: Disk) -> bytes:
    """All bytes of a disk."""
    data = bytearray(disk.size)
    disk.read(0, [memoryview(data)])
    return bytes(data)


def resident() -> int:
    """Bytes of this process' own memory."""
    fields = Path("/proc/self/statm").read_text().split()
    return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["write", "zero", "unmap"]), st.integers(0, SIZE - 1), st.integers(1, 20_000)),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(ACTIONS, st.integers(0, 1 << 30))
def test_a_layer_reads_as_a_disk_would(tmp_path_factory: pytest.TempPathFactory, actions: list, seed: int) -> None:
    """After any writes and zeros every byte is what it would be on a disk of its own, and the image is as it was."""
    path = tmp_path_factory.mktemp("disk") / "image"
    noise = random.Random(seed)
    model = bytearray(noise.randbytes(SIZE))
    path.write_bytes(model)
    before = path.read_bytes()
    disk = Overlay(RawDisk(path, read_only=True))
    for kind, offset, size in actions:
        size = min(size, SIZE - offset)
        data = noise.randbytes(size) if kind == "write" else bytes(size)
        model[offset : offset + size] = data
        if kind == "write":
            disk.write(offset, [memoryview(data[: size // 3]), memoryview(data[size // 3 :])])
        else:
            disk.zero(offset, size, unmap=kind == "unmap")
        at = noise.randrange(SIZE)
        part = bytearray(min(SIZE - at, 9000))
        disk.read(at, [memoryview(part)[:100], memoryview(part)[100:]])
        assert part == model[at : at + len(part)]
    assert contents(disk) == model and path.read_bytes() == before
    again = Overlay(RawDisk(path, read_only=True))
    again.set_state(disk.state())
    assert contents(again) == model
    disk.close()
    again.close()


def test_discarding_a_huge_disk_takes_no_memory(tmp_path: Path) -> None:
    """64 GiB of zeros, or of discards, are some megabytes of notes."""
    path = tmp_path / "big"
    path.touch()
    os.truncate(path, 64 << 30)
    disk = Overlay(RawDisk(path, read_only=True))
    before, started = resident(), time.process_time()
    for at in range(0, 64 << 30, 32 << 20):
        disk.zero(at, 32 << 20, unmap=True)
    assert resident() - before < 40 * MIB and time.process_time() - started < 3
    disk.close()


def test_writes_take_no_memory(tmp_path: Path) -> None:
    """What a guest writes is in a file without a name, whose place TMPDIR says."""
    path = tmp_path / "big"
    path.touch()
    os.truncate(path, 8 << 40)
    disk = Overlay(RawDisk(path, read_only=True))
    data, before = memoryview(bytes(4 * MIB)), resident()
    for number in range(16):
        disk.write(number << 32, [data])
    assert resident() - before < 40 * MIB
    assert sorted(p.name for p in tmp_path.iterdir()) == ["big"]
    disk.close()


def test_too_much_for_a_snapshot_is_said(tmp_path: Path) -> None:
    """A snapshot of the machine holds the writes of such a disk as far as it has room; zeros take none."""
    path = tmp_path / "image"
    path.touch()
    os.truncate(path, 1 << 30)
    disk = Overlay(RawDisk(path, read_only=True))
    disk.zero(0, 1 << 30, unmap=True)
    assert disk.state()["zeros"] == [(0, 1 << 30)]
    for at in range(0, 300 * MIB, 4 * MIB):
        disk.write(at, [memoryview(bytes(4 * MIB))])
    with pytest.raises(StateError, match="bytes of writes, a snapshot holds 268435456"):
        disk.state()
    disk.close()


@pytest.mark.parametrize("place", [-1, SIZE])
def test_a_snapshot_of_another_disk_is_refused(tmp_path: Path, place: int) -> None:
    """Saved writes that do not lie on the disk are an error, not a larger disk."""
    path = tmp_path / "image"
    path.write_bytes(bytes(SIZE))
    disk = Overlay(RawDisk(path, read_only=True))
    for part in ({"written": [(place, b"x")]}, {"zeros": [(place, 1)]}):
        with pytest.raises(ValueError, match="behind the end"):
            disk.set_state({"image": disk.state()["image"], "written": [], "zeros": [], **part})
    disk.close()


def test_where_there_is_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host without room for the writes is a disk that fails: the guest is told, and the run goes on."""
    path = tmp_path / "image"
    path.write_bytes(bytes(SIZE))
    device = BlockDevice(Overlay(RawDisk(path, read_only=True)))
    driver = Driver(device)
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: (_ for _ in ()).throw(OSError(28, "No space left")))
    (status,) = driver.request([struct.pack("<IIQ", T_OUT, 0, 0), bytes(512)], [1])
    assert status == bytes((S_IOERR,)) and not driver.needs_reset


# --- formats ---
HEADERS = {
    "qcow2": qcow2({}, 4 * CLUSTER)[:512],
    "vmdk": b"KDMV".ljust(512, b"\0"),
    "vhd": b"conectix".ljust(512, b"\0"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_guest_cannot_change_its_disks_format(tmp_path: Path, name: str) -> None:
    """On a disk that nobody called raw, the first sector is not written if it would begin like another format."""
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(SIZE))
    driver = Driver(BlockDevice(open_drive(DriveArgument(path))))
    header = struct.pack("<IIQ", T_OUT, 0, 0)
    for pieces in ([HEADERS[name]], [HEADERS[name][:2], HEADERS[name][2:], bytes(512)]):
        (status,) = driver.request([header, *pieces], [1])
        assert status == bytes((S_IOERR,)) and path.read_bytes() == bytes(SIZE)
    (status,) = driver.request([header, b"\x33\xc0".ljust(510) + b"\x55\xaa"], [1])
    assert status == bytes((S_OK,))
    (status,) = driver.request([struct.pack("<IIQ", T_OUT, 0, 1), HEADERS[name]], [1])
    assert status == bytes((S_OK,))
    driver.mmio.device.close()
    open_drive(DriveArgument(path)).close()


def test_a_disk_that_is_called_raw_takes_all(tmp_path: Path) -> None:
    """format=raw is the user's word: every sector can be written, and the disk is raw the next time too."""
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(SIZE))
    disk = open_drive(DriveArgument(path, format="raw"))
    disk.write(0, [memoryview(HEADERS["qcow2"])])
    disk.close()
    for drive in (DriveArgument(path), DriveArgument(path, read_only=True), DriveArgument(path, snapshot=True)):
        with pytest.raises(ValueError, match=r"begins like qcow2: add format=qcow2, or format=raw"):
            open_drive(drive)
    disk = open_drive(DriveArgument(path, format="raw", read_only=True))
    assert contents(disk)[:512] == HEADERS["qcow2"]
    disk.close()


def test_a_name_that_does_not_fit(tmp_path: Path) -> None:
    """An image called .qcow2 without its header is no raw disk by accident."""
    path = tmp_path / "disk.qcow2"
    path.write_bytes(bytes(SIZE))
    with pytest.raises(ValueError, match=r"not a qcow2 image \(no header\): add format=raw"):
        open_drive(DriveArgument(path, read_only=True))


# --- qcow2 ---
def image(path: Path, bits: int, entries: list[int], length: int, size: int = 512) -> Path:
    """A qcow2 image whose first table, in the second cluster, has these entries; the rest is a hole."""
    cluster = 1 << bits
    head = struct.pack(">4sIQIIQIIQQI", b"QFI\xfb", 2, 0, 0, bits, size, 0, len(entries), cluster, 0, 1)
    with path.open("wb") as file:
        file.write(head)
        file.seek(cluster)
        file.write(struct.pack(f">{len(entries)}Q", *entries))
        file.truncate(length)
    return path


def test_tables_that_name_one_another(tmp_path: Path) -> None:
    """Entries that share a table, or name no cluster, are refused at the second one."""
    for entries in ([2 << 21] * 120_000, [(2 << 21) + 512]):
        started = time.process_time()
        with pytest.raises(ValueError, match="names one table twice, or no cluster"):
            check_complete(image(tmp_path / "x.qcow2", 21, entries, 3 << 21))
        assert time.process_time() - started < 2


def test_tables_that_are_holes(tmp_path: Path) -> None:
    """Tables that the file system does not even store are not read: a terabyte of them takes a moment."""
    tables = [(number + 2) << 21 for number in range(200_000)]
    path = image(tmp_path / "x.qcow2", 21, tables, 200_003 << 21)
    started = time.process_time()
    check_complete(path)
    assert time.process_time() - started < 2


def test_a_first_table_of_gigabytes(tmp_path: Path) -> None:
    """As in QEMU, the first table has 32 MiB at most."""
    path = image(tmp_path / "x.qcow2", 16, [], 1 << 40)
    with path.open("r+b") as file:
        file.seek(36)
        file.write(struct.pack(">I", 0xFFFF_FFFF))
    with pytest.raises(ValueError, match="first table has 4294967295 entries"):
        check_complete(path)


@pytest.mark.parametrize(
    ("feature", "says"), [(1, "corrupt"), (2, "external data"), (3, "compression"), (40, "feature 40")]
)
def test_features_that_nobody_knows(tmp_path: Path, feature: int, says: str) -> None:
    """Version 3 says what a reader must understand: what is not understood here is named."""
    data = bytearray(qcow2({}, 4 * CLUSTER))
    struct.pack_into(">Q", data, 72, 1 << feature)
    path = tmp_path / "x.qcow2"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=says):
        check_complete(path)

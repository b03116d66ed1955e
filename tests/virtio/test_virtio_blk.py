"""The block device: requests, their status, and their limits."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from tests.engine.harness import BASE, Bench
from virtio_driver import BUFFERS, Driver, FakeMemory

from trapline.isa.assemble import assemble
from trapline.machine.virtio import numbers as n
from trapline.machine.virtio.blk import (
    F_DISCARD,
    F_RO,
    F_WRITE_ZEROES,
    S_IOERR,
    S_OK,
    S_UNSUPP,
    T_DISCARD,
    T_FLUSH,
    T_GET_ID,
    T_IN,
    T_OUT,
    T_WRITE_ZEROES,
    BlockDevice,
)
from trapline.machine.virtio.drive import DriveArgument, open_drive
from trapline.machine.virtio.memory import BoardMemory

SECTORS = 64


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(b"".join(bytes([k]) * 512 for k in range(SECTORS)))
    return path


def make(image: Path, **options: bool) -> Driver:
    """A driver of a disk."""
    return Driver(BlockDevice(open_drive(DriveArgument(image, format="raw", **options)), serial="S3RIAL"))


def header(kind: int, sector: int = 0) -> bytes:
    return struct.pack("<IIQ", kind, 0, sector)


def test_configuration_gives_capacity_and_limits(image: Path) -> None:
    """Capacity in sectors, the longest list of segments, the block size."""
    driver = make(image)
    assert driver.get(n.CONFIG) == SECTORS and driver.get(n.CONFIG + 4) == 0
    assert driver.get(n.CONFIG + 12) == 254 and driver.get(n.CONFIG + 20) == 512
    assert driver.get(n.CONFIG + 34, 2) == 1 and driver.get(n.CONFIG + 56, 1) == 1


def test_read(image: Path) -> None:
    """Sectors land in the pieces in order, then the status; the length counts both."""
    driver = make(image)
    first, second, status = driver.request([header(T_IN, 5)], [300, 724, 1])
    assert first + second == b"\5" * 512 + b"\6" * 512 and status == bytes([S_OK])
    assert driver.last_used() == (0, 1025)


def test_header_and_status_may_share_descriptors_with_data(image: Path) -> None:
    """The framing of a request does not depend on descriptors (2.7.4)."""
    driver = make(image)
    data = header(T_OUT, 1) + b"w" * 512
    assert driver.request([data[:3], data[3:100], data[100:]], [1]) == [b"\0"]
    (mixed,) = driver.request([header(T_IN, 1)], [513])
    assert mixed == b"w" * 512 + b"\0"


def test_write_and_flush(image: Path) -> None:
    """What was written is in the file."""
    driver = make(image)
    assert driver.request([header(T_OUT, 2), b"x" * 1024], [1]) == [bytes([S_OK])]
    assert driver.request([header(T_FLUSH)], [1]) == [bytes([S_OK])]
    assert image.read_bytes()[1024:2048] == b"x" * 1024 and image.read_bytes()[2048] == 4


def test_identity(image: Path) -> None:
    """GET_ID gives 20 bytes: the serial number, padded."""
    assert make(image).request([header(T_GET_ID)], [20, 1]) == [b"S3RIAL".ljust(20, b"\0"), b"\0"]


@pytest.mark.parametrize("kind", [T_DISCARD, T_WRITE_ZEROES])
def test_zeroing(image: Path, kind: int) -> None:
    """DISCARD and WRITE_ZEROES make whole ranges zero."""
    driver = make(image)
    ranges = struct.pack("<QIIQII", 1, 2, 0, 9, 1, 0)
    assert driver.request([header(kind), ranges], [1]) == [bytes([S_OK])]
    data = image.read_bytes()
    assert len(data) == SECTORS * 512
    zero = [k for k in range(1, SECTORS) if not any(data[k * 512 : k * 512 + 512])]
    assert zero == [1, 2, 9]


@pytest.mark.parametrize(
    ("kind", "ranges", "status"),
    [
        (T_DISCARD, struct.pack("<QII", SECTORS - 1, 2, 0), S_IOERR),
        (T_WRITE_ZEROES, struct.pack("<QII", 1 << 63, 1, 0), S_IOERR),
        (T_WRITE_ZEROES, struct.pack("<QII", 0, 1 << 31, 0), S_IOERR),
        (T_WRITE_ZEROES, struct.pack("<QIIQII", 0, 1, 0, SECTORS, 1, 0), S_IOERR),
        (T_WRITE_ZEROES, b"short", S_IOERR),
        (T_WRITE_ZEROES, b"", S_IOERR),
        (T_WRITE_ZEROES, struct.pack("<QII", 0, 1, 0) * 17, S_IOERR),
        (T_DISCARD, struct.pack("<QII", 0, 1, 1), S_UNSUPP),
        (T_WRITE_ZEROES, struct.pack("<QII", 0, 1, 2), S_UNSUPP),
    ],
)
def test_zeroing_outside_the_limits_changes_nothing(image: Path, kind: int, ranges: bytes, status: int) -> None:
    """A range outside the disk, too many, a reserved flag: an error, and no part of the request is done."""
    before = image.read_bytes()
    assert make(image).request([header(kind), ranges], [1]) == [bytes([status])]
    assert image.read_bytes() == before


@pytest.mark.parametrize(
    ("sector", "size"), [(SECTORS, 512), (SECTORS - 1, 1024), (0, 100), ((1 << 64) - 1, 512), (1 << 55, 512)]
)
def test_requests_outside_the_disk_fail(image: Path, sector: int, size: int) -> None:
    """A read or a write past the end, or of part of a sector, ends with IOERR."""
    driver = make(image)
    before = image.read_bytes()
    assert driver.request([header(T_IN, sector)], [size, 1])[1] == bytes([S_IOERR])
    assert driver.request([header(T_OUT, sector), bytes(size)], [1]) == [bytes([S_IOERR])]
    assert image.read_bytes() == before


def test_unknown_requests_are_unsupported(image: Path) -> None:
    """A type that is not there ends with UNSUPP."""
    assert make(image).request([header(99)], [1]) == [bytes([S_UNSUPP])]


def test_read_only(image: Path) -> None:
    """A read-only disk says so, offers no discard, and refuses writes."""
    driver = make(image, read_only=True)
    assert driver.mmio.offered & (F_RO | F_DISCARD | F_WRITE_ZEROES) == F_RO
    assert driver.request([header(T_OUT), bytes(512)], [1]) == [bytes([S_IOERR])]
    assert driver.request([header(T_WRITE_ZEROES), struct.pack("<QII", 0, 1, 0)], [1]) == [bytes([S_UNSUPP])]
    assert driver.request([header(T_IN, 7)], [512, 1])[0] == b"\7" * 512


def test_snapshot_keeps_writes_in_memory(image: Path) -> None:
    """With snapshot the guest reads back what it wrote and zeroed, and the file stays as it was."""
    before = image.read_bytes()
    driver = make(image, snapshot=True)
    driver.request([header(T_OUT, 7), b"n" * 1024], [1])
    driver.request([header(T_WRITE_ZEROES), struct.pack("<QII", 8, 3, 0)], [1])
    assert driver.request([header(T_IN, 6)], [512 * 6, 1])[0] == b"".join(
        c * 512 for c in (b"\6", b"n", b"\0", b"\0", b"\0", b"\x0b")
    )
    assert image.read_bytes() == before


def test_a_request_without_header_or_status_needs_a_reset(image: Path) -> None:
    """A device cannot answer what has no room for an answer, nor a request that is not one."""
    for readable, writable in (([header(T_IN)], []), ([b"short"], [512, 1]), ([], [1])):
        driver = make(image)
        driver.chain(readable, writable)
        driver.offer(0)
        driver.put(n.QUEUE_NOTIFY, 0)
        assert driver.needs_reset and driver.mmio.failure
        driver.mmio.device.close()


def test_a_file_that_shrinks_reads_as_zero(image: Path) -> None:
    """The image is truncated under the machine: what is gone reads as zero, and nothing hangs."""
    driver = make(image)
    image.write_bytes(b"")
    assert driver.request([header(T_IN, 5)], [512, 1]) == [bytes(512), bytes([S_OK])]


def test_code_is_forgotten_where_a_disk_was_read_to(image: Path) -> None:
    """The memory hears of every range that a request wrote."""
    driver = make(image)
    driver.request([header(T_IN)], [512, 1])
    written = [place for place in driver.memory.dirty if place[0] >= BUFFERS]
    assert written == [(BUFFERS + 16, 512), (BUFFERS + 16 + 512, 1)]


class LiveMemory(FakeMemory):
    """The RAM of a hart that runs code between the driver's requests."""

    def __init__(self, bench: Bench) -> None:
        super().__init__()
        board = BoardMemory(bench.regions, bench.engine)
        self.view, self.written = board.view, board.written  # type: ignore[method-assign]
        self.write = bench.write  # type: ignore[method-assign]


@pytest.mark.parametrize("engine", ["native", "forced", "reference"])
def test_a_disk_is_read_into_code_that_runs(engine: str, tmp_path: Path) -> None:
    """Sectors that land in code which has run are what runs next."""
    code = [assemble(f"li a0, {number}\n ret", 0) for number in (1, 5, 7)]
    image = tmp_path / "disk.img"
    image.write_bytes(b"".join(piece.ljust(512, b"\0") for piece in code))
    bench = Bench(engine, "again: jalr ra, 0(s1)\n add s2, s2, a0\n j again", at=0x1_0000)
    device = BlockDevice(open_drive(DriveArgument(image, format="raw")), serial="S3RIAL")
    driver = Driver(device, memory=LiveMemory(bench))
    for number, expected in ((0, 1), (1, 5), (2, 7), (0, 1)):
        driver.request([header(T_IN, number)], [512, 1])
        bench.hart.pc, bench.hart.x[9], bench.hart.x[18] = BASE + 0x1_0000, BUFFERS + 16, 0
        bench.run(10 * 5)
        assert bench.hart.x[18] == 10 * expected

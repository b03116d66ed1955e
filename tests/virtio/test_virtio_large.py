"""A disk request that is larger than a turn is moved in several, so that limits and stop requests hold."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from virtio_driver import RAM, Driver, FakeMemory

from trapline.machine.virtio import numbers as n
from trapline.machine.virtio.blk import S_OK, T_IN, T_OUT, BlockDevice
from trapline.machine.virtio.disk import RawDisk
from trapline.machine.virtio.turn import LENGTH

SIZE = 3 * LENGTH + 4096
PIECES = (LENGTH + 512, SIZE - LENGTH - 512)
AT = RAM + (1 << 20)
HEADER, STATUS = RAM + 0x4_0000, RAM + 0x4_1000


class LargeMemory(FakeMemory):
    """Room for a request of several turns."""

    def __init__(self) -> None:
        super().__init__()
        self.block = bytearray((1 << 20) + SIZE)

    def view(self, address: int, size: int, *, write: bool) -> memoryview:
        assert RAM <= address <= address + size <= RAM + len(self.block)
        return memoryview(self.block)[address - RAM : address - RAM + size]


def _pattern(turn: int) -> bytes:
    return b"".join(struct.pack("<QQ", at, turn) for at in range(0, SIZE, 16))


def _driver(folder: Path, kind: int, content: bytes) -> Driver:
    """A driver with one request of the whole disk, of which no byte has been moved yet."""
    path = folder / "disk"
    path.write_bytes(content)
    driver = Driver(BlockDevice(RawDisk(path, read_only=False)), memory=LargeMemory())
    driver.memory.write(HEADER, struct.pack("<IIQ", kind, 0, 0))
    flags = n.DESC_F_WRITE if kind == T_IN else 0
    driver.descriptor(0, HEADER, 16, n.DESC_F_NEXT, 1)
    driver.descriptor(1, AT, PIECES[0], flags | n.DESC_F_NEXT, 2)
    driver.descriptor(2, AT + PIECES[0], PIECES[1], flags | n.DESC_F_NEXT, 3)
    driver.descriptor(3, STATUS, 1, n.DESC_F_WRITE)
    driver.memory.write(STATUS, b"\xff")
    driver.offer(0)
    return driver


def _finish(driver: Driver) -> int:
    """Serve turns until none is wanted; return how many there were."""
    driver.put(n.QUEUE_NOTIFY, 0)
    turns = 1
    while driver.mmio.waiting:
        assert driver.used() == 0
        driver.mmio.resume()
        turns += 1
    return turns


def test_a_large_read_takes_several_turns(tmp_path: Path) -> None:
    """All bytes arrive, each is said to be written, and the buffer is handed back once, with its length."""
    driver = _driver(tmp_path, T_IN, _pattern(1))
    assert _finish(driver) > 2
    assert driver.memory.read(AT, SIZE) == _pattern(1)
    assert driver.memory.read(STATUS, 1) == bytes((S_OK,))
    assert (driver.used(), driver.last_used()) == (1, (0, SIZE + 1))
    told = sorted((address, size) for address, size in driver.memory.dirty if address >= AT)
    end = AT
    for address, size in told:
        assert address <= end
        end = max(end, address + size)
    assert end == AT + SIZE


def test_a_large_write_takes_several_turns(tmp_path: Path) -> None:
    """The file has all bytes when the buffer is handed back."""
    driver = _driver(tmp_path, T_OUT, bytes(SIZE))
    driver.memory.write(AT, _pattern(2))
    assert _finish(driver) > 2
    assert (tmp_path / "disk").read_bytes() == _pattern(2)
    assert driver.memory.read(STATUS, 1) == bytes((S_OK,))


def test_a_stop_request_ends_a_large_request_after_a_part(tmp_path: Path) -> None:
    """A run that is to end gets control after one part; the rest is done when it goes on."""
    driver = _driver(tmp_path, T_IN, _pattern(3))
    stop = False
    driver.mmio.device.turn.stopping = lambda: stop
    driver.put(n.QUEUE_NOTIFY, 0)
    stop = True
    before = driver.mmio.queues[0].moved
    driver.mmio.resume()
    assert (driver.mmio.queues[0].moved, driver.used()) == (before, 0)
    stop = False
    driver.mmio.resume()
    assert driver.mmio.queues[0].moved > before
    while driver.mmio.waiting:
        driver.mmio.resume()
    assert driver.memory.read(AT, SIZE) == _pattern(3)


def test_a_reset_forgets_what_was_moved(tmp_path: Path) -> None:
    """The first request behind a reset is done from its first byte on."""
    driver = _driver(tmp_path, T_IN, _pattern(4))
    driver.put(n.QUEUE_NOTIFY, 0)
    assert driver.mmio.queues[0].moved
    driver.set_up()
    assert driver.mmio.queues[0].moved == 0


@pytest.mark.parametrize("moved", [SIZE, 1 << 63, 511, 513])
def test_a_wrong_count_of_moved_bytes_is_harmless(moved: int, tmp_path: Path) -> None:
    """A snapshot may say anything: whole sectors within the request are skipped, or nothing."""
    driver = _driver(tmp_path, T_IN, _pattern(5))
    driver.mmio.queues[0].moved = moved
    _finish(driver)
    first = 512 if moved == 513 else 0
    assert driver.memory.read(AT + first, SIZE - first) == _pattern(5)[first:]
    assert driver.memory.read(STATUS, 1) == bytes((S_OK,))

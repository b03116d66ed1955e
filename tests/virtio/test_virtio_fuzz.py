"""Nothing that a driver writes into registers, rings or requests ends the machine."""

from __future__ import annotations

import struct
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from virtio_driver import AVAIL, BUFFERS, DESC, RAM, Driver

from trapline.machine.virtio import numbers as n
from trapline.machine.virtio.blk import BlockDevice
from trapline.machine.virtio.console import ConsoleDevice
from trapline.machine.virtio.device import VirtioDevice
from trapline.machine.virtio.drive import DriveArgument, open_drive
from trapline.machine.virtio.net.device import NetDevice
from trapline.machine.virtio.rng import RngDevice
from trapline.machine.virtio.share import ShareArgument, open_share
from trapline.machine.virtio.turn import LENGTH

PLACE = tempfile.TemporaryDirectory()
FOLDER = Path(PLACE.name) / "folder"
FOLDER.mkdir()
(FOLDER / "file").write_bytes(b"contents")


def disk() -> VirtioDevice:
    path = FOLDER.with_suffix(".img")
    path.write_bytes(bytes(8192))
    return BlockDevice(open_drive(DriveArgument(path, snapshot=True)))


DEVICES: dict[str, Callable[[], VirtioDevice]] = {
    "disk": disk,
    "net": lambda: NetDevice(lambda: 0),
    "rng": RngDevice,
    "console": lambda: ConsoleDevice(lambda data: None),
    "share": lambda: open_share(ShareArgument(FOLDER, read_only=True)),
}
REGISTERS = st.sampled_from([*range(0, 0x110, 4), n.QUEUE_NOTIFY, n.QUEUE_NOTIFY, n.STATUS, n.QUEUE_READY])
VALUES = st.one_of(
    st.integers(0, 20), st.sampled_from([0, 1, 8, 0x4F, DESC, AVAIL, RAM, 0xFFFF_FFFF]), st.integers(0, 0xFFFF_FFFF)
)


@pytest.mark.parametrize("name", DEVICES)
@settings(max_examples=120, deadline=None)
@given(st.lists(st.tuples(REGISTERS, VALUES, st.sampled_from([1, 2, 4, 4, 4, 8])), max_size=40))
def test_registers(name: str, writes: list[tuple[int, int, int]]) -> None:
    """Any sequence of register accesses, on a device that is set up; afterwards a reset makes it new."""
    driver = Driver(DEVICES[name]())
    for register, value, size in writes:
        driver.put(register, value, size)
        assert 0 <= driver.get(register, size) < 1 << 8 * size
    driver.set_up()
    driver.mmio.device.close()


DESCRIPTOR = st.tuples(
    st.one_of(st.sampled_from([BUFFERS, BUFFERS + 0x100, DESC, AVAIL, RAM, 0, 1 << 63]), st.integers(0, (1 << 64) - 1)),
    st.one_of(st.sampled_from([0, 1, 7, 11, 12, 16, 17, 512, 513, 4096, 70_000]), st.integers(0, 0xFFFF_FFFF)),
    st.integers(0, 7),
    st.integers(0, 17),
)


@pytest.mark.parametrize("name", DEVICES)
@settings(max_examples=200, deadline=None)
@given(st.lists(DESCRIPTOR, min_size=1, max_size=16), st.binary(max_size=600), st.integers(0, 1), st.integers(0, 40))
def test_rings(name: str, table: list[tuple[int, int, int, int]], data: bytes, queue: int, ahead: int) -> None:
    """Any descriptors over any request: the device answers, or needs a reset."""
    driver = Driver(DEVICES[name]())
    queue = min(queue, len(driver.mmio.queues) - 1)
    driver.memory.write(BUFFERS, data)
    for at, (address, size, flags, following) in enumerate(table):
        driver.descriptor(at, address, size, flags, following, queue)
    driver.memory.write(AVAIL + 0x8000 * queue + 2, struct.pack("<H", ahead))
    driver.put(n.QUEUE_NOTIFY, queue)
    assert driver.needs_reset == bool(driver.mmio.failure)
    driver.set_up()
    driver.mmio.device.close()


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 130), st.binary(max_size=80)), max_size=12))
def test_9p_messages(messages: list[tuple[int, bytes]]) -> None:
    """Any 9P message gets an answer, and the folder stays as it is."""
    driver = Driver(DEVICES["share"]())
    for kind, body in messages:
        driver.request(
            [struct.pack("<IBH", 7 + len(body), kind, 1), body] if body else [b"\7\0\0\0" + bytes((kind, 1, 0))], [512]
        )
    assert [path.name for path in FOLDER.iterdir()] == ["file"]
    driver.mmio.device.close()


def requests(name: str) -> st.SearchStrategy[bytes]:
    """Messages that begin as a device's own do, and go on in any way."""
    word, rest = st.integers(0, 0xFFFF_FFFF), st.binary(max_size=200)
    if name == "disk":
        kinds = st.sampled_from([0, 1, 4, 8, 11, 13, 99])
        sectors = st.sampled_from([0, 1, 15, 16, 1 << 54, (1 << 64) - 1])
        return st.builds(lambda k, r, s, d: struct.pack("<IIQ", k, r, s) + d, kinds, word, sectors, rest)
    if name == "share":
        kinds = st.integers(0, 130)
        return st.builds(lambda k, d: struct.pack("<IBH", 7 + len(d), k, 1) + d, kinds, rest)
    if name == "net":
        kinds = st.sampled_from([b"\x08\x00\x45", b"\x08\x06\x00", b"\x86\xdd\x60"])
        return st.builds(lambda k, d: bytes(12) + bytes.fromhex("52550a000202") + bytes(6) + k + d, kinds, rest)
    return rest


SIZES = st.lists(st.sampled_from([0, 1, 11, 12, 13, 512, 4096, 65_536]), max_size=6)


@pytest.mark.parametrize("name", DEVICES)
def test_messages_take_little_time_and_memory(name: str) -> None:
    """Any run of messages to any device and queue: a bounded turn each, and nothing piles up behind them."""
    device = DEVICES[name]()
    driver = Driver(device)
    spent: list[int] = []
    driver.mmio._spent = spent.append
    tracemalloc.start()

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.tuples(requests(name), SIZES, st.integers(0, 1)), max_size=10))
    def send(messages: list[tuple[bytes, list[int], int]]) -> None:
        for data, sizes, queue in messages:
            queue = min(queue, len(driver.mmio.queues) - 1)
            if driver.needs_reset:
                driver.set_up()
            driver.next_buffer = BUFFERS + 0x4_0000 * queue
            driver.chain([data[:20], data[20:]] if data[20:] else [data], sizes, queue)
            for _ in range(4):
                driver.offer(0, queue)
            driver.put(n.QUEUE_NOTIFY, queue)
        driver.mmio.resume()

    send()
    top = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert top < 40 << 20 and max(spent, default=0) < 2 * LENGTH
    assert [path.name for path in FOLDER.iterdir()] == ["file"]
    device.close()

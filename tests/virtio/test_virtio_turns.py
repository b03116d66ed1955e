"""A driver that keeps making work for a device gets it done in turns: the harts go on, and limits hold."""

from __future__ import annotations

import hashlib
import struct
import time
from collections.abc import Callable
from pathlib import Path

import endless
import pytest
from virtio_driver import AVAIL, RAM, USED, Driver, FakeMemory

from trapline.machine.machine import Machine
from trapline.machine.virtio import numbers as n
from trapline.machine.virtio.blk import BlockDevice
from trapline.machine.virtio.console import TRANSMIT as CONSOLE_TRANSMIT
from trapline.machine.virtio.console import ConsoleDevice
from trapline.machine.virtio.device import VirtioDevice
from trapline.machine.virtio.disk import RawDisk
from trapline.machine.virtio.net.device import TRANSMIT as NET_TRANSMIT
from trapline.machine.virtio.net.device import NetDevice
from trapline.machine.virtio.options import VirtioOptions
from trapline.machine.virtio.rng import RngDevice
from trapline.machine.virtio.share import ShareArgument, open_share
from trapline.machine.virtio.turn import LENGTH, REQUEST
from trapline.vmm.guest import Guest

MOST = LENGTH // REQUEST  # requests of a turn


class EndlessMemory(FakeMemory):
    """Whenever a device hands a buffer back, the driver makes it available again."""

    queue = 0
    again = True

    def written(self, address: int, size: int) -> None:
        if self.again and address != USED + 0x8000 * self.queue:  # that is the ring in which it is handed back
            at = AVAIL + 0x8000 * self.queue + 2
            (idx,) = struct.unpack("<H", self.read(at, 2))
            self.write(at, struct.pack("<H", idx + 1 & 0xFFFF))


class HugeMemory(FakeMemory):
    """Has more RAM than there is room for in a test."""

    def view(self, address: int, size: int, *, write: bool) -> memoryview:
        return super().view(address, min(size, 1 << 16), write=write)


def disk(folder: Path) -> VirtioDevice:
    path = folder / "disk"
    path.write_bytes(bytes(8192))
    return BlockDevice(RawDisk(path, read_only=False))


# A device, the queue, and a request for it; each ends with a writable piece, which is what `written` hears of.
CASES: dict[str, tuple[Callable[[Path], VirtioDevice], int, list[bytes], int]] = {
    "disk": (disk, 0, [bytes(16)], 513),
    "flush": (disk, 0, [struct.pack("<IIQ", 4, 0, 0)], 1),
    "net": (lambda folder: NetDevice(lambda: 0), NET_TRANSMIT, [bytes(64)], 0),
    "rng": (lambda folder: RngDevice(), 0, [], 16),
    "console": (lambda folder: ConsoleDevice(lambda data: None), CONSOLE_TRANSMIT, [b"text"], 0),
    "share": (lambda folder: open_share(ShareArgument(folder)), 0, [struct.pack("<IBHH", 9, 108, 1, 0)], 16),
}


@pytest.mark.parametrize("name", CASES)
def test_a_queue_that_never_empties_is_served_in_turns(name: str, tmp_path: Path) -> None:
    """A notification ends after a number of requests, and each later turn goes on with the rest until it is done."""
    make, queue, readable, writable = CASES[name]
    memory = EndlessMemory()
    driver = Driver(make(tmp_path), memory=memory)
    memory.queue = queue
    driver.chain(readable, [writable], queue)
    driver.offer(0, queue)
    driver.put(n.QUEUE_NOTIFY, queue)
    first = driver.used(queue)
    assert 1 <= first <= MOST and driver.mmio.waiting == {queue}
    driver.mmio.resume()
    assert first < driver.used(queue) <= 2 * MOST and driver.mmio.waiting == {queue}
    memory.again = False
    driver.mmio.resume()
    assert not driver.mmio.waiting and not driver.mmio.failure
    driver.mmio.device.close()


def test_a_stop_request_ends_a_turn_at_once() -> None:
    """No further request begins once the run is to end, and nothing is lost."""
    driver = Driver(RngDevice())
    stop = True
    driver.mmio.device.turn.stopping = lambda: stop
    driver.chain([], [8])
    driver.offer(0)
    driver.put(n.QUEUE_NOTIFY, 0)
    assert driver.used() == 0 and driver.mmio.waiting == {0}
    stop = False
    driver.mmio.resume()
    assert driver.used() == 1 and not driver.mmio.waiting


def test_a_reset_forgets_the_next_turn() -> None:
    """A device that the driver resets has nothing left to do."""
    memory = EndlessMemory()
    driver = Driver(RngDevice(), memory=memory)
    driver.chain([], [8])
    driver.offer(0)
    driver.put(n.QUEUE_NOTIFY, 0)
    assert driver.mmio.waiting
    driver.set_up()
    driver.mmio.resume()
    assert driver.used() == 0


def test_a_chain_of_more_than_4_gib_is_malformed() -> None:
    """2.7.5 forbids it, so that one request has an end, too."""
    driver = Driver(RngDevice(), memory=HugeMemory(), num=16)
    for at in range(15):
        driver.descriptor(at, RAM, 1 << 31, n.DESC_F_WRITE | n.DESC_F_NEXT, at + 1)
    driver.offer(0)
    driver.put(n.QUEUE_NOTIFY, 0)
    assert "2^32" in driver.mmio.failure


def make(place: str, folder: Path, then: str, engine: str) -> Machine | Guest:
    """A machine that has run nothing yet, with the endless program."""
    image, code = folder / "disk.img", folder / "code.bin"
    image.write_bytes(endless.disk())
    virtio = VirtioOptions(drive=(f"{image},snapshot",))
    base = 0x8000_0000 if place == "board" else 0x8020_0000
    code.write_bytes(endless.program(base, then))
    machine: Machine | Guest
    if place == "board":
        machine = Machine(memory=4 << 20, engine=engine, virtio=virtio, ratio=1)
    else:
        machine = Guest(memory=4 << 20, engine=engine, virtio=virtio, ratio=1)
    machine.load(code)
    return machine


# What the program sees of the ring, and when, is in the sum.
SPIN = "li s3, 31; li s4, 0x1000; add s4, s4, s1; 1: lhu t0, 2(s1); mul s2, s2, s3; add s2, s2, t0; sd s2, 0(s4); j 1b"


def seen(machine: Machine | Guest) -> tuple[object, ...]:
    """What a run must repeat: where it is, and all of memory."""
    if isinstance(machine, Machine):
        memory = machine.regions.read(0x8000_0000, 4 << 20)
    else:
        memory = bytes(machine.vm.memory_view(0x8000_0000, 4 << 20))
    return machine.position(), hashlib.sha256(memory).hexdigest()


@pytest.mark.parametrize("place", ["board", "guest"])
def test_turns_come_at_the_same_instruction_in_every_run(place: str, tmp_path: Path) -> None:
    """On both engines, in one run or in several, a device that always has more to do has done the same."""
    results = []
    for engine, steps in (("native", [2_400]), ("reference", [2_400]), ("native", [700, 1_001, 699])):
        machine = make(place, tmp_path, SPIN, engine)
        for step in steps:
            assert machine.run(step).reason == "limit"
        results.append(seen(machine))
        machine.close()
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("place", ["board", "guest"])
@pytest.mark.parametrize("then", [SPIN, "1: wfi; j 1b", "1: sw zero, 0x50(s0); j 1b"])
def test_a_time_limit_ends_an_endless_driver(place: str, then: str, tmp_path: Path) -> None:
    """--max-seconds holds, whether the harts run, sleep or notify while the device is at work."""
    machine = make(place, tmp_path, then, "native")
    started = time.monotonic()
    assert machine.run(max_seconds=0.3).reason == "limit"
    assert time.monotonic() - started < 5
    machine.close()


@pytest.mark.parametrize("place", ["board", "guest"])
def test_an_instruction_limit_ends_an_endless_driver(place: str, tmp_path: Path) -> None:
    """The harts go on between turns."""
    machine = make(place, tmp_path, SPIN, "native")
    result = machine.run(20_000)
    assert (result.reason, result.instructions) == ("limit", 20_000)
    machine.close()

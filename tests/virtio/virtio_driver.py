"""A driver for tests: it works a device through its registers and rings, as a guest would."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from trapline.lang.state import Hart
from trapline.machine.virtio import numbers as n
from trapline.machine.virtio.device import VirtioDevice
from trapline.machine.virtio.mmio import VirtioMmio

RAM, SIZE = 0x8000_0000, 1 << 20
DESC, AVAIL, USED = RAM, RAM + 0x4000, RAM + 0x6000  # of queue 0; 0x8000 bytes for each queue
BUFFERS = RAM + 0x4_0000
HART = Hart()


class FakeMemory:
    """RAM at 0x80000000 and nothing else; `dirty` is what devices say they wrote."""

    def __init__(self) -> None:
        self.block = bytearray(SIZE)
        self.dirty: list[tuple[int, int]] = []

    def view(self, address: int, size: int, *, write: bool) -> memoryview:
        if not address >= RAM or address + size > RAM + SIZE:
            raise ValueError(f"no RAM at {address:#x}")
        return memoryview(self.block)[address - RAM : address - RAM + size]

    def written(self, address: int, size: int) -> None:
        self.dirty.append((address, size))

    def read(self, address: int, size: int) -> bytes:
        return bytes(self.view(address, size, write=False))

    def write(self, address: int, data: bytes) -> None:
        self.view(address, len(data), write=True)[:] = data


class Driver:
    """Sets the device up on construction."""

    def __init__(
        self,
        device: VirtioDevice,
        *,
        features: int = n.TRANSPORT_FEATURES,
        num: int = 16,
        memory: FakeMemory | None = None,
    ) -> None:
        self.memory = memory or FakeMemory()
        self.levels: list[bool] = []
        self.mmio = VirtioMmio(device, self.memory, self.levels.append)
        self.features, self.num = features & self.mmio.offered, num
        self.avail = [0] * len(device.queue_sizes)
        self.next_buffer = BUFFERS
        self.set_up()

    def set_up(self) -> None:
        """Initialise the device (3.1.1)."""
        for status in (0, n.STATUS_ACKNOWLEDGE, n.STATUS_DRIVER):
            self.put(n.STATUS, status)
        for half in (0, 1):
            self.put(n.DRIVER_FEATURES_SEL, half)
            self.put(n.DRIVER_FEATURES, self.features >> 32 * half & 0xFFFF_FFFF)
        self.put(n.STATUS, n.STATUS_FEATURES_OK)
        assert self.get(n.STATUS) & n.STATUS_FEATURES_OK
        for index in range(len(self.mmio.queues)):
            self.set_up_queue(index)
        self.put(n.STATUS, n.STATUS_DRIVER_OK)

    def set_up_queue(self, index: int, num: int | None = None) -> None:
        """Place a queue's rings and enable it."""
        self.avail[index] = 0
        for base in (DESC, AVAIL, USED):
            self.memory.write(base + 0x8000 * index, bytes(0x2000 if base != DESC else 0x4000))
        self.put(n.QUEUE_SEL, index)
        self.put(n.QUEUE_SIZE, num or self.num)
        for register, base in ((n.QUEUE_DESC, DESC), (n.QUEUE_DRIVER, AVAIL), (n.QUEUE_DEVICE, USED)):
            self.put(register, base + 0x8000 * index & 0xFFFF_FFFF)
            self.put(register + 4, 0)
        self.put(n.QUEUE_READY, 1)

    def get(self, register: int, size: int = 4) -> int:
        return self.mmio.load(HART, register, size)

    def put(self, register: int, value: int, size: int = 4) -> None:
        self.mmio.store(HART, register, size, value)

    # --- buffers ---
    def descriptor(self, at: int, address: int, size: int, flags: int = 0, following: int = 0, queue: int = 0) -> None:
        """Write one descriptor of a queue's table."""
        self.memory.write(DESC + 0x8000 * queue + 16 * at, struct.pack("<QIHH", address, size, flags, following))

    def offer(self, head: int, queue: int = 0) -> None:
        """Make a chain available, without a notification."""
        ring = AVAIL + 0x8000 * queue
        self.memory.write(ring + 4 + 2 * (self.avail[queue] % self.num), struct.pack("<H", head))
        self.avail[queue] = self.avail[queue] + 1 & 0xFFFF
        self.memory.write(ring + 2, struct.pack("<H", self.avail[queue]))

    def chain(self, readable: Sequence[bytes], writable: Sequence[int], queue: int = 0, head: int = 0) -> list[int]:
        """Write a chain from descriptor `head` on; return the addresses of the writable pieces."""
        places, at = [], head
        pieces: list[bytes | int] = [*readable, *writable]
        for position, piece in enumerate(pieces):
            size = piece if isinstance(piece, int) else len(piece)
            flags = n.DESC_F_WRITE if isinstance(piece, int) else 0
            if position + 1 < len(pieces):
                flags |= n.DESC_F_NEXT
            if isinstance(piece, bytes):
                self.memory.write(self.next_buffer, piece)
            else:
                places.append(self.next_buffer)
            self.descriptor(at, self.next_buffer, size, flags, at + 1, queue)
            self.next_buffer += size + 15 & -16
            at += 1
        return places

    def request(self, readable: Sequence[bytes], writable: Sequence[int] = (), queue: int = 0) -> list[bytes]:
        """Offer a chain, notify, and return what the device wrote into the writable pieces."""
        self.next_buffer = BUFFERS + 0x1_0000 * queue
        places = self.chain(readable, writable, queue)
        before = self.used(queue)
        self.offer(0, queue)
        self.put(n.QUEUE_NOTIFY, queue)
        assert self.used(queue) == before + 1, self.mmio.failure
        return [self.memory.read(place, size) for place, size in zip(places, writable, strict=True)]

    def used(self, queue: int = 0) -> int:
        """Return the used ring's index."""
        return int.from_bytes(self.memory.read(USED + 0x8000 * queue + 2, 2), "little")

    def last_used(self, queue: int = 0) -> tuple[int, int]:
        """Return id and length of the newest entry of the used ring."""
        at = (self.used(queue) - 1) % self.num
        head, size = struct.unpack("<II", self.memory.read(USED + 0x8000 * queue + 4 + 8 * at, 8))
        return head, size

    @property
    def needs_reset(self) -> bool:
        return self.get(n.STATUS) & n.STATUS_NEEDS_RESET != 0

"""Entropy device (Virtual I/O Device 1.2, 5.4): the same bytes in every run, so that runs repeat."""

from __future__ import annotations

import hashlib

from trapline.machine.virtio.device import VirtioDevice
from trapline.machine.virtio.numbers import ID_RNG
from trapline.machine.virtio.queue import Queue

_MOST = 1 << 16  # bytes that one buffer gets; a device may fill less than all of it


class RngDevice(VirtioDevice):
    """Bytes of SHAKE-256 over a counter. No secret may depend on them."""

    device_id = ID_RNG
    name = "rng"
    queue_sizes = (64,)

    def __init__(self, seed: bytes = b"trapline") -> None:
        super().__init__()
        self._seed, self._count = seed, 0

    def serve(self, queue: Queue) -> None:
        """Fill every buffer."""
        while (chain := queue.pop()) is not None:
            size = min(len(chain.writable), _MOST)
            self._count += 1
            data = hashlib.shake_256(self._seed + self._count.to_bytes(8, "little")).digest(size)
            queue.push(chain, chain.writable.write(data))

"""Console device (Virtual I/O Device 1.2, 5.3) with one port: hvc0."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from trapline.machine.virtio.device import VirtioDevice
from trapline.machine.virtio.numbers import ID_CONSOLE
from trapline.machine.virtio.queue import Queue

RECEIVE, TRANSMIT = 0, 1
_MOST = 1 << 16  # bytes that one buffer may transmit; drivers send a page


class ConsoleDevice(VirtioDevice):
    """`output` gets what the guest writes; `receive` is what a person types."""

    device_id = ID_CONSOLE
    name = "console"
    queue_sizes = (64, 64)
    snapshot_types: ClassVar = {"_typed": bytearray}

    def __init__(self, output: Callable[[bytes], None]) -> None:
        super().__init__()
        self._output = output
        self._typed = bytearray()

    def config(self) -> bytes:
        """Without F_SIZE and F_MULTIPORT every field is zero: cols, rows, max_nr_ports, emerg_wr."""
        return bytes(12)

    def receive(self, data: bytes) -> None:
        """Bytes are typed; they wait until the driver has a buffer for them."""
        self._typed += data
        self.kick(RECEIVE)

    @property
    def unread(self) -> int:
        """Number of typed bytes that the driver has not got yet."""
        return len(self._typed)

    def serve(self, queue: Queue) -> None:
        """Move bytes one way or the other."""
        if queue.index == TRANSMIT:
            while (chain := queue.pop()) is not None:
                data = chain.readable.read(_MOST)
                queue.push(chain, 0)
                self._output(data)
            return
        while self._typed and (chain := queue.pop()) is not None:
            done = chain.writable.write(self._typed)
            del self._typed[:done]
            queue.push(chain, done)

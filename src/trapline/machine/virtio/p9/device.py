"""The 9P transport device (type 9; Linux' net/9p/trans_virtio): a mount tag and a queue."""

from __future__ import annotations

import struct

from trapline.machine.virtio.device import VirtioDevice
from trapline.machine.virtio.numbers import ID_9P
from trapline.machine.virtio.p9.files import Share
from trapline.machine.virtio.p9.server import LARGEST_MESSAGE, P9Server
from trapline.machine.virtio.p9.wire import HEADER
from trapline.machine.virtio.queue import MalformedError, Queue

F_MOUNT_TAG = 1 << 0


class P9Device(VirtioDevice):
    """A shared folder, which a guest mounts by its tag."""

    device_id = ID_9P
    features = F_MOUNT_TAG
    queue_sizes = (128,)

    def __init__(self, share: Share, tag: str) -> None:
        super().__init__()
        self.name = f"share {tag}"
        self._tag = tag.encode()
        self._server = P9Server(share, self._spend)

    def _spend(self, cost: int) -> None:
        self.turn.spend(cost)

    def config(self) -> bytes:
        """Return the tag with its length."""
        return struct.pack("<H", len(self._tag)) + self._tag

    def reset(self) -> None:
        """Forget the client's files."""
        self._server.reset()

    def close(self) -> str:
        """Close the files."""
        self._server.reset()
        return ""

    def serve(self, queue: Queue) -> None:
        """Answer every request."""
        while (chain := queue.pop()) is not None:
            head = chain.readable.read(HEADER.size)
            if len(head) < HEADER.size:
                raise MalformedError("a request without a header")
            size = HEADER.unpack(head)[0] - HEADER.size
            if not 0 <= size <= min(len(chain.readable), LARGEST_MESSAGE):
                raise MalformedError(f"a request of {size} bytes in a buffer of {len(chain.readable)}")
            written = self._server.answer(head + chain.readable.read(size), chain.writable)
            if written == 0:
                raise MalformedError("a request without room for an answer")
            queue.push(chain, written)

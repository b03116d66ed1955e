"""Network device (Virtual I/O Device 1.2, 5.1): frames between the guest's rings and the gateway."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Sequence
from typing import Annotated, Any, ClassVar

from trapline.machine.virtio.device import VirtioDevice
from trapline.machine.virtio.net.gateway import GUEST_MAC, MOST_FLOWS, Forward, Gateway
from trapline.machine.virtio.net.pcap import Pcap
from trapline.machine.virtio.net.reach import EVERYTHING, Reach
from trapline.machine.virtio.numbers import F_VERSION_1, ID_NET
from trapline.machine.virtio.queue import Chain, MalformedError, Queue
from trapline.machine.virtio.span import Span
from trapline.machine.virtio.turn import DESCRIPTOR
from trapline.session.state.plain_types import Limits

F_CSUM, F_GUEST_CSUM, F_MAC, F_HOST_TSO4 = 1 << 0, 1 << 1, 1 << 5, 1 << 11
F_MRG_RXBUF, F_STATUS = 1 << 15, 1 << 16
RECEIVE, TRANSMIT = 0, 1
HDR_F_DATA_VALID = 2
_HEADER = struct.Struct("<BBHHHHH")  # flags, gso_type, hdr_len, gso_size, csum_start, csum_offset, num_buffers
_LEGACY_HEADER = 10  # bytes: without num_buffers (5.1.6.1)
_LINK_UP = 1
_LARGEST = 14 + (1 << 16)  # a frame before the card would have cut it into segments
_MOST_FRAMES, _MOST_BYTES = 1024, 4 << 20  # that wait for the guest


class NetDevice(VirtioDevice):
    """The guest's card, plugged into a gateway of its own. `now` is the guest's time in nanoseconds."""

    device_id = ID_NET
    name = "net"
    features = F_CSUM | F_GUEST_CSUM | F_MAC | F_HOST_TSO4 | F_MRG_RXBUF | F_STATUS
    queue_sizes = (256, 256)
    snapshot_skips = ("_pcap",)
    snapshot_types: ClassVar = {"_frames": deque[Annotated[bytes, Limits(max_length=_LARGEST)]]}

    def __init__(
        self,
        now: Callable[[], int],
        forwards: Sequence[Forward] = (),
        pcap: Pcap | None = None,
        *,
        reach: Reach = EVERYTHING,
        flows: int = MOST_FLOWS,
    ) -> None:
        super().__init__()
        self._now, self._pcap = now, pcap
        self._frames: deque[bytes] = deque()
        self._waiting = 0  # bytes of them
        self._accepted = 0
        self.gateway = Gateway(self._to_guest, now, forwards, reach=reach, flows=flows)

    def after_restore(self) -> None:
        """Refuse frames that the card would not have taken."""
        if len(self._frames) > _MOST_FRAMES or sum(map(len, self._frames)) != self._waiting:
            raise ValueError("frames that do not wait for the guest")

    def config(self) -> bytes:
        """Return the card's address, and that the link is up."""
        return GUEST_MAC + struct.pack("<HHH", _LINK_UP, 1, 0)

    def start(self, features: int) -> None:
        """Note what the driver accepted."""
        self._accepted = features

    def reset(self) -> None:
        """Frames for a driver that is gone are lost."""
        self._frames.clear()
        self._waiting = 0
        self._accepted = 0

    @property
    def _header(self) -> int:
        """Bytes in front of each frame."""
        return _HEADER.size if self._accepted & (F_VERSION_1 | F_MRG_RXBUF) else _LEGACY_HEADER

    # --- from the guest ---
    def serve(self, queue: Queue) -> None:
        """Move frames one way or the other."""
        if queue.index == RECEIVE:
            self._fill(queue)
            return
        while (chain := queue.pop()) is not None:
            header = chain.readable.read(self._header)
            if len(header) < self._header or len(chain.readable) > _LARGEST:
                raise MalformedError("a frame without a header, or too long")
            frame = chain.readable.read(_LARGEST)
            queue.push(chain, 0)
            self._record(frame)
            self.gateway.receive(frame)

    # --- to the guest ---
    def _to_guest(self, frame: bytes) -> None:
        self.turn.spend(2 * DESCRIPTOR + len(frame))
        if len(self._frames) < _MOST_FRAMES and self._waiting + len(frame) <= _MOST_BYTES:
            self._frames.append(frame)
            self._waiting += len(frame)
            self._record(frame)
            self.kick(RECEIVE)

    def _record(self, frame: bytes) -> None:
        if self._pcap is not None:
            self._pcap.write(self._now(), frame)

    def _fill(self, queue: Queue) -> None:
        merge = self._accepted & F_MRG_RXBUF != 0
        while self._frames:
            frame = self._frames[0]
            chains = self._buffers(queue, self._header + len(frame), merge=merge)
            if not chains:
                return
            self._frames.popleft()
            self._waiting -= len(frame)
            self._deliver(queue, chains, frame)

    def _buffers(self, queue: Queue, size: int, *, merge: bool) -> list[Chain]:
        """Take as many buffers as a frame needs; none if there are too few."""
        chains: list[Chain] = []
        room = 0
        while room < size and (not chains or merge):
            chain = queue.pop()
            if chain is None:
                for _ in chains:
                    queue.put_back()
                return []
            if len(chain.writable) < self._header:
                raise MalformedError("a buffer without room for a header")
            chains.append(chain)
            room += len(chain.writable)
        return chains

    def _deliver(self, queue: Queue, chains: list[Chain], frame: bytes) -> None:
        flags = HDR_F_DATA_VALID if self._accepted & F_GUEST_CSUM else 0
        header = _HEADER.pack(flags, 0, 0, 0, 0, 0, len(chains))[: self._header]
        rest = memoryview(header + frame)
        for chain in chains:
            span: Span = chain.writable
            done = span.write(rest[: len(span)])
            rest = rest[done:]
            queue.push(chain, done)

    # --- the world outside ---
    @property
    def live(self) -> bool:
        """Whether the host may say something at any time."""
        return self.gateway.live

    def descriptors(self) -> list[Any]:
        """Return the sockets to wait on."""
        return self.gateway.descriptors()

    def poll(self) -> None:
        """Take what has arrived from the host."""
        self.gateway.poll()

    def close(self) -> str:
        """Close sockets and the record; return why that one ends early."""
        self.gateway.close()
        if self._pcap is None:
            return ""
        self._pcap.close()
        return self._pcap.lost

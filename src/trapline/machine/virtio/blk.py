"""Block device (Virtual I/O Device 1.2, 5.2): requests of a header, data and a status byte."""

from __future__ import annotations

import struct
from collections.abc import Callable

from trapline.machine.virtio.device import VirtioDevice
from trapline.machine.virtio.disk import SECTOR, Disk
from trapline.machine.virtio.numbers import ID_BLOCK
from trapline.machine.virtio.queue import Chain, MalformedError, Queue
from trapline.machine.virtio.span import Span
from trapline.machine.virtio.turn import FLUSH, LENGTH

F_SEG_MAX, F_RO, F_BLK_SIZE, F_FLUSH = 1 << 2, 1 << 5, 1 << 6, 1 << 9
F_DISCARD, F_WRITE_ZEROES = 1 << 13, 1 << 14

T_IN, T_OUT, T_FLUSH, T_GET_ID, T_DISCARD, T_WRITE_ZEROES = 0, 1, 4, 8, 11, 13
S_OK, S_IOERR, S_UNSUPP = 0, 1, 2

QUEUE_SIZE = 256
_SEG_MAX = QUEUE_SIZE - 2  # without header and status
_MOST_SECTORS = 1 << 16  # that one segment of DISCARD or WRITE_ZEROES may name
_MOST_SEGMENTS = 16
_ZERO_SPEED = 16  # zeros are made so many times as fast as data moves
_ID_BYTES = 20
_HEADER = struct.Struct("<IIQ")  # type, reserved, sector
_RANGE = struct.Struct("<QII")  # sector, sectors, flags
_UNMAP = 1
# capacity, size_max, seg_max, geometry, blk_size, topology, writeback, num_queues; the limits of
# discard (sectors, segments, alignment), of write zeroes (sectors, segments), may unmap.
_CONFIG = struct.Struct("<QIIHBBIBBHIBxHIIIIIB3x")


class _UnfinishedError(Exception):
    """The turn is over, and so many bytes of a request are done."""

    def __init__(self, moved: int) -> None:
        super().__init__(moved)
        self.moved = moved


class BlockDevice(VirtioDevice):
    """A disk for the guest. Requests are done when the notification returns, but for those that take several turns."""

    device_id = ID_BLOCK
    queue_sizes = (QUEUE_SIZE,)
    snapshot_skips = ("features",)

    def __init__(self, disk: Disk, serial: str = "trapline", name: str = "disk") -> None:
        super().__init__()
        self.disk, self.name = disk, name
        self._serial = serial.encode()[:_ID_BYTES].ljust(_ID_BYTES, b"\0")
        self.features = F_SEG_MAX | F_BLK_SIZE | F_FLUSH
        self.features |= F_RO if disk.read_only else F_DISCARD | F_WRITE_ZEROES

    def config(self) -> bytes:
        """Return capacity (in sectors of 512 bytes) and limits."""
        sectors = self.disk.size // SECTOR
        topology = (0, 0, 0, 0)
        return _CONFIG.pack(
            sectors, 0, _SEG_MAX, 0, 0, 0, SECTOR, *topology, 0, 1,
            _MOST_SECTORS, _MOST_SEGMENTS, 1, _MOST_SECTORS, _MOST_SEGMENTS, 1,
        )  # fmt: skip

    def serve(self, queue: Queue) -> None:
        """Do every request that is waiting, in order."""
        while (chain := queue.pop()) is not None:
            status = chain.writable.cut_tail(1)
            if len(status) != 1:
                raise MalformedError("a request without room for its status")
            room = len(chain.writable)
            try:
                result, filled = self._request(queue, chain)
            except OSError:
                result, filled = S_IOERR, 0
            except _UnfinishedError as pause:
                queue.pause(chain, pause.moved)
                return
            status.write(bytes((result,)))
            queue.push(chain, room + 1 if filled == room else filled)

    def _request(self, queue: Queue, chain: Chain) -> tuple[int, int]:
        """Do one request; return its status and how many bytes of data it filled."""
        header = chain.readable.read(_HEADER.size)
        if len(header) < _HEADER.size:
            raise MalformedError("a request without a header")
        kind, _, sector = _HEADER.unpack(header)
        match kind:
            case 0:  # T_IN
                return self._read(queue, chain, sector)
            case 1:  # T_OUT
                return self._write(queue, chain, sector), 0
            case 4:  # T_FLUSH
                self.turn.spend(FLUSH)
                self.disk.flush()
                return S_OK, 0
            case 8:  # T_GET_ID
                return S_OK, chain.writable.write(self._serial)
            case 11 | 13 if not self.disk.read_only:
                return self._ranges(chain, discard=kind == T_DISCARD), 0
        return S_UNSUPP, 0

    def _read(self, queue: Queue, chain: Chain, sector: int) -> tuple[int, int]:
        size = len(chain.writable)
        if not self._inside(sector, size):
            return S_IOERR, 0
        self._move(queue, chain.writable, sector, self.disk.read)
        return S_OK, size

    def _write(self, queue: Queue, chain: Chain, sector: int) -> int:
        size = len(chain.readable)
        if self.disk.read_only or not self._inside(sector, size):
            return S_IOERR
        self._move(queue, chain.readable, sector, self.disk.write)
        return S_OK

    def _move(self, queue: Queue, data: Span, sector: int, access: Callable[[int, list[memoryview]], None]) -> None:
        """Move what is left of a request, a turn's length at a time; at least one of them."""
        size = len(data)
        at = queue.moved // SECTOR * SECTOR if queue.moved < size else 0
        data.views(at)
        while at < size:
            part = data.views(LENGTH)
            access(sector * SECTOR + at, part)
            moved = sum(len(piece) for piece in part)
            at += moved
            if at < size:
                self.turn.spend(moved)
                if self.turn.over:
                    raise _UnfinishedError(at)

    def _inside(self, sector: int, size: int) -> bool:
        return size % SECTOR == 0 and sector * SECTOR + size <= self.disk.size

    def _ranges(self, chain: Chain, *, discard: bool) -> int:
        """DISCARD and WRITE_ZEROES: every segment is checked before the first is done."""
        data = chain.readable.read(_RANGE.size * (_MOST_SEGMENTS + 1))
        if not data or len(data) % _RANGE.size or len(data) > _RANGE.size * _MOST_SEGMENTS:
            return S_IOERR
        ranges = list(_RANGE.iter_unpack(data))
        if any(flags & ~_UNMAP or (discard and flags) for _, _, flags in ranges):
            return S_UNSUPP
        if any(n > _MOST_SECTORS or not self._inside(sector, n * SECTOR) for sector, n, _ in ranges):
            return S_IOERR
        for sector, n, flags in ranges:
            if n:
                self.turn.spend(n * SECTOR // _ZERO_SPEED)
                self.disk.zero(sector * SECTOR, n * SECTOR, unmap=discard or flags != 0)
        return S_OK

    def close(self) -> str:
        """Close the image."""
        self.disk.close()
        return ""

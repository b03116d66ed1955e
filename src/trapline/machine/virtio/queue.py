"""A split virtqueue (Virtual I/O Device 1.2, 2.7), from the device's side."""

from __future__ import annotations

import struct
from typing import ClassVar

from trapline.dataclass import dataclass
from trapline.machine.virtio.memory import DmaMemory
from trapline.machine.virtio.numbers import (
    AVAIL_F_NO_INTERRUPT,
    DESC_F_INDIRECT,
    DESC_F_NEXT,
    DESC_F_WRITE,
    F_EVENT_IDX,
    F_INDIRECT_DESC,
)
from trapline.machine.virtio.span import Span
from trapline.machine.virtio.turn import DESCRIPTOR, REQUEST, Turn
from trapline.session.state.plain_types import U16, U32, U64

_DESC = struct.Struct("<QIHH")  # addr, len, flags, next
_USED = struct.Struct("<II")  # id, len
_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")
_RING = 4  # bytes of flags and idx before a ring's entries
LONGEST_CHAIN = 1024  # descriptors of an indirect table
_LARGEST_CHAIN = 1 << 32  # bytes of a chain (2.7.5)


class MalformedError(Exception):
    """The driver broke a rule that the device cannot work around: it needs a reset."""


@dataclass(slots=True)
class Chain:
    """A buffer that the driver made available: the bytes to read, then the bytes to fill."""

    head: int
    readable: Span
    writable: Span
    ranges: list[tuple[int, int]]  # address and length of what is writable


class Queue:
    """One virtqueue. The driver sets `num`, `desc`, `driver`, `device`; `map` checks them."""

    snapshot_skips = ("index", "num_max", "_rings", "_memory")
    snapshot_types: ClassVar = {"num": U32, "moved": U64, **dict.fromkeys(("last_avail", "used_idx", "signalled"), U16)}

    def __init__(self, index: int, num_max: int, turn: Turn | None = None) -> None:
        self.index, self.num_max = index, num_max
        self.turn = turn or Turn()
        self.reset()

    def reset(self) -> None:
        """Return to the state after a device reset."""
        self.num = self.num_max
        self.desc = self.driver = self.device = 0
        self.ready = False
        self.features = 0
        self.last_avail = self.used_idx = self.signalled = 0
        self.unfinished = False  # buffers wait for the device's next turn
        self.moved = 0  # bytes of the next buffer that were moved in turns before
        self._rings: tuple[memoryview, memoryview, memoryview] | None = None
        self._memory: DmaMemory | None = None

    def map(self, memory: DmaMemory, features: int) -> None:
        """Find the rings in memory; MalformedError says what is wrong with them."""
        if not 0 < self.num <= self.num_max or self.num & (self.num - 1):
            raise MalformedError(f"queue {self.index}: size {self.num} is not a power of two up to {self.num_max}")
        if self.desc % 16 or self.driver % 2 or self.device % 4:
            raise MalformedError(f"queue {self.index}: a part of it is not aligned")
        try:
            self._rings = (
                memory.view(self.desc, 16 * self.num, write=False),
                memory.view(self.driver, _RING + 2 * self.num + 2, write=False),
                memory.view(self.device, _RING + 8 * self.num + 2, write=True),
            )
        except ValueError as error:
            raise MalformedError(f"queue {self.index}: {error}") from None
        self._memory, self.features = memory, features

    def pop(self) -> Chain | None:
        """Take the next available buffer; None if there is none, or if the device's turn is over."""
        assert self._rings is not None, "a queue is mapped before it is used"
        _, avail, used = self._rings
        (idx,) = _U16.unpack_from(avail, 2)
        pending = idx - self.last_avail & 0xFFFF
        if pending == 0:
            if self.features & F_EVENT_IDX:
                self._writes_used_ring()
                _U16.pack_into(used, _RING + 8 * self.num, self.last_avail)
            return None
        if pending > self.num:
            raise MalformedError(f"queue {self.index}: the available index jumps from {self.last_avail} to {idx}")
        if self.turn.over:
            self.unfinished = True
            return None
        (head,) = _U16.unpack_from(avail, _RING + 2 * (self.last_avail & self.num - 1))
        self.last_avail = self.last_avail + 1 & 0xFFFF
        chain = self._chain(head)
        self.turn.spend(REQUEST + DESCRIPTOR * (len(chain.ranges) + chain.readable.count) + len(chain.readable))
        return chain

    def pause(self, chain: Chain, moved: int) -> None:
        """The turn is over while a buffer is under way: it is popped again, with `moved` bytes of it done."""
        assert self._memory is not None
        at = 0
        for address, size in chain.ranges:
            first, last = max(0, self.moved - at), min(size, moved - at)
            if first < last:
                self._memory.written(address + first, last - first)
            at += size
        self.put_back()
        self.moved, self.unfinished = moved, True

    def put_back(self) -> None:
        """Make the buffer that was popped last available again."""
        self.last_avail = self.last_avail - 1 & 0xFFFF

    def _chain(self, head: int) -> Chain:
        assert self._rings is not None and self._memory is not None
        table, limit, at, indirect = self._rings[0], self.num, head, False
        readable: list[memoryview] = []
        writable: list[memoryview] = []
        ranges: list[tuple[int, int]] = []
        total = 0
        for _ in range(LONGEST_CHAIN):
            if at >= limit:
                raise MalformedError(f"queue {self.index}: descriptor {at} of {limit}")
            address, size, flags, following = _DESC.unpack_from(table, 16 * at)
            if flags & DESC_F_INDIRECT:
                if indirect or flags & DESC_F_NEXT or not self.features & F_INDIRECT_DESC:
                    raise MalformedError(f"queue {self.index}: an indirect table where none is allowed")
                table, limit, at, indirect = self._indirect(address, size), size // 16, 0, True
                continue
            if flags & DESC_F_WRITE:
                ranges.append((address, size))
            elif ranges:
                raise MalformedError(f"queue {self.index}: a descriptor to read follows one to write")
            total += size
            if total > _LARGEST_CHAIN:
                raise MalformedError(f"queue {self.index}: the chain at {head} has more than 2^32 bytes")
            if size:
                pieces = writable if flags & DESC_F_WRITE else readable
                pieces.append(self._piece(address, size, write=flags & DESC_F_WRITE != 0))
            if not flags & DESC_F_NEXT:
                return Chain(head, Span(readable), Span(writable), ranges)
            at = following
        raise MalformedError(f"queue {self.index}: the chain at {head} has no end")

    def _indirect(self, address: int, size: int) -> memoryview:
        if size == 0 or size % 16 or size > 16 * LONGEST_CHAIN:
            raise MalformedError(f"queue {self.index}: an indirect table of {size} bytes")
        return self._piece(address, size, write=False)

    def _piece(self, address: int, size: int, *, write: bool) -> memoryview:
        assert self._memory is not None
        try:
            return self._memory.view(address, size, write=write)
        except ValueError as error:
            raise MalformedError(f"queue {self.index}: {error}") from None

    def push(self, chain: Chain, written: int) -> None:
        """Hand a buffer back, of which `written` bytes were filled."""
        assert self._rings is not None and self._memory is not None
        for address, size in chain.ranges:
            self._memory.written(address, size)
        self.turn.spend(written)
        self.moved = 0
        used = self._rings[2]
        self._writes_used_ring()
        _USED.pack_into(used, _RING + 8 * (self.used_idx & self.num - 1), chain.head, written)
        self.used_idx = self.used_idx + 1 & 0xFFFF
        _U16.pack_into(used, 2, self.used_idx)

    def _writes_used_ring(self) -> None:
        """The device's part of the rings is about to change: a driver may have put it beside code."""
        assert self._memory is not None
        size = _RING + 8 * self.num + 2
        self._memory.view(self.device, size, write=True)
        self._memory.written(self.device, size)

    def wants_interrupt(self) -> bool:
        """Whether the driver wants to hear of what was pushed since this was last asked."""
        assert self._rings is not None
        new, old = self.used_idx, self.signalled
        self.signalled = new
        if new == old:
            return False
        avail = self._rings[1]
        if self.features & F_EVENT_IDX:
            (event,) = _U16.unpack_from(avail, _RING + 2 * self.num)
            return bool((new - event - 1 & 0xFFFF) < (new - old & 0xFFFF))
        (flags,) = _U16.unpack_from(avail, 0)
        return not flags & AVAIL_F_NO_INTERRUPT

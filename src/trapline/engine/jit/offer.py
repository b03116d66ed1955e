"""A region that is offered to a hart: what native code compares and writes to put it in (engine.code_bytes)."""

from __future__ import annotations

import ctypes
import struct
from typing import TYPE_CHECKING

from trapline.engine.records import (
    HEAD_BYTES,
    OFFER_BEGIN,
    OFFER_NEXT,
    OFFER_OPEN,
    OFFER_REFUSED,
    OFFER_STATE,
    OFFER_TAKEN,
    OFFER_WITHDRAWN,
    RANGE_BYTES,
)

if TYPE_CHECKING:
    from trapline.engine.jit.source import Source

_HEAD, _RANGE, _ENTRY = struct.Struct("<4Q"), struct.Struct("<4Q"), struct.Struct("<3Q")


class Offer:
    """One offer. `heads` are records, the handlers that they have, and what shall stand there.

    Without a source the region is in already, and only gets more heads. The memory must live until the hart has
    looked at it (its word `offers`).
    """

    def __init__(self, source: Source | None, heads: list[tuple[int, int, int]]) -> None:
        ranges = [] if source is None else source.ranges()
        begin = OFFER_BEGIN + RANGE_BYTES * len(ranges) + HEAD_BYTES * len(heads)
        self._memory = ctypes.create_string_buffer(begin + sum(len(data) for _, _, data in ranges))
        self.address = ctypes.addressof(self._memory)
        rows, content = [], []
        at = self.address + begin
        for page, first, data in ranges:
            rows.append(_RANGE.pack(page.table, first, len(data), at))
            content.append(data)
            at += len(data)
        rows += [_ENTRY.pack(*head) for head in heads]
        whole = _HEAD.pack(0, OFFER_OPEN, len(ranges), len(heads)) + b"".join(rows) + b"".join(content)
        ctypes.memmove(self.address, whole, len(whole))

    def _word(self, offset: int) -> ctypes.c_uint64:
        return ctypes.c_uint64.from_address(self.address + offset)

    @property
    def open(self) -> bool:
        """Whether the hart has not looked at it yet."""
        return self._word(OFFER_STATE).value == OFFER_OPEN

    @property
    def taken(self) -> bool:
        """Whether the region is in."""
        return self._word(OFFER_STATE).value == OFFER_TAKEN

    @property
    def refused(self) -> bool:
        """Whether its code had changed before it could be put in."""
        return self._word(OFFER_STATE).value in (OFFER_REFUSED, OFFER_WITHDRAWN)

    def withdraw(self) -> None:
        """Take it back, in the harts' own thread."""
        if self.open:
            self._word(OFFER_STATE).value = OFFER_WITHDRAWN

    def link(self, following: Offer) -> None:
        """Let the hart look at another one after this."""
        self._word(OFFER_NEXT).value = following.address


assert _HEAD.size == OFFER_BEGIN
assert _RANGE.size == RANGE_BYTES
assert _ENTRY.size == HEAD_BYTES

"""What the second tier learns from a hart about the place that it compiles: guesses that compiled code checks."""

from __future__ import annotations

import ctypes
from collections import Counter
from typing import TYPE_CHECKING

from trapline.engine.jit.source import PAGE, Around, Somewhere
from trapline.engine.records import (
    CONTEXTS,
    DATA_BYTES,
    DATA_ENTRIES,
    FETCH_AREA,
    FETCH_BYTES,
    FETCH_ENTRIES,
    LOAD_AREA,
    SET_BYTES,
)
from trapline.privilege.causes import ENVIRONMENT_CALLS, trap_index
from trapline.privilege.modes import MODE_HS, MODE_M, MODE_U, MODE_VS, MODE_VU, TO_HS, TO_M, TO_VS

if TYPE_CHECKING:
    from collections.abc import Callable

    from trapline.lang.state import Hart


def tables_at(hart: Hart, va: int) -> list[int]:
    """Record tables of the pages at a virtual address, by every translation set that has one."""
    at = FETCH_AREA + (va >> 12) % FETCH_ENTRIES * FETCH_BYTES
    found = []
    for number in range(CONTEXTS):
        tag, table = (ctypes.c_uint64 * 2).from_address(int(hart.tlb_base) + number * SET_BYTES + at)
        if tag == va:
            found.append(table)
    return found


def read_data(hart: Hart, near: int, va: int, size: int) -> bytes:
    """Bytes at a virtual address, up to the page's end, if a translation set has the page for loads.

    Only of the region of memory that the host address `near` lies in: whoever asks keeps that alive.
    """
    first, number = va & -PAGE, (va >> 12) % DATA_ENTRIES
    for context in range(CONTEXTS):
        entry = int(hart.tlb_base) + context * SET_BYTES + LOAD_AREA + number * DATA_BYTES
        tag, far = (ctypes.c_uint64 * 2).from_address(entry)
        host = (first + far) & (1 << 64) - 1
        for region in range(int(hart.region_count) if tag == first else 0):
            low, most = int(hart.region_host[region]), int(hart.region_size[region])
            if low and low <= near < low + most and low <= host and host + PAGE <= low + most:
                return ctypes.string_at(host + va - first, min(size, first + PAGE - va))
    return b""


def is_linear(hart: Hart) -> bool:
    """Whether nearly all pages that a hart has cached for loads lie at one distance from the host's memory."""
    if hart.tlb_ptr == 0:
        return False
    words = (ctypes.c_uint64 * (2 * DATA_ENTRIES)).from_address(int(hart.tlb_ptr) + LOAD_AREA)
    far = Counter(distance for tag, distance in zip(words[::2], words[1::2], strict=True) if not tag & 4095)
    return bool(far) and far.most_common(1)[0][1] * 10 >= far.total() * 9


class Surroundings(Around):
    """What a hart's registers and counts say of other modes; `is_hot` tells which addresses of a mode run often."""

    def __init__(self, hart: Hart, is_hot: Callable[[int, int], bool]) -> None:
        self.hart, self.is_hot = hart, is_hot

    def near(self, mode: int) -> int | None:
        """Where the mode is entered: its handler, or what its handler returns to."""
        hart = self.hart
        handlers = {MODE_M: hart.mtvec, MODE_HS: hart.stvec, MODE_VS: hart.vstvec}
        there = handlers | {MODE_U: hart.sepc, MODE_VU: hart.vsepc}
        return int(there[mode]) if mode in there else None

    def handler(self, mode: int) -> Somewhere | None:
        """The handler to which most of a mode's ecalls have gone, if it is code."""
        hart, to = self.hart, self.destination(mode)
        if to is None or self.is_hosted(to):
            return None
        return int((hart.mtvec, hart.stvec, hart.vstvec)[to]) & ~3, (MODE_M, MODE_HS, MODE_VS)[to]

    def hosted(self, mode: int) -> int | None:
        """The same, if hosted software is there."""
        to = self.destination(mode)
        return to if to is not None and self.is_hosted(to) else None

    def any_hosted(self) -> bool:
        """Whether hosted software handles anything."""
        return self.is_hosted(TO_M) or self.is_hosted(TO_HS)

    def is_hosted(self, to: int) -> bool:
        """Whether hosted software handles what goes there."""
        return int((self.hart.hosted_m, self.hart.hosted_hs, 0)[to]) != 0

    def destination(self, mode: int) -> int | None:
        """Where most of a mode's ecalls have gone, if there were any."""
        hart, calls = self.hart, [0, 0, 0]
        for cause in ENVIRONMENT_CALLS:
            for to in (TO_M, TO_HS, TO_VS):
                calls[to] += int(hart.trap_count[trap_index(cause, mode, to)])
        return calls.index(max(calls)) if any(calls) else None

    def returns(self, mode: int) -> list[Somewhere]:
        """What runs often of where the last trap came from, and of where HS-mode sends a guest's trap."""
        hart = self.hart
        found = []
        if mode == MODE_HS:
            found = [(int(hart.vstvec) & ~3, MODE_VS), *((int(hart.sepc), to) for to in (MODE_U, MODE_VU, MODE_VS))]
        elif mode == MODE_VS:
            found = [(int(hart.vsepc), MODE_VU)]
        elif mode == MODE_M:
            found = [(int(hart.mepc), to) for to in (MODE_U, MODE_HS, MODE_VU, MODE_VS)]
        return [(address, to) for address, to in found if self.is_hot(address, to)]

"""What the second tier learns from a hart about the place that it compiles: guesses that compiled code checks."""

from __future__ import annotations

import ctypes
from collections import Counter
from typing import TYPE_CHECKING

from trapline.engine.jit.source import PAGE
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
from trapline.privilege.modes import MODE_HS, MODE_M, MODE_NAMES, MODE_VS, TO_HS, TO_M, TO_VS

if TYPE_CHECKING:
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


def handler_of(hart: Hart) -> tuple[int, int] | None:
    """Virtual address and mode of the handler to which most of a hart's ecalls have gone."""
    calls = [0, 0, 0]
    for cause in ENVIRONMENT_CALLS:
        for mode in MODE_NAMES:
            for to in (TO_M, TO_HS, TO_VS):
                calls[to] += int(hart.trap_count[trap_index(cause, mode, to)])
    if not any(calls):
        return None
    to = calls.index(max(calls))
    return int((hart.mtvec, hart.stvec, hart.vstvec)[to]) & ~3, (MODE_M, MODE_HS, MODE_VS)[to]

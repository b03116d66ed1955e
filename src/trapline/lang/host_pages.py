"""Memory of this process for guests and tables, and huge pages for what a long run has in full use.

A huge page serves 2 MiB by one fault and one entry of the host's TLB. But where the host is itself a guest, its first
touch takes 4 ms, and a kernel that boots touches a little of many. So memory begins in small pages. What is nearly
full of them when a run has gone on for seconds is collapsed, beside the run.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
import time
import weakref
from collections.abc import Iterator

PAGE, HUGE = 4096, 1 << 21
_COLLAPSE = 25  # MADV_COLLAPSE of Linux 6.1, which Python has no name for
_STRETCH = 64 << 20  # bytes whose pages are looked up at a time

LONG, PAUSE, AGAIN = 5.0, 0.05, 10.0  # seconds before the first is collapsed, between two, and between looks at all
DENSE = 448  # of the 512 small pages must be there

_blocks: list[tuple[weakref.ref[mmap.mmap], int, int]] = []  # with the address, the size


def anonymous(size: int, *, executable: bool = False) -> mmap.mmap:
    """Return private memory, zero until touched.

    OSError if the host cannot provide that much.
    """
    access = mmap.PROT_READ | mmap.PROT_WRITE | (mmap.PROT_EXEC if executable else 0)
    block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=access)
    if size >= HUGE:
        _blocks[:] = [known for known in _blocks if known[0]() is not None]
        _blocks.append((weakref.ref(block), ctypes.addressof(ctypes.c_char.from_buffer(block)), size))
    return block


class Collapser:
    """Puts memory in full use into huge pages, one at a time, where the host has them."""

    def __init__(self, after: float = LONG) -> None:
        self._due = time.monotonic() + after
        self._found: Iterator[int] = iter(())
        self._done: set[int] = set()
        self._libc = ctypes.CDLL(None) if sys.platform == "linux" else None  # its calls leave CPython to others

    def step(self) -> None:
        """Collapse the next, if it is time."""
        now = time.monotonic()
        if self._libc is None or now < self._due:
            return
        address = next(self._found, None)
        if address is None:
            self._found, self._due = self._dense(), now + AGAIN
            return
        self._due = now + PAUSE
        self._done.add(address)  # whatever comes of it: a host without them says so each time
        self._libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(HUGE), _COLLAPSE)

    def _dense(self) -> Iterator[int]:
        for reference, start, size in list(_blocks):
            first = -(-start // HUGE) * HUGE
            for at in range(first, start + size - HUGE + 1, _STRETCH):
                if reference() is None:  # what has its place since may be collapsed as well
                    break
                there = self._there(at, min(_STRETCH, (start + size - at) // HUGE * HUGE))
                dense = [
                    at + offset * PAGE
                    for offset in range(0, len(there), HUGE // PAGE)
                    if there.count(1, offset, offset + HUGE // PAGE) >= DENSE
                ]
                yield from (address for address in dense if address not in self._done)

    def _there(self, address: int, size: int) -> bytes:
        """One byte for each small page: 1 if it is there; none if the host does not say."""
        pages = ctypes.create_string_buffer(size // PAGE)
        assert self._libc is not None
        if self._libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(size), pages) != 0:
            return b""
        return pages.raw

"""Memory of this process for guests and tables."""

from __future__ import annotations

import contextlib
import mmap

HUGE = 1 << 21


def anonymous(size: int, *, executable: bool = False) -> mmap.mmap:
    """Return private memory, zero until touched, in huge pages where the host has them and they fit.

    A page fault of the host then serves 2 MiB instead of 4 KiB, and its TLB holds more of a guest.
    OSError if the host cannot provide that much.
    """
    access = mmap.PROT_READ | mmap.PROT_WRITE | (mmap.PROT_EXEC if executable else 0)
    block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=access)
    if size >= HUGE and hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a host without them says so here
            block.madvise(mmap.MADV_HUGEPAGE)
    return block

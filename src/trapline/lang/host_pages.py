"""Memory of this process for guests and tables."""

from __future__ import annotations

import contextlib
import mmap
import weakref

HUGE = 1 << 21
_COLLAPSE = 25  # MADV_COLLAPSE of Linux 6.1, which Python has no name for

_waiting: list[weakref.ref[mmap.mmap]] | None = []  # memory that has no huge pages yet; None: all shall have them


def anonymous(size: int, *, executable: bool = False) -> mmap.mmap:
    """Return private memory, zero until touched; in huge pages, if the host has them, after `use_huge_pages`.

    OSError if the host cannot provide that much.
    """
    access = mmap.PROT_READ | mmap.PROT_WRITE | (mmap.PROT_EXEC if executable else 0)
    block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=access)
    if size >= HUGE:
        if _waiting is None:
            _advise(block)
        else:
            _waiting.append(weakref.ref(block))
    return block


def use_huge_pages() -> None:
    """From now on, ask for huge pages for all this memory: what runs or loads for long gains more than they cost.

    A page fault of the host then serves 2 MiB instead of 4 KiB, and its TLB holds more of a guest. But the first one
    takes 4 ms: a guest that ends at once is over by then.
    """
    global _waiting
    waiting, _waiting = _waiting or [], None
    for reference in waiting:
        if (block := reference()) is not None:
            _advise(block)
            with contextlib.suppress(OSError, ValueError):  # an older kernel collapses pages by itself, later
                block.madvise(_COLLAPSE)


def _advise(block: mmap.mmap) -> None:
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError, ValueError):  # a host without them says so here; or memory that was closed
            block.madvise(mmap.MADV_HUGEPAGE)

"""Memory accesses by M-mode on behalf of the code that trapped: mstatus.MPRV with the trap's MPP and MPV.

A fault of such an access does not enter a handler: firmware expects it and gets it as a Trap.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from trapline.lang.functions import Trap
from trapline.privilege import causes
from trapline.privilege import csr_numbers as csr
from trapline.privilege.csr import csr_read, csr_write
from trapline.privilege.fields import MSTATUS_MPRV, MSTATUS_MXR
from trapline.privilege.memory import load, store

# A load that failed while fetching an instruction is reported as the fetch that it stands for.
AS_FETCH = {
    causes.LOAD_ACCESS: causes.INST_ACCESS,
    causes.LOAD_PAGE_FAULT: causes.INST_PAGE_FAULT,
    causes.LOAD_GUEST_PAGE_FAULT: causes.INST_GUEST_PAGE_FAULT,
}


@contextmanager
def as_trapped_code(hart: Any, extra: int = 0) -> Iterator[None]:
    """Set MPRV (and `extra` bits) of mstatus for a while."""
    mstatus = int(hart.call(csr_read, csr.MSTATUS))
    hart.call(csr_write, csr.MSTATUS, mstatus | MSTATUS_MPRV | extra)
    try:
        yield
    finally:
        hart.call(csr_write, csr.MSTATUS, mstatus)


def load_bytes(hart: Any, va: int, size: int) -> int:
    """Load `size` bytes one at a time, little endian."""
    with as_trapped_code(hart):
        return sum(int(hart.call(load, va + n, 1)) << 8 * n for n in range(size))


def store_bytes(hart: Any, va: int, size: int, value: int) -> None:
    """Store `size` bytes one at a time; bytes before one that faults stay written."""
    with as_trapped_code(hart):
        for n in range(size):
            hart.call(store, va + n, 1, value >> 8 * n & 0xFF)


def load_word(hart: Any, va: int) -> int:
    """Load 8 aligned bytes."""
    with as_trapped_code(hart):
        return int(hart.call(load, va, 8))


def fetch_instruction(hart: Any, epc: int) -> int:
    """Read the instruction at `epc` by halfword loads, execute-only pages included (MXR).

    A fault is raised as the cause of a fetch, and xtval is the instruction's address even if its second
    half faulted.
    """
    try:
        with as_trapped_code(hart, MSTATUS_MXR):
            bits = int(hart.call(load, epc, 2))
            if bits & 3 == 3:
                bits |= int(hart.call(load, epc + 2, 2)) << 16
    except Trap as trap:
        if trap.cause not in AS_FETCH:
            raise
        raise Trap(AS_FETCH[trap.cause], epc, trap.tval2, trap.tinst, trap.gva) from None
    return bits

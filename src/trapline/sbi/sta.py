"""Steal-time Accounting extension (EID 0x535441 "STA")."""

from __future__ import annotations

from trapline.sbi.call import Extension, SbiCall, SbiOutcome, failure, result
from trapline.sbi.host import Access, SbiHost
from trapline.sbi.numbers import Eid, SbiError

NONE = (1 << 64) - 1
SHARED_MEMORY = 64


def set_shmem(host: SbiHost, call: SbiCall) -> SbiOutcome:
    """Give the 64 bytes in which stolen time is reported; all ones stops the reports."""
    low, high, flags = call.args[:3]
    if flags != 0:
        return failure(SbiError.INVALID_PARAM)
    if low == NONE and high == NONE:
        return result(host.steal_time(None))
    if low % SHARED_MEMORY:
        return failure(SbiError.INVALID_PARAM)
    if high != 0 or not host.accessible(low, SHARED_MEMORY, Access.WRITE):
        return failure(SbiError.INVALID_ADDRESS)
    host.write_memory(low, bytes(SHARED_MEMORY))
    return result(host.steal_time(low))


STA = Extension("sta", Eid.STA, (2, 0), {0: set_shmem})

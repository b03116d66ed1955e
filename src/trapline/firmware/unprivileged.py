"""Memory accesses by M-mode on behalf of the code that trapped, as with mstatus.MPRV and the trap's MPP and MPV.

Each may trap, as the code's own would; hosted software makes them as an attempt() and expects that.
"""

from __future__ import annotations

from trapline.lang.control import attempt, note_store
from trapline.lang.functions import cold, hosted, inline
from trapline.lang.memory import host_load, host_store
from trapline.lang.state import Hart
from trapline.lang.values import U64
from trapline.privilege.causes import (
    INST_ACCESS,
    INST_GUEST_PAGE_FAULT,
    INST_PAGE_FAULT,
    LOAD_ACCESS,
    LOAD_GUEST_PAGE_FAULT,
    LOAD_PAGE_FAULT,
)
from trapline.privilege.fields import MSTATUS_MXR
from trapline.privilege.memory import load_as, store_as
from trapline.privilege.protection import KIND_DEVICE, check_physical, region_of
from trapline.privilege.translation import ACCESS_LOAD, ACCESS_STORE, translate


@cold
def plain_bytes(hart: Hart, va: U64, size: U64, access: U64, priv: U64, virt: U64) -> U64:
    """Host address of the bytes at `va`, in one page, in RAM that may be accessed so, 0 if it is not.

    Raises what translation does. For a store the bytes are as good as written.
    """
    pa = translate(hart, va, access, priv, virt, U64(0))
    if not check_physical(hart, pa, size, access, priv):
        return U64(0)
    region = region_of(hart, pa)
    if hart.region_kind[region] == KIND_DEVICE:
        return U64(0)
    if access == ACCESS_STORE:
        if pa < hart.watch_end and pa + 8 > hart.watch_base:
            return U64(0)
        note_store(hart, pa, region, size)
    return hart.region_host[region] + (pa - hart.region_base[region])


@inline
def load_part(hart: Hart, va: U64, size: U64, priv: U64, virt: U64) -> U64:
    """Load bytes of one page, one at a time where they are not plain RAM."""
    place = plain_bytes(hart, va, size, U64(ACCESS_LOAD), priv, virt)
    found = U64(0)
    if place != 0:
        for i in range(8):
            if i < size:
                found = found | (host_load(place + i, 1) << (i * 8))
        return found
    for i in range(8):
        if i < size:
            found = found | (load_as(hart, va + i, U64(1), priv, virt, U64(0)) << (i * 8))
    return found


@inline
def store_part(hart: Hart, va: U64, size: U64, value: U64, priv: U64, virt: U64) -> None:
    """Store bytes of one page, one at a time where they are not plain RAM."""
    place = plain_bytes(hart, va, size, U64(ACCESS_STORE), priv, virt)
    if place != 0:
        for i in range(8):
            if i < size:
                host_store(place + i, 1, value >> (i * 8))
        return
    for i in range(8):
        if i < size:
            store_as(hart, va + i, U64(1), value >> (i * 8) & 0xFF, priv, virt)


@cold
def load_bytes(hart: Hart, va: U64, size: U64, priv: U64, virt: U64) -> U64:
    """Load `size` bytes, little endian, as if one at a time."""
    first = 4096 - (va & 4095)
    if first >= size:
        return load_part(hart, va, size, priv, virt)
    low = load_part(hart, va, first, priv, virt)
    return low | (load_part(hart, va + first, size - first, priv, virt) << (first * 8))


@cold
def store_bytes(hart: Hart, va: U64, size: U64, value: U64, priv: U64, virt: U64) -> None:
    """Store `size` bytes as if one at a time; those before one that faults stay written."""
    first = 4096 - (va & 4095)
    if first >= size:
        store_part(hart, va, size, value, priv, virt)
        return
    store_part(hart, va, first, value, priv, virt)
    store_part(hart, va + first, size - first, value >> (first * 8), priv, virt)


@hosted
def load_word(hart: Hart, va: U64, priv: U64, virt: U64) -> U64:
    """Load 8 aligned bytes."""
    return load_as(hart, va, U64(8), priv, virt, U64(0))


@cold
def read_instruction(hart: Hart, va: U64, priv: U64, virt: U64) -> U64:
    """Read an instruction by loads of its halfwords: at once where one page of RAM has both."""
    if va & 4095 <= 4092:
        place = plain_bytes(hart, va, U64(4), U64(ACCESS_LOAD), priv, virt)
        if place != 0:
            bits = host_load(place, 2)
            return bits | (host_load(place + 2, 2) << 16) if bits & 3 == 3 else bits
    bits = load_as(hart, va, U64(2), priv, virt, U64(0))
    if bits & 3 == 3:
        bits = bits | (load_as(hart, va + 2, U64(2), priv, virt, U64(0)) << 16)
    return bits


@cold
def fetches(hart: Hart, epc: U64, priv: U64, virt: U64) -> bool:
    """Read the instruction at `epc`, from execute-only pages too (MXR), to hart.attempted.

    False if that faults: trap_* are then the fault as one of a fetch, with the instruction's address in trap_tval even
    if its second half faulted.
    """
    mstatus = hart.mstatus
    hart.mstatus = mstatus | MSTATUS_MXR
    failed = attempt(hart, read_instruction, epc, priv, virt)
    hart.mstatus = mstatus
    if not failed:
        return True
    cause = hart.trap_cause
    fetch = cause
    if cause == LOAD_ACCESS:
        fetch = U64(INST_ACCESS)
    elif cause == LOAD_PAGE_FAULT:
        fetch = U64(INST_PAGE_FAULT)
    elif cause == LOAD_GUEST_PAGE_FAULT:
        fetch = U64(INST_GUEST_PAGE_FAULT)
    if fetch != cause:
        hart.trap_cause = fetch
        hart.trap_tval = epc
    return False

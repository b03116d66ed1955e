"""Misaligned integer loads and stores on plain RAM, emulated: the part of firmware.misaligned that is compiled.

Where an access meets a device, a fault or anything unusual this does nothing, and the general way is taken.
"""

from __future__ import annotations

from typing import Any

from trapline.engine.decode_block import find_entry, register_bytes, word
from trapline.engine.decode_table import ACCESS, ACCESS_SHIFT, ACCESS_SIGNED, ACCESS_SIZE, ACCESS_STORE, ACCESS_ZCB
from trapline.firmware.redirect import EMULATES_ZCB
from trapline.lang.control import note_store
from trapline.lang.functions import cold, hosted, inline
from trapline.lang.memory import host_load, host_store
from trapline.lang.values import U64
from trapline.privilege.csr import csr_write
from trapline.privilege.csr_numbers import MEPC
from trapline.privilege.protection import KIND_DEVICE, check_physical, region_of
from trapline.privilege.translation import ACCESS_LOAD, translate
from trapline.privilege.translation import ACCESS_STORE as TO_STORE


@cold
def plain_bytes(hart: Any, va: U64, size: U64, access: U64, priv: U64, virt: U64) -> U64:
    """Host address of the bytes at `va`, in one page, in RAM that may be accessed so, 0 if it is not.

    Raises what translation does. For a store the bytes are as good as written.
    """
    pa = translate(hart, va, access, priv, virt, U64(0))
    if not check_physical(hart, pa, size, access, priv):
        return U64(0)
    region = region_of(hart, pa)
    if hart.region_kind[region] == KIND_DEVICE:
        return U64(0)
    if access == TO_STORE:
        if pa < hart.watch_end and pa + 8 > hart.watch_base:
            return U64(0)
        note_store(hart, pa, region, size)
    return hart.region_host[region] + (pa - hart.region_base[region])


@cold
def instruction_at(hart: Any, va: U64, priv: U64, virt: U64) -> U64:
    """The instruction at `va`, read as data of the code that trapped; 0 if that is not plainly possible."""
    place = plain_bytes(hart, va, U64(2), U64(ACCESS_LOAD), priv, virt)
    if place == 0:
        return U64(0)
    low = host_load(place, 2)
    if low & 3 != 3:
        return low
    if va & 4095 != 4094:
        return low | (host_load(place + 2, 2) << 16)
    place = plain_bytes(hart, va + 2, U64(2), U64(ACCESS_LOAD), priv, virt)
    if place == 0:
        return U64(0)
    return low | (host_load(place, 2) << 16)


@inline
def write_loaded(hart: Any, registers: U64, access: U64, data: U64) -> None:
    """Write what an emulated load has found, as wide as the access and extended as it wants, to its register."""
    size = access & ACCESS_SIZE
    value = data & (U64(0xFFFF_FFFF_FFFF_FFFF) >> ((64 - size * 8) & 63))
    if access & ACCESS_SIGNED != 0:
        sign = U64(1) << ((size * 8 - 1) & 63)
        value = (value ^ sign) - sign
    if registers & 32 == 0:
        hart.x[registers & 31] = value


@hosted
def emulate_plain(hart: Any, epc: U64, va: U64, tinst: U64, priv: U64, virt: U64) -> U64:
    """Do the access that trapped and step mepc over it; return 1 + its place in ACCESSES, or 0 with nothing done."""
    bits = tinst | 2
    length = U64(2) if tinst & 2 == 0 else U64(4)
    if tinst & 1 == 0 or tinst >> 32 != 0:
        bits = instruction_at(hart, epc, priv, virt)
        length = U64(4) if bits & 3 == 3 else U64(2)
    if bits == 0:
        return U64(0)
    entry = find_entry(hart, bits)
    if entry == 0:
        return U64(0)
    access = word(entry, U64(ACCESS))
    if access == 0 or (access & ACCESS_ZCB != 0 and hart.fw_flags & EMULATES_ZCB == 0):
        return U64(0)
    size = access & ACCESS_SIZE
    kind = U64(ACCESS_LOAD) if access & ACCESS_STORE == 0 else U64(TO_STORE)
    first = 4096 - (va & 4095)
    low = plain_bytes(hart, va, first if first < size else size, kind, priv, virt)
    high = low + first
    if low != 0 and first < size:
        high = plain_bytes(hart, va + first, size - first, kind, priv, virt)
    if low == 0 or high == 0:
        return U64(0)
    registers = register_bytes(bits, entry)
    if access & ACCESS_STORE != 0:
        value = hart.x[registers >> 16 & 31]
        for i in range(8):
            if i < size:
                at = low + i if i < first else high + (i - first)
                host_store(at, 1, value >> (i * 8))
    else:
        found = U64(0)
        for i in range(8):
            if i < size:
                at = low + i if i < first else high + (i - first)
                found = found | (host_load(at, 1) << (i * 8))
        write_loaded(hart, registers, access, found)
    csr_write(hart, U64(MEPC), epc + length)
    return access >> ACCESS_SHIFT

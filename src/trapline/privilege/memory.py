"""Explicit memory accesses and instruction fetch: alignment, translation, protection, then the bytes.

The order of checks is the order of exception priorities that this hart chose (Privileged spec,
synchronous exception priority): a misaligned access that traps does so before translation.
"""

from __future__ import annotations

from trapline.lang.control import cache_translation, note_access, note_atomic, note_split, note_store
from trapline.lang.functions import Trap, cold, inline
from trapline.lang.memory import device_load, device_store, host_load, host_store
from trapline.lang.state import Hart
from trapline.lang.state.words import WATCHER
from trapline.lang.values import U64
from trapline.privilege.causes import INST_ACCESS, LOAD_ACCESS, LOAD_MISALIGNED, STORE_ACCESS, STORE_MISALIGNED
from trapline.privilege.fields import HSTATUS_SPVP
from trapline.privilege.modes import MACHINE
from trapline.privilege.protection import KIND_DEVICE, check_physical, region_of
from trapline.privilege.tlb_misses import count_miss
from trapline.privilege.translation import ACCESS_FETCH, ACCESS_LOAD, ACCESS_MANAGE, ACCESS_STORE, translate

NO_RESERVATION = 0xFFFF_FFFF_FFFF_FFFF


@inline
def located(hart: Hart, va: U64, access: U64, priv: U64, virt: U64, hlvx: U64) -> U64:
    """translate(), for an access of the hart itself; counters may have selected the misses of its TLB."""
    pa = translate(hart, va, access, priv, virt, hlvx)
    if hart.hpm_tlb != 0 and (virt != 0 or priv != MACHINE):
        count_miss(hart, va, access, virt)
    return pa


@cold
def host_read(address: U64, size: U64) -> U64:
    """Read 1, 2, 4 or 8 bytes at a host address."""
    if size == 8:
        return host_load(address, 8)
    if size == 4:
        return host_load(address, 4)
    if size == 2:
        return host_load(address, 2)
    return host_load(address, 1)


@cold
def host_write(address: U64, size: U64, value: U64) -> None:
    """Write the low 1, 2, 4 or 8 bytes of value at a host address."""
    if size == 8:
        host_store(address, 8, value)
    elif size == 4:
        host_store(address, 4, value)
    elif size == 2:
        host_store(address, 2, value)
    else:
        host_store(address, 1, value)


@cold
def check_load(hart: Hart, va: U64, pa: U64, size: U64, priv: U64, virt: U64) -> U64:
    """Return the number of the region to read from, or raise a load access fault."""
    if not check_physical(hart, pa, size, U64(ACCESS_LOAD), priv):
        raise Trap(LOAD_ACCESS, va, 0, 0, virt)
    return region_of(hart, pa)


@cold
def check_store(hart: Hart, va: U64, pa: U64, size: U64, priv: U64, virt: U64) -> U64:
    """Return the number of the region to write to, or raise a store/AMO access fault."""
    if not check_physical(hart, pa, size, U64(ACCESS_STORE), priv):
        raise Trap(STORE_ACCESS, va, 0, 0, virt)
    return region_of(hart, pa)


@cold
def read_region(hart: Hart, region: U64, pa: U64, size: U64) -> U64:
    """Read from RAM, ROM or a device."""
    offset = pa - hart.region_base[region]
    if hart.region_kind[region] == KIND_DEVICE:
        return device_load(hart, region, offset, size)
    return host_read(hart.region_host[region] + offset, size)


@cold
def write_region(hart: Hart, region: U64, pa: U64, size: U64, value: U64) -> None:
    """Write to RAM or a device; a watched store is written first and then told."""
    offset = pa - hart.region_base[region]
    if hart.region_kind[region] == KIND_DEVICE:
        device_store(hart, region, offset, size, value)
        return
    note_store(hart, pa, region, size)
    host_write(hart.region_host[region] + offset, size, value)
    if pa < hart.watch_end and pa + size > hart.watch_base:
        device_store(hart, U64(WATCHER), pa - hart.watch_base, size, value)


@cold
def check_split_load(hart: Hart, va: U64, pa: U64, size: U64, priv: U64, virt: U64) -> U64:
    """As check_load for a part of a misaligned access, which no device takes."""
    region = check_load(hart, va, pa, size, priv, virt)
    if hart.region_kind[region] == KIND_DEVICE:
        raise Trap(LOAD_ACCESS, va, 0, 0, virt)
    return hart.region_host[region] + (pa - hart.region_base[region])


@cold
def check_split_store(hart: Hart, va: U64, pa: U64, size: U64, priv: U64, virt: U64) -> U64:
    """As check_store for a part of a misaligned access, which no device takes."""
    region = check_store(hart, va, pa, size, priv, virt)
    if hart.region_kind[region] == KIND_DEVICE:
        raise Trap(STORE_ACCESS, va, 0, 0, virt)
    note_store(hart, pa, region, size)
    return hart.region_host[region] + (pa - hart.region_base[region])


@cold
def load_misaligned(hart: Hart, va: U64, size: U64, priv: U64, virt: U64, hlvx: U64) -> U64:
    """A load whose address is no multiple of its size: cause 4, or split where the hart does it."""
    if hart.misaligned_hardware == 0:
        raise Trap(LOAD_MISALIGNED, va, 0, 0, virt)
    first = size
    if (va & 4095) + size > 4096:
        first = 4096 - (va & 4095)
    pa = located(hart, va, U64(ACCESS_LOAD), priv, virt, hlvx)
    low = check_split_load(hart, va, pa, first, priv, virt)
    high = low + first
    rest = va + first
    other = U64(0)
    if first != size:
        other = located(hart, rest, U64(ACCESS_LOAD), priv, virt, hlvx)
        high = check_split_load(hart, rest, other, size - first, priv, virt)
    note_split(hart, va, size, pa, first, other, ACCESS_LOAD)
    value = U64(0)
    for i in range(8):
        if i < size:
            if i < first:
                value = value | (host_load(low + i, 1) << (i * 8))
            else:
                value = value | (host_load(high + (i - first), 1) << (i * 8))
    return value


@cold
def store_misaligned(hart: Hart, va: U64, size: U64, value: U64, priv: U64, virt: U64) -> None:
    """A store whose address is no multiple of its size: cause 6, or split after both parts are checked."""
    if hart.misaligned_hardware == 0:
        raise Trap(STORE_MISALIGNED, va, 0, 0, virt)
    first = size
    if (va & 4095) + size > 4096:
        first = 4096 - (va & 4095)
    pa = located(hart, va, U64(ACCESS_STORE), priv, virt, U64(0))
    low = check_split_store(hart, va, pa, first, priv, virt)
    high = low + first
    rest = va + first
    other = U64(0)
    if first != size:
        other = located(hart, rest, U64(ACCESS_STORE), priv, virt, U64(0))
        high = check_split_store(hart, rest, other, size - first, priv, virt)
    note_split(hart, va, size, pa, first, other, ACCESS_STORE)
    for i in range(8):
        if i < size:
            if i < first:
                host_store(low + i, 1, value >> (i * 8))
            else:
                host_store(high + (i - first), 1, value >> (i * 8))


@cold
def load(hart: Hart, va: U64, size: U64) -> U64:
    """Load `size` bytes, zero-extended, in the hart's effective data mode (MPRV applies)."""
    hart.access_va = va
    priv = hart.data_priv
    virt = hart.data_virt
    if va & (size - 1) != 0 and (hart.misaligned_hardware == 0 or (va & 4095) + size > 4096):
        return load_misaligned(hart, va, size, priv, virt, U64(0))
    pa = located(hart, va, U64(ACCESS_LOAD), priv, virt, U64(0))
    region = check_load(hart, va, pa, size, priv, virt)
    cache_translation(hart, va, pa, ACCESS_LOAD, region, priv)
    if va & (size - 1) != 0:
        return load_misaligned(hart, va, size, priv, virt, U64(0))
    note_access(hart, va, pa, size, ACCESS_LOAD)
    return read_region(hart, region, pa, size)


@cold
def store(hart: Hart, va: U64, size: U64, value: U64) -> None:
    """Store the low `size` bytes of value in the hart's effective data mode."""
    hart.access_va = va
    priv = hart.data_priv
    virt = hart.data_virt
    if va & (size - 1) != 0 and (hart.misaligned_hardware == 0 or (va & 4095) + size > 4096):
        store_misaligned(hart, va, size, value, priv, virt)
        return
    pa = located(hart, va, U64(ACCESS_STORE), priv, virt, U64(0))
    region = check_store(hart, va, pa, size, priv, virt)
    cache_translation(hart, va, pa, ACCESS_STORE, region, priv)
    if va & (size - 1) != 0:
        store_misaligned(hart, va, size, value, priv, virt)
        return
    note_access(hart, va, pa, size, ACCESS_STORE)
    write_region(hart, region, pa, size, value)


@cold
def atomic_address(hart: Hart, va: U64, size: U64) -> U64:
    """Physical address of an SC or AMO after every guard; devices take no atomics."""
    hart.access_va = va
    virt = hart.data_virt
    if va & (size - 1) != 0:
        if hart.misaligned_hardware != 0:
            raise Trap(STORE_ACCESS, va, 0, 0, virt)
        raise Trap(STORE_MISALIGNED, va, 0, 0, virt)
    pa = located(hart, va, U64(ACCESS_STORE), hart.data_priv, virt, U64(0))
    region = check_store(hart, va, pa, size, hart.data_priv, virt)
    if not check_physical(hart, pa, size, U64(ACCESS_LOAD), hart.data_priv) or hart.region_kind[region] == KIND_DEVICE:
        raise Trap(STORE_ACCESS, va, 0, 0, virt)
    cache_translation(hart, va, pa, ACCESS_STORE, region, hart.data_priv)
    return pa


@cold
def amo_load(hart: Hart, va: U64, size: U64) -> U64:
    """Read for an AMO: the page is writable, so the store that follows cannot trap."""
    pa = atomic_address(hart, va, size)
    note_atomic(hart, va, pa, size)
    return read_region(hart, region_of(hart, pa), pa, size)


@cold
def load_reserved(hart: Hart, va: U64, size: U64) -> U64:
    """LR: a load that registers a reservation on the physical address."""
    hart.access_va = va
    priv = hart.data_priv
    virt = hart.data_virt
    if va & (size - 1) != 0:
        if hart.misaligned_hardware != 0:
            raise Trap(LOAD_ACCESS, va, 0, 0, virt)
        raise Trap(LOAD_MISALIGNED, va, 0, 0, virt)
    pa = located(hart, va, U64(ACCESS_LOAD), priv, virt, U64(0))
    region = check_load(hart, va, pa, size, priv, virt)
    if hart.region_kind[region] == KIND_DEVICE:
        raise Trap(LOAD_ACCESS, va, 0, 0, virt)
    hart.reservation = pa
    note_access(hart, va, pa, size, ACCESS_LOAD)
    return read_region(hart, region, pa, size)


@cold
def store_conditional(hart: Hart, va: U64, size: U64, value: U64) -> U64:
    """SC: write if the reservation still covers the address; return 0, or 1 when it failed."""
    pa = atomic_address(hart, va, size)
    held = hart.reservation
    hart.reservation = NO_RESERVATION
    if held != pa:
        return U64(1)
    note_access(hart, va, pa, size, ACCESS_STORE)
    write_region(hart, region_of(hart, pa), pa, size, value)
    return U64(0)


@cold
def load_as(hart: Hart, va: U64, size: U64, priv: U64, virt: U64, hlvx: U64) -> U64:
    """Load `size` bytes, zero-extended, as code of another mode would; `hlvx` reads what may be executed."""
    hart.access_va = va
    if va & (size - 1) != 0:
        return load_misaligned(hart, va, size, priv, virt, hlvx)
    pa = located(hart, va, U64(ACCESS_LOAD), priv, virt, hlvx)
    region = check_load(hart, va, pa, size, priv, virt)
    if hlvx != 0 and not check_physical(hart, pa, size, U64(ACCESS_FETCH), priv):
        raise Trap(LOAD_ACCESS, va, 0, 0, virt)
    note_access(hart, va, pa, size, ACCESS_LOAD)
    return read_region(hart, region, pa, size)


@cold
def store_as(hart: Hart, va: U64, size: U64, value: U64, priv: U64, virt: U64) -> None:
    """Store the low `size` bytes of value as code of another mode would."""
    hart.access_va = va
    if va & (size - 1) != 0:
        store_misaligned(hart, va, size, value, priv, virt)
        return
    pa = located(hart, va, U64(ACCESS_STORE), priv, virt, U64(0))
    region = check_store(hart, va, pa, size, priv, virt)
    note_access(hart, va, pa, size, ACCESS_STORE)
    write_region(hart, region, pa, size, value)


@inline
def guest_privilege(hart: Hart) -> U64:
    """Whose accesses HLV, HLVX and HSV make: 1 for VS-mode, 0 for VU-mode (hstatus.SPVP)."""
    return U64(1) if hart.hstatus & HSTATUS_SPVP != 0 else U64(0)


@cold
def guest_load(hart: Hart, va: U64, size: U64, hlvx: U64) -> U64:
    """HLV and HLVX: a load as if V=1 at the privilege of hstatus.SPVP."""
    return load_as(hart, va, size, guest_privilege(hart), U64(1), hlvx)


@cold
def guest_store(hart: Hart, va: U64, size: U64, value: U64) -> None:
    """HSV: a store as if V=1 at the privilege of hstatus.SPVP."""
    store_as(hart, va, size, value, guest_privilege(hart), U64(1))


@cold
def zero_block(hart: Hart, va: U64) -> None:
    """cbo.zero: store zeros to the cache block that holds va; faults report va itself."""
    hart.access_va = va
    size = hart.cache_block
    block = va & ~(size - 1)
    virt = hart.data_virt
    pa = located(hart, va, U64(ACCESS_STORE), hart.data_priv, virt, U64(0)) & ~(size - 1)
    region = check_store(hart, va, pa, size, hart.data_priv, virt)
    if hart.region_kind[region] == KIND_DEVICE:
        raise Trap(STORE_ACCESS, va, 0, 0, virt)
    cache_translation(hart, block, pa, ACCESS_STORE, region, hart.data_priv)
    note_access(hart, block, pa, size, ACCESS_STORE)
    note_store(hart, pa, region, size)
    address = hart.region_host[region] + (pa - hart.region_base[region])
    for i in range(512):
        if i * 8 >= size:
            break
        host_store(address + i * 8, 8, U64(0))


@cold
def manage_block(hart: Hart, va: U64) -> None:
    """cbo.clean, cbo.flush, cbo.inval: permitted where a load or a store would be; faults are store faults."""
    hart.access_va = va
    virt = hart.data_virt
    pa = located(hart, va, U64(ACCESS_MANAGE), hart.data_priv, virt, U64(0))
    size = hart.cache_block
    block = pa & ~(size - 1)
    if not check_physical(hart, block, size, U64(ACCESS_LOAD), hart.data_priv) and not check_physical(
        hart, block, size, U64(ACCESS_STORE), hart.data_priv
    ):
        raise Trap(STORE_ACCESS, va, 0, 0, virt)


@cold
def fetch_parcel(hart: Hart, va: U64) -> U64:
    """Fetch 16 bits at va in the hart's own mode."""
    pa = located(hart, va, U64(ACCESS_FETCH), hart.priv, hart.virt, U64(0))
    if not check_physical(hart, pa, U64(2), U64(ACCESS_FETCH), hart.priv):
        raise Trap(INST_ACCESS, va, 0, 0, hart.virt)
    region = region_of(hart, pa)
    cache_translation(hart, va, pa, ACCESS_FETCH, region, hart.priv)
    return host_load(hart.region_host[region] + (pa - hart.region_base[region]), 2)


@cold
def fetch(hart: Hart) -> U64:
    """Fetch the instruction at hart.pc; sets hart.insn and hart.insn_length."""
    low = fetch_parcel(hart, hart.pc)
    if low & 3 != 3:
        hart.insn = low
        hart.insn_length = 2
        return low
    bits = low | (fetch_parcel(hart, hart.pc + 2) << 16)
    hart.insn = bits
    hart.insn_length = 4
    return bits

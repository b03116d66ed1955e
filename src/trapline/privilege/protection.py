"""Physical memory protection (PMP) and physical memory attributes (PMA).

The PMP CSRs are turned into bounds when they are written (pmp_low, pmp_high), so a check compares
addresses and decodes nothing. The attributes are those of the regions that the board declared.
"""

from __future__ import annotations

from trapline.lang.control import flush_translations
from trapline.lang.functions import cold, inline
from trapline.lang.state import Hart
from trapline.lang.values import U64, ctz
from trapline.privilege.fields import (
    ALL_ONES,
    PMP_A_SHIFT,
    PMP_L,
    PMP_NA4,
    PMP_NAPOT,
    PMP_R,
    PMP_TOR,
    PMP_W,
    PMP_X,
)
from trapline.privilege.modes import MACHINE

ACCESS_LOAD, ACCESS_STORE, ACCESS_FETCH, ACCESS_MANAGE = 0, 1, 2, 3

# What answers at an address (hart.region_kind).
KIND_NONE, KIND_RAM, KIND_ROM, KIND_DEVICE, KIND_HOLE = 0, 1, 2, 3, 4
NO_REGION = ALL_ONES

PMP_ENTRIES = 16
PMP_ADDRESS_BITS = 54


@cold
def region_of(hart: Hart, pa: U64) -> U64:
    """Number of the memory region that holds the byte at `pa`, or all ones."""
    last = hart.region_last
    if last < hart.region_count and pa - hart.region_base[last] < hart.region_size[last]:
        return last
    for i in range(24):
        if i < hart.region_count and pa - hart.region_base[i] < hart.region_size[i]:
            hart.region_last = i
            return U64(i)
    return U64(NO_REGION)


@inline
def pmp_permits(config: U64, access: U64, priv: U64) -> bool:
    """Whether a matching entry permits the access: M is bound by locked entries only."""
    if priv == MACHINE and config & PMP_L == 0:
        return True
    if access == ACCESS_STORE:
        return config & PMP_W != 0
    if access == ACCESS_FETCH:
        return config & PMP_X != 0
    return config & PMP_R != 0


@cold
def pmp_check(hart: Hart, pa: U64, size: U64, access: U64, priv: U64) -> bool:
    """Whether PMP permits the access: the first entry that touches any byte decides, and must hold them all."""
    last = pa + (size - 1)
    for i in range(16):
        if pa <= hart.pmp_high[i] and last >= hart.pmp_low[i]:
            if pa < hart.pmp_low[i] or last > hart.pmp_high[i]:
                return False
            return pmp_permits(hart.pmpcfg[i], access, priv)
    return priv == MACHINE


@cold
def check_physical(hart: Hart, pa: U64, size: U64, access: U64, priv: U64) -> bool:
    """Whether PMP and the attributes of memory permit the access at this privilege."""
    region = region_of(hart, pa)
    if region == NO_REGION:
        return False
    offset = pa - hart.region_base[region]
    if hart.region_size[region] - offset < size:
        return False
    kind = hart.region_kind[region]
    if kind == KIND_HOLE:
        return False
    if access == ACCESS_STORE and kind == KIND_ROM:
        return False
    if access == ACCESS_FETCH and (kind == KIND_DEVICE or hart.region_noexec[region] != 0):
        return False
    if hart.pmp_active == 0:
        return True
    return pmp_check(hart, pa, size, access, priv)


@cold
def pmp_page_uniform(hart: Hart, pa: U64) -> bool:
    """Whether one PMP answer holds for every byte of the 4 KiB page."""
    if hart.pmp_active == 0:
        return True
    first = pa & ~4095
    last = first + 4095
    for i in range(16):
        if first <= hart.pmp_high[i] and last >= hart.pmp_low[i]:
            return first >= hart.pmp_low[i] and last <= hart.pmp_high[i]
    return True


@cold
def update_pmp_entry(hart: Hart, index: U64) -> None:
    """Recompute the bounds of one entry from pmpcfg and pmpaddr."""
    mode = (hart.pmpcfg[index] >> PMP_A_SHIFT) & 3
    address = hart.pmpaddr[index]
    low = U64(ALL_ONES)
    high = U64(0)
    if mode == PMP_TOR:
        start = U64(0)
        if index != 0:
            start = hart.pmpaddr[index - 1] << 2
        if start < address << 2:
            low = start
            high = (address << 2) - 1
    elif mode == PMP_NA4:
        low = address << 2
        high = low + 3
    elif mode == PMP_NAPOT:
        ones = ctz(~address)
        if ones >= PMP_ADDRESS_BITS:
            low = U64(0)
            high = U64(ALL_ONES)
        else:
            size = U64(8) << ones
            low = (address << 2) & ~(size - 1)
            high = low + (size - 1)
    hart.pmp_low[index] = low
    hart.pmp_high[index] = high


@cold
def update_pmp(hart: Hart) -> None:
    """Recompute every entry's bounds and whether PMP restricts anything at all."""
    for i in range(16):
        update_pmp_entry(hart, U64(i))
    everything = hart.pmp_low[0] == 0 and hart.pmp_high[0] == ALL_ONES
    if hart.pmp_count == 0 or (everything and hart.pmpcfg[0] & 7 == PMP_R | PMP_W | PMP_X):
        hart.pmp_active = 0
    else:
        hart.pmp_active = 1
    flush_translations(hart)


@inline
def locked_address(hart: Hart, index: U64) -> bool:
    """pmpaddr is locked by its own entry, or by the next one where that is a locked TOR range."""
    if hart.pmpcfg[index] & PMP_L != 0:
        return True
    if index == PMP_ENTRIES - 1:
        return False
    following = hart.pmpcfg[index + 1]
    return following & PMP_L != 0 and (following >> PMP_A_SHIFT) & 3 == PMP_TOR


@cold
def write_pmpaddr(hart: Hart, index: U64, value: U64) -> None:
    """pmpaddr: 54 bits; entries that the hart does not implement stay 0."""
    if index < hart.pmp_count and not locked_address(hart, index):
        hart.pmpaddr[index] = value & ((1 << PMP_ADDRESS_BITS) - 1)
        update_pmp(hart)


@cold
def read_pmpcfg(hart: Hart, first: U64) -> U64:
    """The eight configuration bytes from entry `first` on."""
    value = U64(0)
    for i in range(8):
        value = value | (hart.pmpcfg[first + i] << (i * 8))
    return value


@cold
def write_pmpcfg(hart: Hart, first: U64, value: U64) -> None:
    """Eight configuration bytes: locked ones stay; W without R is reserved and loses W."""
    for i in range(8):
        index = first + i
        config = (value >> (i * 8)) & 0x9F
        if config & PMP_R == 0:
            config = config & ~PMP_W
        if index < hart.pmp_count and hart.pmpcfg[index] & PMP_L == 0:
            hart.pmpcfg[index] = config
    update_pmp(hart)

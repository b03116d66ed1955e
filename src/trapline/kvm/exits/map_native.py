"""Mapping a page of ordinary RAM into the G-stage table, in native code.

Only where the table that gets the new leaf is there already and nothing was mapped: then no translation has to
be forgotten and no page taken. Python (kvm.gstage) does the rest. The slots are in hart.kvm_slots: address,
end, host physical address, largest level.
"""

from __future__ import annotations

from trapline.engine.undo_log import keep_page
from trapline.lang.functions import cold, inline
from trapline.lang.memory import host_load, host_store
from trapline.lang.state import Hart
from trapline.lang.values import U64
from trapline.privilege.fields import ATP_MODE_SHIFT, ATP_PPN
from trapline.privilege.protection import KIND_RAM, region_of
from trapline.privilege.pte import PTE_A, PTE_D, PTE_LEAF, PTE_R, PTE_U, PTE_V, PTE_W, PTE_X

SLOTS, SLOT_WORDS = 8, 4
FRESH = PTE_V | PTE_R | PTE_W | PTE_X | PTE_U | PTE_A | PTE_D
NO_SLOT = SLOTS


@inline
def slot_of(hart: Hart, gpa: U64) -> U64:
    """The number of the plain slot that holds an address, or NO_SLOT."""
    found = U64(NO_SLOT)
    for i in range(SLOTS):
        if gpa >= hart.kvm_slots[i * SLOT_WORDS] and gpa < hart.kvm_slots[i * SLOT_WORDS + 1]:
            found = U64(0) + i
    return found


@inline
def fitting_level(first: U64, end: U64, offset: U64, largest: U64, gpa: U64) -> U64:
    """The largest block around an address that a slot, its place in memory and its backing allow."""
    chosen = U64(0)
    for i in range(1, 3):
        size = U64(4096) << (i * 9)
        block = gpa & ~(size - 1)
        if i <= largest and first <= block and block + size <= end and offset & (size - 1) == 0:
            chosen = U64(0) + i
    return chosen


def level_in_slot(first: int, end: int, hpa: int, largest: int, gpa: int) -> int:
    """The same for integers: a slot's guest physical addresses, and where it lies."""
    return int(fitting_level(U64(first), U64(end), U64(hpa) - U64(first), U64(largest), U64(gpa)))


@inline
def entry_place(hart: Hart, address: U64) -> U64:
    """Host address of a table entry; 0 if it is not in RAM."""
    region = region_of(hart, address)
    if region >= hart.region_count or hart.region_kind[region] != KIND_RAM:
        return U64(0)
    return hart.region_host[region] + (address - hart.region_base[region])


@cold
def map_plain(hart: Hart, gpa: U64) -> bool:
    """Map the block of a plain slot around `gpa`; False, with nothing done, if that is Python's."""
    slot = slot_of(hart, gpa)
    if slot == NO_SLOT or hart.kvm_hgatp >> ATP_MODE_SHIFT == 0:
        return False
    first = hart.kvm_slots[slot * SLOT_WORDS]
    end = hart.kvm_slots[slot * SLOT_WORDS + 1]
    offset = hart.kvm_slots[slot * SLOT_WORDS + 2] - first
    wanted = fitting_level(first, end, offset, hart.kvm_slots[slot * SLOT_WORDS + 3], gpa)
    level = (hart.kvm_hgatp >> ATP_MODE_SHIFT) - 5
    table = (hart.kvm_hgatp & ATP_PPN) << 12
    index_mask = U64(0x7FF)
    place = U64(0)
    for _ in range(5):
        if level == wanted:
            break
        level = level - 1
        place = entry_place(hart, table + (((gpa >> ((level * 9 + 12) & 63)) & index_mask) << 3))
        index_mask = U64(0x1FF)
        if place == 0:
            return False
        entry = host_load(place, 8)
        if level == wanted:
            if entry & PTE_V != 0:
                return False
        else:
            if entry & PTE_V == 0 or entry & PTE_LEAF != 0:
                return False
            table = ((entry >> 10) & ATP_PPN) << 12
    block = gpa & ~((U64(4096) << ((wanted * 9) & 63)) - 1)
    if hart.undo_base != 0:
        keep_page(hart, place & ~4095)
    host_store(place, 8, (((block + offset) >> 12) << 10) | FRESH)
    hart.kvm_leaves[wanted] = hart.kvm_leaves[wanted] + 1
    return True

"""The shadow of L1's G-stage: what L2 runs on, made entry by entry from L1's table and the VM's own.

A table for each hgatp that L1 has used of late (VMID and root), in a pool of pages that is emptied when it is used up.
An entry permits what both tables permit, and no store before the leaf of L1's table is dirty.
"""

from __future__ import annotations

from trapline.engine.undo_log import keep_page
from trapline.kvm.exits.map_native import entry_place
from trapline.lang.control import flush_translations
from trapline.lang.functions import cold, hosted, inline
from trapline.lang.memory import host_load, host_store
from trapline.lang.state import Hart
from trapline.lang.state.words import SHADOWS
from trapline.lang.values import U64
from trapline.privilege.derived import update_derived
from trapline.privilege.fields import ATP_MODE_SHIFT, ATP_PPN, HGATP_VMID_SHIFT
from trapline.privilege.pte import PTE_A, PTE_D, PTE_LEAF, PTE_R, PTE_U, PTE_V, PTE_W, PTE_X

PAGE, ROOT_PAGES = 4096, 4
USED = 1 << 58  # no bit of hgatp
ANY_VMID = 0xFFFF_FFFF_FFFF_FFFF
VMID_MASK = 0x3FFF
VMID_OF_NESTED = 1 << (HGATP_VMID_SHIFT + 13)
PERMISSIONS = PTE_R | PTE_W | PTE_X
BY_PAGE = 64  # fence so many pages one by one


@cold
def store_entry(hart: Hart, place: U64, entry: U64) -> None:
    """Write an entry of a shadow; a checkpoint keeps its page."""
    if hart.undo_base != 0:
        keep_page(hart, place & ~4095)
    host_store(place, 8, entry)


@cold
def empty_shadows(hart: Hart) -> None:
    """Forget every entry of every shadow."""
    hart.shadow_used = SHADOWS * ROOT_PAGES
    hart.shadow_next = 0
    for i in range(SHADOWS):
        hart.shadow_of[i] = 0
    flush_translations(hart)


@cold
def forget_translations(hart: Hart) -> None:
    """Forget what L2's accesses were translated to: before L2 runs again, for L1's own stay and L1 may fence often."""
    if hart.kvm_world != 0:
        flush_translations(hart)
    else:
        hart.shadow_stale = 1


@cold
def settle_fences(hart: Hart) -> None:
    """L2 is about to run: what L1 has fenced since is forgotten, all at once."""
    if hart.shadow_stale != 0:
        hart.shadow_stale = 0
        flush_translations(hart)


@hosted
def forget_shadows(hart: Hart) -> None:
    """The VM's own table or memory has changed: what is loaded now goes on with an empty shadow."""
    hgatp = U64(0)
    for i in range(SHADOWS):
        if hart.kvm_world != 0 and hart.shadow_of[i] != 0 and root_of(hart, U64(0) + i) >> 12 == hart.hgatp & ATP_PPN:
            hgatp = hart.shadow_of[i]
    empty_shadows(hart)
    if hgatp != 0:
        hart.hgatp = shadow_hgatp(hart, hgatp & ~U64(USED))
        update_derived(hart)


@inline
def root_of(hart: Hart, number: U64) -> U64:
    """Host physical address of the root table of a shadow: they stand at the pool's beginning."""
    return hart.shadow_base + number * (ROOT_PAGES * PAGE)


@cold
def clear_root(hart: Hart, number: U64) -> None:
    """Empty a root table; the tables below it are taken back with the whole pool."""
    at = hart.shadow_host + number * (ROOT_PAGES * PAGE)
    for i in range(512 * ROOT_PAGES):
        store_entry(hart, at + i * 8, U64(0))


@cold
def take_page(hart: Hart) -> U64:
    """Host physical address of a zeroed page of the pool, or 0 if it is used up."""
    if hart.shadow_used >= hart.shadow_pages:
        return U64(0)
    offset = hart.shadow_used * PAGE
    hart.shadow_used = hart.shadow_used + 1
    for i in range(512):
        store_entry(hart, hart.shadow_host + offset + i * 8, U64(0))
    return hart.shadow_base + offset


@inline
def mode_of(hart: Hart, guest: U64) -> U64:
    """The mode of the shadow of L1's hgatp: the same, or the VM's own where L1 does not translate."""
    mode = guest >> ATP_MODE_SHIFT
    return mode if mode != 0 else hart.kvm_hgatp >> ATP_MODE_SHIFT


@cold
def shadow_hgatp(hart: Hart, guest: U64) -> U64:
    """hgatp for L2 under L1's hgatp `guest`: of the shadow that there is, or a new one."""
    wanted = guest | USED
    found = U64(SHADOWS)
    for i in range(SHADOWS):
        if hart.shadow_of[i] == wanted:
            found = U64(0) + i
    if found == SHADOWS:
        if hart.shadow_next == SHADOWS:
            empty_shadows(hart)
        found = hart.shadow_next
        hart.shadow_next = found + 1
        hart.shadow_of[found] = wanted
        clear_root(hart, found)
    vmid = (hart.kvm_hgatp & (VMID_MASK << HGATP_VMID_SHIFT)) | VMID_OF_NESTED
    return (mode_of(hart, guest) << ATP_MODE_SHIFT) | vmid | (root_of(hart, found) >> 12)


@cold
def find_leaf(hart: Hart, hgatp: U64, gpa: U64) -> U64:
    """The leaf for `gpa` in a table of the host's own, 0 if none; scratch[4] its level, [5] its host address."""
    level = (hgatp >> ATP_MODE_SHIFT) - 5
    table = (hgatp & ATP_PPN) << 12
    index_mask = U64(0x7FF)
    if gpa >> ((level * 9 + 14) & 63) != 0:
        return U64(0)
    for _ in range(5):
        level = level - 1
        place = entry_place(hart, table + (((gpa >> ((level * 9 + 12) & 63)) & index_mask) << 3))
        index_mask = U64(0x1FF)
        if place == 0:
            return U64(0)
        entry = host_load(place, 8)
        if entry & PTE_V == 0:
            return U64(0)
        if entry & PTE_LEAF != 0:
            hart.scratch[4] = level
            hart.scratch[5] = place
            return entry
        if level == 0:
            return U64(0)
        table = ((entry >> 10) & ATP_PPN) << 12
    return U64(0)


@inline
def shared_level(guest: U64, host: U64, gpa: U64, pa: U64) -> U64:
    """The level at which one entry can stand for both leaves."""
    level = guest if guest < host else host
    for _ in range(4):
        span = (U64(PAGE) << ((level * 9) & 63)) - 1
        if level == 0 or (gpa ^ pa) & span == 0:
            break
        level = level - 1
    return level


@cold
def add_entry(hart: Hart, gpa: U64, level: U64, entry: U64) -> bool:
    """Put a leaf into the shadow that is loaded; False, with nothing done, if the pool is used up."""
    at = (hart.hgatp >> ATP_MODE_SHIFT) - 5
    table = (hart.hgatp & ATP_PPN) << 12
    index_mask = U64(0x7FF)
    for _ in range(5):
        at = at - 1
        place = entry_place(hart, table + (((gpa >> ((at * 9 + 12) & 63)) & index_mask) << 3))
        index_mask = U64(0x1FF)
        old = host_load(place, 8)
        if at == level:
            store_entry(hart, place, entry)
            if old & PTE_V != 0:
                flush_translations(hart)
            return True
        if old & PTE_V == 0 or old & PTE_LEAF != 0:
            table = take_page(hart)
            if table == 0:
                return False
            store_entry(hart, place, ((table >> 12) << 10) | PTE_V)
            if old & PTE_V != 0:
                flush_translations(hart)
        else:
            table = ((old >> 10) & ATP_PPN) << 12
    return False


@cold
def shadow(hart: Hart, gpa: U64, pa: U64, guest: U64, guest_level: U64, host: U64, host_level: U64) -> None:
    """Map L2's `gpa` by the leaf of L1's table, which leads to `pa`, and the leaf of the VM's table for that."""
    level = shared_level(guest_level, host_level, gpa, pa)
    inside = (U64(PAGE) << ((host_level * 9) & 63)) - 1
    block = (U64(PAGE) << ((level * 9) & 63)) - 1
    hpa = ((((host >> 10) & ATP_PPN) << 12) | (pa & inside)) & ~block
    entry = ((hpa >> 12) << 10) | (guest & host & PERMISSIONS) | PTE_V | PTE_U | PTE_A | PTE_D
    if guest & PTE_D == 0:
        entry = entry & ~U64(PTE_W)
    if not add_entry(hart, gpa, level, entry):
        forget_shadows(hart)
        add_entry(hart, gpa, level, entry)


@cold
def forget_address(hart: Hart, number: U64, gpa: U64) -> None:
    """Take the entry for `gpa` out of one shadow."""
    mode = mode_of(hart, hart.shadow_of[number] & ~U64(USED))
    if find_leaf(hart, (mode << ATP_MODE_SHIFT) | (root_of(hart, number) >> 12), gpa) != 0:
        store_entry(hart, hart.scratch[5], U64(0))


@cold
def fence_shadows(hart: Hart, vmid: U64, gpa: U64, one: U64) -> None:
    """HFENCE.GVMA of L1: the shadows of a VMID (ANY_VMID: all), at one address (`one` 1), or everywhere."""
    for i in range(SHADOWS):
        known = hart.shadow_of[i]
        if known != 0 and (vmid == ANY_VMID or (known >> HGATP_VMID_SHIFT) & VMID_MASK == vmid & VMID_MASK):
            if one != 0:
                forget_address(hart, U64(0) + i, gpa)
            else:
                clear_root(hart, U64(0) + i)
    forget_translations(hart)


@hosted
def fence_range(hart: Hart, vmid: U64, first: U64, pages: U64) -> None:
    """HFENCE.GVMA of so many pages from page number `first` on; many are all."""
    if pages > BY_PAGE:
        fence_shadows(hart, vmid, U64(0), U64(0))
        return
    for i in range(BY_PAGE):
        if i < pages:
            fence_shadows(hart, vmid, (first + i) << 12, U64(1))

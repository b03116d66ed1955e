"""The software TLB of native code, in the subset: filling, flushing, and the interning of contexts.

A context is everything that changes translation or permission (hart.ctx_base and ctx_now, computed by
privilege.derived). Each has a set of its own, so a switch of V or privilege flushes nothing.
"""

from __future__ import annotations

from trapline.engine.code_bytes import beside_code, note_plain_stores
from trapline.engine.forms import instead_of
from trapline.engine.observe.stops import code_page, watched_page
from trapline.engine.records import (
    CODE_COUNT,
    CODE_TAG,
    CONTEXTS,
    DATA_BYTES,
    DATA_ENTRIES,
    DATA_FAR,
    DEVICE_TAG,
    FETCH_AREA,
    FETCH_BYTES,
    FETCH_ENTRIES,
    FETCH_HOST,
    FETCH_K,
    FETCH_TABLE,
    GUEST_TABLE_AREA,
    LOAD_AREA,
    SET_BYTES,
    STORE_AREA,
    TABLE_AREA,
    TABLES,
    TLB_BYTES,
)
from trapline.engine.undo_log import keep_page
from trapline.lang.control import arm_code, fill_ones
from trapline.lang.devices import call_registers
from trapline.lang.functions import cold, hosted, inline
from trapline.lang.memory import host_load, host_store
from trapline.lang.state import Hart
from trapline.lang.values import U64
from trapline.privilege import translation
from trapline.privilege.derived import CONTEXT_MPRV
from trapline.privilege.fields import ENVCFG_ADUE, ENVCFG_PBMTE, MSTATUS_MXR
from trapline.privilege.modes import SUPERVISOR
from trapline.privilege.protection import pmp_page_uniform, region_of
from trapline.privilege.translation import ACCESS_FETCH, ACCESS_LOAD, PSEUDO_READ_PTE, g_stage, pte_place

EMPTY = 0xFFFF_FFFF_FFFF_FFFF
OF_HOST = MSTATUS_MXR | ENVCFG_ADUE | ENVCFG_PBMTE  # of ctx_base[0]: what matters at V=0


@cold
def note_large(hart: Hart, va: U64) -> None:
    """A page of what a large first-stage leaf covers enters a set: a fence anywhere in it has to find it.

    64 KiB at level 0, for Svnapot. The G-stage's leaf does not matter: fences of its addresses forget everything.
    """
    span = U64(0xFFFF)
    if hart.walk_level != 0:
        span = (U64(1) << ((hart.walk_level * 9 + 12) & 63)) - 1
    half = va >> 63
    first = va & ~span
    if first < hart.big_first[half]:
        hart.big_first[half] = first
    if (first | span) > hart.big_last[half]:
        hart.big_last[half] = first | span


@cold
def fill_device(hart: Hart, va: U64, place: U64, region: U64) -> None:
    """Note where a page of registers lies that native code serves: `place` bytes into its region."""
    if hart.region_calm[region] == 0 or place & 4095 != 0:
        return
    if hart.pmp_active != 0 and not pmp_page_uniform(hart, hart.region_base[region] + place):
        return
    if hart.walk_large != 0:
        note_large(hart, va)
    entry = hart.tlb_ptr + ((va >> 12) & (DATA_ENTRIES - 1)) * DATA_BYTES
    host_store(entry, 8, (va & ~4095) | DEVICE_TAG)
    host_store(entry + DATA_FAR, 8, place | region)


@inline
def fill_fetch(hart: Hart, va: U64, host: U64, info: U64) -> None:
    """Install a translation for fetches, if the page has records."""
    table = host_load(info, 8) & ~1
    if table == 0:
        hart.fetch_uncached = info
        return
    tag = va & ~4095
    entry = hart.tlb_ptr + FETCH_AREA + ((va >> 12) & (FETCH_ENTRIES - 1)) * FETCH_BYTES
    host_store(entry, 8, tag)
    host_store(entry + FETCH_TABLE, 8, table)
    host_store(entry + FETCH_K, 8, tag - (table >> 3))
    host_store(entry + FETCH_HOST, 8, host)
    hart.fetch_uncached = 0
    if hart.stops_base != 0 and code_page(hart, va):
        arm_code(hart, table, tag)


@inline
def fill_data(hart: Hart, va: U64, host: U64, info: U64, area: U64) -> None:
    """Install a translation for loads or stores; one for stores to a page with code is marked."""
    tag = va & ~4095
    entry = hart.tlb_ptr + area + ((va >> 12) & (DATA_ENTRIES - 1)) * DATA_BYTES
    if area == STORE_AREA:
        if hart.undo_base != 0:
            keep_page(hart, host)
        table = host_load(info, 8) & ~1
        if table == 0:
            host_store(info, 8, U64(1))
        elif host_load(table + CODE_COUNT, 8) == 0:
            note_plain_stores(table, tag)
        else:
            host_store(entry, 8, tag | CODE_TAG)
            host_store(entry + DATA_FAR, 8, table)
            return
    host_store(entry, 8, tag)
    host_store(entry + DATA_FAR, 8, host - tag)


@hosted
def fill_translation(hart: Hart, va: U64, pa: U64, access: U64, region: U64, priv: U64) -> None:
    """Install a translation in the current context's set when one answer holds for the whole page."""
    if hart.tlb_ptr == 0:
        return
    if hart.stops_base != 0 and access != ACCESS_FETCH and watched_page(hart, va, pa):
        return
    page = pa & ~4095
    base = hart.region_base[region]
    if hart.region_host[region] == 0:
        if access == ACCESS_LOAD:
            fill_device(hart, va, page - base, region)
        return
    if page < base or page - base + 4096 > hart.region_size[region]:
        return
    if hart.pmp_active != 0 and not pmp_page_uniform(hart, pa):
        return
    if hart.walk_large != 0:
        note_large(hart, va)
    host = hart.region_host[region] + (page - base)
    info = hart.region_info[region] + ((page - (base & ~4095)) >> 9)
    if access == ACCESS_FETCH:
        fill_fetch(hart, va, host, info)
    elif access == ACCESS_LOAD:
        fill_data(hart, va, host, info, U64(LOAD_AREA))
    elif page >= hart.watch_end or page + 4096 <= hart.watch_base:
        fill_data(hart, va, host, info, U64(STORE_AREA))


@inline
def known_table(hart: Hart, pa: U64) -> U64:
    """Host address of an entry of a page table in a page that the walker may read, or 0: that is not known."""
    if hart.tlb_base == 0:
        return U64(0)
    entry = hart.tlb_base + TABLE_AREA + ((pa >> 12) & (TABLES - 1)) * DATA_BYTES
    return host_load(entry + DATA_FAR, 8) + pa if host_load(entry, 8) == pa & ~4095 else U64(0)


@cold
def remember_table(hart: Hart, pa: U64, region: U64) -> None:
    """The walker may read the page of a table at `pa`, if one answer holds for the whole page."""
    page = pa & ~4095
    base = hart.region_base[region]
    if hart.tlb_base == 0 or page < base or page - base + 4096 > hart.region_size[region]:
        return
    if hart.pmp_active != 0 and not pmp_page_uniform(hart, pa):
        return
    entry = hart.tlb_base + TABLE_AREA + ((pa >> 12) & (TABLES - 1)) * DATA_BYTES
    host_store(entry, 8, page)
    host_store(entry + DATA_FAR, 8, hart.region_host[region] - base)


@inline
def other_g_stage(hart: Hart) -> bool:
    """The G-stage is not the one through which the guest's tables were found: hgatp, or what menvcfg says of PTEs."""
    envcfg = hart.guest_tables_of[1] ^ hart.menvcfg
    return hart.guest_tables_of[0] != hart.hgatp or envcfg & (ENVCFG_ADUE | ENVCFG_PBMTE) != 0


@inline
def known_guest_table(hart: Hart, gpa: U64) -> U64:
    """The same for an entry of a VS-stage table at a guest physical address, under the hgatp of now."""
    if hart.tlb_base == 0 or other_g_stage(hart):
        return U64(0)
    entry = hart.tlb_base + GUEST_TABLE_AREA + ((gpa >> 12) & (TABLES - 1)) * DATA_BYTES
    return host_load(entry + DATA_FAR, 8) + gpa if host_load(entry, 8) == gpa & ~4095 else U64(0)


@cold
def remember_guest_table(hart: Hart, gpa: U64, pa: U64) -> None:
    """The page of a VS-stage table at `gpa` lies at `pa`."""
    place = known_table(hart, pa)
    if place != 0:
        if other_g_stage(hart):
            fill_ones(hart.tlb_base + GUEST_TABLE_AREA, U64(TABLES * DATA_BYTES))
            hart.guest_tables_of[0] = hart.hgatp
            hart.guest_tables_of[1] = hart.menvcfg
        entry = hart.tlb_base + GUEST_TABLE_AREA + ((gpa >> 12) & (TABLES - 1)) * DATA_BYTES
        host_store(entry, 8, gpa & ~4095)
        host_store(entry + DATA_FAR, 8, place - gpa)


@instead_of(translation.entry_place)
@inline
def entry_place(hart: Hart, pa: U64, va: U64, access: U64, virt: U64) -> U64:
    """translation.entry_place, which looks nothing up in a page that is known."""
    known = known_table(hart, pa)
    if known != 0:
        return known
    place = pte_place(hart, pa, U64(ACCESS_LOAD), va, access, virt)
    remember_table(hart, pa, region_of(hart, pa))
    return place


@instead_of(translation.first_stage_entry)
@inline
def first_stage_entry(hart: Hart, address: U64, va: U64, access: U64, virt: U64) -> U64:
    """translation.first_stage_entry, which walks no G-stage for a page that is known."""
    if virt == 0:
        return entry_place(hart, address, va, access, virt)
    known = known_guest_table(hart, address)
    if known != 0:
        return known
    pa = g_stage(hart, address, U64(ACCESS_LOAD), va, access, U64(0), U64(PSEUDO_READ_PTE))
    place = entry_place(hart, pa, va, access, virt)
    remember_guest_table(hart, address, pa)
    return place


@hosted
def split_access(hart: Hart, va: U64, size: U64, area: U64) -> U64:
    """Host address minus va of an access inside a cached page that the plain look-up refuses, or 0 where it may not be.

    It is misaligned, and the hart does such; or it is a store to a page with code, beside that.
    """
    if (va & (size - 1) != 0 and hart.misaligned_hardware == 0) or (va & 4095) + size > 4096:
        return U64(0)
    entry = hart.tlb_ptr + area + ((va >> 12) & (DATA_ENTRIES - 1)) * DATA_BYTES
    tag = host_load(entry, 8)
    if tag == va & ~4095:
        return host_load(entry + DATA_FAR, 8)
    if area != STORE_AREA or tag != va & ~4095 | CODE_TAG:
        return U64(0)
    host = beside_code(host_load(entry + DATA_FAR, 8), va & 4095, size)
    return U64(0) if host == 0 else host - (va & ~4095)


@hosted
def far_load(hart: Hart, va: U64, size: U64, now: U64) -> U64:
    """For a load that its page's entry does not match: host address minus va of the value, or 0.

    A misaligned load inside a page, or one of a register that native code serves. Reading that must not change what
    comes next: a region goes on behind it.
    """
    entry = hart.tlb_ptr + ((va >> 12) & (DATA_ENTRIES - 1)) * DATA_BYTES
    if host_load(entry, 8) != (va & ~4095) | DEVICE_TAG:
        return split_access(hart, va, size, U64(0))
    place = host_load(entry + DATA_FAR, 8)
    region = place & 4095
    offset = (place & ~4095) + (va & 4095)
    if va & (size - 1) != 0 or offset + size > hart.region_size[region]:
        return U64(0)
    hart.instret = now
    calm = hart.region_calm[region]
    if calm != 1 and call_registers(hart, calm, hart.region_io[region], offset, size, U64(0)) == 0:
        return U64(0)
    hart.far_value = call_registers(hart, hart.region_load[region], hart.region_io[region], offset, size, U64(0))
    return hart.far_place - va


@hosted
def flush_all_sets(hart: Hart) -> None:
    """Forget every translation of this hart, and where page tables lie."""
    if hart.tlb_base != 0:
        fill_ones(hart.tlb_base + TABLE_AREA, U64(TLB_BYTES - TABLE_AREA))
    for i in range(2):
        hart.big_first[i] = EMPTY
        hart.big_last[i] = 0
    for i in range(CONTEXTS):
        if hart.ctx_used[i] != 0:
            fill_ones(hart.tlb_base + i * SET_BYTES, U64(SET_BYTES))
            hart.ctx_used[i] = 0
    forget_known_sets(hart)


@hosted
def flush_page_sets(hart: Hart, va: U64) -> None:
    """Forget one page in every set, or everything where larger pages may be cached around it."""
    half = va >> 63
    if va >= hart.big_first[half] and va <= hart.big_last[half]:
        flush_all_sets(hart)
        return
    for i in range(CONTEXTS):
        if hart.ctx_used[i] != 0:
            base = hart.tlb_base + i * SET_BYTES
            data = base + ((va >> 12) & (DATA_ENTRIES - 1)) * DATA_BYTES
            host_store(data, 8, U64(EMPTY))
            host_store(data + STORE_AREA, 8, U64(EMPTY))
            host_store(base + FETCH_AREA + ((va >> 12) & (FETCH_ENTRIES - 1)) * FETCH_BYTES, 8, U64(EMPTY))


@inline
def same_context(hart: Hart, number: U64) -> bool:
    """Whether a set belongs to the context that find_context looks for (ctx_wanted)."""
    return (
        hart.ctx_used[number] != 0
        and hart.ctx_keys[number * 4] == hart.ctx_wanted[0]
        and hart.ctx_keys[number * 4 + 1] == hart.ctx_wanted[1]
        and hart.ctx_keys[number * 4 + 2] == hart.ctx_wanted[2]
        and hart.ctx_keys[number * 4 + 3] == hart.ctx_wanted[3]
    )


@inline
def describe_context(hart: Hart) -> None:
    """The context of now, without the registers that do not matter in it."""
    mode = hart.ctx_now | (hart.priv << 5) | (hart.virt << 7)
    satp = U64(0)
    vsatp = U64(0)
    hgatp = U64(0)
    if hart.virt | hart.data_virt != 0:
        mode = mode | hart.ctx_base[0]
        vsatp = hart.ctx_base[2]
        hgatp = hart.ctx_base[3]
    if (hart.virt == 0 and hart.priv <= SUPERVISOR) or (hart.data_virt == 0 and hart.data_priv <= SUPERVISOR):
        mode = mode | (hart.ctx_base[0] & OF_HOST)
        satp = hart.ctx_base[1]
    hart.ctx_wanted[0] = mode
    hart.ctx_wanted[1] = satp
    hart.ctx_wanted[2] = vsatp
    hart.ctx_wanted[3] = hgatp


@cold
def find_context(hart: Hart) -> None:
    """Point tlb_ptr at the set of the context of now, taking over the oldest set for a new one."""
    describe_context(hart)
    chosen = U64(CONTEXTS)
    for i in range(CONTEXTS):
        if same_context(hart, U64(i)):
            chosen = U64(0) + i
            break
    if chosen == CONTEXTS:
        chosen = hart.ctx_next
        hart.ctx_next = (chosen + 1) & (CONTEXTS - 1)
        hart.ctx_used[chosen] = 1
        for j in range(4):
            hart.ctx_keys[chosen * 4 + j] = hart.ctx_wanted[j]
        fill_ones(hart.tlb_base + chosen * SET_BYTES, U64(SET_BYTES))
        forget_known_sets(hart)
    hart.tlb_ptr = hart.tlb_base + chosen * SET_BYTES
    if hart.ctx_now & CONTEXT_MPRV == 0:
        hart.ctx_set[hart.ctx_now] = hart.tlb_ptr


@inline
def forget_known_sets(hart: Hart) -> None:
    """No number's set is known any more."""
    for i in range(CONTEXT_MPRV):
        hart.ctx_set[i] = 0


@hosted
def select_context(hart: Hart) -> None:
    """Make tlb_ptr follow the context of now."""
    known = hart.ctx_set[hart.ctx_now]
    if known != 0:
        hart.tlb_ptr = known
    else:
        find_context(hart)


@hosted
def bits_at_pc(hart: Hart) -> U64:
    """The instruction's bits, read again from the page that native code runs in."""
    offset = hart.pc & 4095
    low = host_load(hart.code_host + offset, 2)
    if low & 3 != 3:
        return low
    if offset == 4094:
        return hart.insn
    return low | (host_load(hart.code_host + offset + 2, 2) << 16)

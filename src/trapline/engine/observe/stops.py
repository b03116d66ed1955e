"""Stops: where a run is to come back, or to be counted. Breakpoints, watchpoints, catches of traps and of CSR writes.

What Sdtrig's triggers do for a debugger on the hart, here for one outside: nothing of it is architecture, and the guest
sees nothing. `hart.stops_base` is 0, or the host address of the block below, which all harts of a machine share and
engine.stop_points writes. Whoever finds an entry that is hit says so in `stop_entry` and leaves with EXIT_BREAK.
"""

from __future__ import annotations

from trapline.lang.control import EXIT_BREAK, leave
from trapline.lang.functions import cold, hosted, inline
from trapline.lang.memory import host_load, host_store
from trapline.lang.state import Hart
from trapline.lang.values import U64, u64
from trapline.privilege.causes import trap_index
from trapline.privilege.modes import MACHINE, SUPERVISOR, mode_index

# The block, in bytes from stops_base.
HASH_MASK = 0  # places of the hash table below, less one
RANGE_COUNT = 8
RANGES = 16  # host address of the entries of ranges
RECORDS = 24  # host address of the table of records (engine.stop_points), and its mask
RECORD_MASK = 32
ANY_CSR = 48  # 1: writes of CSRs are caught: each piece of code is looked at when it is decoded
TRAP_COUNT = 56
TRAPS = 64  # host address of the entries of traps
COVER = 72  # host address of the table of executed instructions, or 0; its places, less one; what had no place
COVER_MASK = 80
COVER_LOST = 88
CODE_PAGES = 4096  # by FILTER bits of a page number: not 0 where one of its virtual pages has a stop
DATA_PAGES = CODE_PAGES + 512 * 8  # the same of watched pages, by virtual and by physical number
HASH = DATA_PAGES + 512 * 8
FILTER = 511
PAGE_SHIFT = 12

# An entry.
KEY, KIND, LAST, MODES = 0, 8, 16, 24  # KEY of traps: host address of a bit for each causes.trap_index
SPACE_MASK, SPACE, GUEST_MASK, GUEST = 32, 40, 48, 56
COUNT, IGNORE, WATCHED = 64, 72, 80
ENTRY_BYTES = 128
EMPTY, VIRTUAL, PHYSICAL = 0, 1, 2  # of KIND; for code a physical address is that of the host
READ, WRITE, EXECUTE = 1, 2, 4  # of WATCHED
MOST_PROBES = 1 << 16
MOST_RANGES = 1 << 12
EVER = 0xFFFF_FFFF_FFFF_FFFF  # of IGNORE: it counts, and never stops

# A place of the table of records: the record, the handler that it would have, the entry of a caught CSR or 0.
RECORD_AT, RECORD_HANDLER, RECORD_CSR, RECORD_BYTES = 0, 8, 16, 32

# A place of the table of executed instructions: pc + 1, the mode (modes.mode_index), how often.
COVER_PC, COVER_MODE, COVER_COUNT, COVER_BYTES = 0, 8, 16, 32
COVER_PROBES = 64


@inline
def mixed(key: U64) -> U64:
    """Where the search for a key begins."""
    return (key * 0x9E37_79B9_7F4A_7C15) >> 32


@cold
def fits(hart: Hart, entry: U64) -> bool:
    """Whether an entry is meant for the mode and the address space of now."""
    if (host_load(entry + MODES, 8) >> mode_index(hart)) & 1 == 0:
        return False
    space = hart.vsatp if hart.virt != 0 else hart.satp
    if (space & host_load(entry + SPACE_MASK, 8)) != host_load(entry + SPACE, 8):
        return False
    return (hart.hgatp & host_load(entry + GUEST_MASK, 8)) == host_load(entry + GUEST, 8)


@cold
def counted(hart: Hart, entry: U64, address: U64) -> bool:
    """An entry is hit: count it, and return whether the run is to come back for it."""
    count = host_load(entry + COUNT, 8) + 1
    host_store(entry + COUNT, 8, count)
    ignore = host_load(entry + IGNORE, 8)
    if ignore == EVER or count <= ignore:
        return False
    hart.stop_entry = entry
    hart.stop_va = address
    return True


@cold
def any_at(hart: Hart, key: U64, kind: U64, address: U64) -> bool:
    """Count the entries of one exact address; return whether one of them stops."""
    mask = host_load(hart.stops_base + HASH_MASK, 8)
    slot = mixed(key) & mask
    found = False
    for _ in range(MOST_PROBES):
        entry = hart.stops_base + HASH + slot * ENTRY_BYTES
        known = host_load(entry + KIND, 8)
        if known == EMPTY:
            break
        if known == kind and host_load(entry + KEY, 8) == key and fits(hart, entry):
            found = counted(hart, entry, address) or found
        slot = (slot + 1) & mask
    return found


@inline
def overlaps(entry: U64, address: U64, size: U64) -> bool:
    """Whether an access has a byte of an entry's range."""
    return address <= host_load(entry + LAST, 8) and address + (size - 1) >= host_load(entry + KEY, 8)


@cold
def any_range(hart: Hart, va: U64, size: U64, pa: U64, first: U64, rest: U64, how: U64) -> bool:
    """Count the ranges that an access touches, each once; return whether one of them stops.

    Its first bytes, so many, lie at pa; the others, of an access that crosses a page, at rest.
    """
    found = False
    count = host_load(hart.stops_base + RANGE_COUNT, 8)
    entry = host_load(hart.stops_base + RANGES, 8)
    for i in range(MOST_RANGES):
        if i >= count:
            break
        inside = overlaps(entry, va, size)
        if host_load(entry + KIND, 8) != VIRTUAL:
            inside = overlaps(entry, pa, first) or (first != size and overlaps(entry, rest, size - first))
        if inside and host_load(entry + WATCHED, 8) & how != 0 and fits(hart, entry):
            found = counted(hart, entry, va) or found
        entry = entry + ENTRY_BYTES
    return found


@cold
def note_executed(hart: Hart, pc: U64) -> None:
    """Count that an instruction begins."""
    table = host_load(hart.stops_base + COVER, 8)
    mask = host_load(hart.stops_base + COVER_MASK, 8)
    mode = mode_index(hart)
    slot = mixed(pc >> 1 ^ mode) & mask
    for _ in range(COVER_PROBES):
        place = table + slot * COVER_BYTES
        known = host_load(place, 8)
        if known == 0:
            host_store(place, 8, pc + 1)
            host_store(place + COVER_MODE, 8, mode)
        if known == 0 or (known == pc + 1 and host_load(place + COVER_MODE, 8) == mode):
            host_store(place + COVER_COUNT, 8, host_load(place + COVER_COUNT, 8) + 1)
            return
        slot = (slot + 1) & mask
    host_store(hart.stops_base + COVER_LOST, 8, host_load(hart.stops_base + COVER_LOST, 8) + 1)


@hosted
def stop_at(hart: Hart, pc: U64, host: U64, csr_entry: U64) -> bool:
    """Whether the run comes back before the instruction at pc, whose bytes are at a host address (0: nobody asks).

    `csr_entry` is that of a caught CSR which the instruction writes, or 0. A hart that came back goes on past it.
    """
    if hart.stop_pass_pc == pc and hart.stop_pass_at == hart.instret + 1:
        return False
    if host != 0 and host_load(hart.stops_base + COVER, 8) != 0:
        note_executed(hart, pc)
    found = any_at(hart, pc, U64(VIRTUAL), pc)
    if host != 0:
        found = any_at(hart, host, U64(PHYSICAL), pc) or found
    found = any_range(hart, pc, U64(1), host, U64(1), U64(0), U64(EXECUTE)) or found
    if csr_entry != 0 and fits(hart, csr_entry):
        found = counted(hart, csr_entry, pc) or found
    hart.stop_pass_pc = pc
    hart.stop_pass_at = hart.instret + 1
    return found


@hosted
def record_place(hart: Hart, record: U64) -> U64:
    """The place of a record in their table, or 0."""
    table = host_load(hart.stops_base + RECORDS, 8)
    mask = host_load(hart.stops_base + RECORD_MASK, 8)
    slot = mixed(record) & mask
    for _ in range(MOST_PROBES):
        known = host_load(table + slot * RECORD_BYTES, 8)
        if known == record:
            return table + slot * RECORD_BYTES
        if known == 0:
            break
        slot = (slot + 1) & mask
    return U64(0)


@inline
def hosted_now(hart: Hart) -> bool:
    """Whether hosted software, not code, has the hart: what it does for a guest is no access of the guest's."""
    machine = hart.priv == MACHINE and hart.hosted_m != 0
    return machine or (hart.priv == SUPERVISOR and hart.virt == 0 and hart.hosted_hs != 0)


@inline
def watched_page(hart: Hart, va: U64, pa: U64) -> bool:
    """Whether an access to this page may be one to look at: it must not be cached."""
    pages = hart.stops_base + DATA_PAGES
    by_va = host_load(pages + ((va >> PAGE_SHIFT) & FILTER) * 8, 8)
    return by_va | host_load(pages + ((pa >> PAGE_SHIFT) & FILTER) * 8, 8) != 0


@cold
def stop_on_access(hart: Hart, va: U64, pa: U64, size: U64, how: U64) -> None:
    """An access is about to be made, nothing can refuse it any more: come back behind it if it is watched."""
    if hart.stop_amo != 0 and hart.stop_amo == va + 1:
        hart.stop_amo = U64(0)
    else:
        stop_on_split(hart, va, size, pa, size, U64(0), how)


@cold
def stop_on_split(hart: Hart, va: U64, size: U64, pa: U64, first: U64, rest: U64, how: U64) -> None:
    """As stop_on_access for one whose bytes behind the first ones lie at rest."""
    if not hosted_now(hart) and any_range(hart, va, size, pa, first, rest, how):
        hart.stop_pc = hart.pc
        leave(hart, EXIT_BREAK)


@cold
def stop_on_atomic(hart: Hart, va: U64, pa: U64, size: U64) -> None:
    """As stop_on_access for an AMO, which is one hit though it reads and writes: its store comes by, too."""
    stop_on_split(hart, va, size, pa, size, U64(0), U64(READ | WRITE))
    if watched_page(hart, va, pa):
        hart.stop_amo = va + 1


@inline
def code_page(hart: Hart, va: U64) -> bool:
    """Whether a virtual page may have a stop on its code."""
    return host_load(hart.stops_base + CODE_PAGES + ((va >> PAGE_SHIFT) & FILTER) * 8, 8) != 0


@cold
def stop_on_trap(hart: Hart, cause: U64, epc: U64, origin: U64, to: U64) -> None:
    """A trap was taken: come back before its handler if it is caught. A hosted handler's turn comes afterwards."""
    index = trap_index(cause, origin, to)
    entry = host_load(hart.stops_base + TRAPS, 8)
    found = False
    for i in range(MOST_RANGES):
        if i >= host_load(hart.stops_base + TRAP_COUNT, 8):
            break
        word = host_load(host_load(entry + KEY, 8) + (index >> 6) * 8, 8)
        if (word >> (index & 63)) & 1 != 0:
            found = counted(hart, entry, epc) or found
        entry = entry + ENTRY_BYTES
    if found:
        hart.stop_then = u64(hart.hosted_m != 0 and to == 0) | (u64(hart.hosted_hs != 0 and to == 1) << 1)
        leave(hart, EXIT_BREAK)

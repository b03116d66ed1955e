"""Which bytes of memory are code, and what a store to them does: in native code, by a mark a byte behind the records.

No store entry of a translation set lets a store through to a page that has code (engine.tlb): it comes here. Beside the
code it costs a look at the marks; on the code the records of what it hits become undecoded before the bytes change, so
the next fetch decodes anew. Compiled regions are taken out by Python. Records, marks and regions change in the thread
of the harts alone: the one that compiles offers a region, which is compared and put in at a sampling point.
"""

from __future__ import annotations

from trapline.engine.records import (
    ANYWHERE,
    CODE_COUNT,
    CONTEXTS,
    DATA_BYTES,
    DATA_ENTRIES,
    DATA_FAR,
    DATA_STORES,
    DATA_STORES_AT_FIRST,
    EPOCH,
    FIRST_HART,
    HEAD_BYTES,
    HEAD_ENTRY,
    HEAD_OWN,
    HEAD_RECORD,
    HELD,
    OFFER_BEGIN,
    OFFER_HEADS,
    OFFER_NEXT,
    OFFER_OPEN,
    OFFER_RANGES,
    OFFER_REFUSED,
    OFFER_STATE,
    OFFER_TAKEN,
    PAGE_HOST,
    PLACES,
    RANGE_BYTES,
    RANGE_CONTENT,
    RANGE_FIRST,
    RANGE_SIZE,
    RANGE_TABLE,
    RECORD_OPERANDS,
    SET_BYTES,
    STEP_NUMBER,
    STOPS,
    STORE_AREA,
    STORED_AT,
    UNDECODED,
    USED,
)
from trapline.engine.undo_log import keep_page
from trapline.lang.control import forget_code
from trapline.lang.functions import cold, hosted, inline
from trapline.lang.memory import host_load, host_store
from trapline.lang.state import Hart
from trapline.lang.state.words import LAYOUT, STEP_SLOTS
from trapline.lang.values import U64
from trapline.privilege.stored import log_store

EMPTY = 0xFFFF_FFFF_FFFF_FFFF
PAGE = 4096
HELD_BYTES = HELD * 0x0101_0101_0101_0101
BOTH_BYTES = 0x0101
HARTS = 4096
TLB_BASE, CTX_USED, NEXT_HART = (LAYOUT.fields[name].index * 8 for name in ("tlb_base", "ctx_used", "next_hart"))

OFFER_LIMIT = 4096


@inline
def marks(table: U64, offset: U64, size: U64) -> U64:
    """The marks of at most eight bytes."""
    return host_load(table + USED + offset, 8) & (U64(EMPTY) >> ((64 - size * 8) & 63))


@cold
def marks_of_block(table: U64, offset: U64, size: U64) -> U64:
    """The marks of bytes in a page, one over the other."""
    found = U64(0)
    done = U64(0)
    for _ in range(512):
        if done >= size:
            break
        left = size - done
        found = found | marks(table, offset + done, left if left < 8 else U64(8))
        done = done + 8
    return found


@inline
def forget_entry(entry: U64, host: U64) -> None:
    """Empty a store entry if it is that of the page at a host address."""
    if host_load(entry, 8) + host_load(entry + DATA_FAR, 8) == host:
        host_store(entry, 8, U64(EMPTY))


@inline
def forget_stores_at(area: U64, table: U64, host: U64) -> None:
    """Empty the plain store entries of a page in one set."""
    if host_load(table + ANYWHERE, 8) != 0:
        for j in range(DATA_ENTRIES):
            forget_entry(area + j * DATA_BYTES, host)
    else:
        for k in range(PLACES):
            va = host_load(table + STORED_AT + k * 8, 8)
            if va != EMPTY:
                forget_entry(area + ((va >> 12) & (DATA_ENTRIES - 1)) * DATA_BYTES, host)


@cold
def protect(table: U64) -> None:
    """A page is about to have code: no hart stores to it without notice any more."""
    host = host_load(table + PAGE_HOST, 8)
    state = host_load(table + FIRST_HART, 8)
    for _ in range(HARTS):
        if state == 0:
            break
        for i in range(CONTEXTS):
            if host_load(state + CTX_USED + i * 8, 8) != 0:
                forget_stores_at(host_load(state + TLB_BASE, 8) + i * SET_BYTES + STORE_AREA, table, host)
        state = host_load(state + NEXT_HART, 8)
    host_store(table + ANYWHERE, 8, U64(0))
    for k in range(PLACES):
        host_store(table + STORED_AT + k * 8, 8, U64(EMPTY))


@cold
def note_plain_stores(table: U64, va: U64) -> None:
    """A page without code, which had some or may have, gets a plain store entry for an address."""
    for k in range(PLACES):
        known = host_load(table + STORED_AT + k * 8, 8)
        if known == va:
            return
        if known == EMPTY:
            host_store(table + STORED_AT + k * 8, 8, va)
            return
    host_store(table + ANYWHERE, 8, U64(1))


@hosted
def mark_code(table: U64, first: U64, end: U64, kind: U64) -> None:
    """Bytes of a page, pairs of them, are DECODED or HELD from now on."""
    if host_load(table + CODE_COUNT, 8) == 0:
        protect(table)
    count = host_load(table + CODE_COUNT, 8)
    offset = first
    for _ in range(2048):
        if offset >= end:
            break
        known = host_load(table + USED + offset, 2)
        if known == 0:
            count = count + 1
        host_store(table + USED + offset, 2, known | kind * BOTH_BYTES)
        offset = offset + 2
    host_store(table + CODE_COUNT, 8, count)


@hosted
def release_code(table: U64) -> None:
    """No byte of a page is HELD any more."""
    count = U64(0)
    for i in range(512):
        kept = host_load(table + USED + i * 8, 8) & ~U64(HELD_BYTES)
        host_store(table + USED + i * 8, 8, kept)
        for j in range(4):
            if kept >> (j * 16) & 0xFFFF != 0:
                count = count + 1
    host_store(table + CODE_COUNT, 8, count)


@inline
def forget_place(table: U64, offset: U64, undecoded: U64) -> None:
    """Two bytes change: forget the instruction here, one that started before, and what is fused with that."""
    host_store(table + USED + offset, 2, U64(0))
    host_store(table + CODE_COUNT, 8, host_load(table + CODE_COUNT, 8) - 1)
    for i in range(4):
        if offset >= i * 2:
            record = table + (offset - i * 2) * 8
            host_store(record, 8, undecoded)
            # A pair that stays still reads its second operands here; a single step must not know a handler.
            host_store(record + RECORD_OPERANDS, 8, host_load(record + RECORD_OPERANDS, 8) & ~U64(STEP_NUMBER))


@hosted
def forget_bytes(table: U64, first: U64, end: U64) -> None:
    """Bytes of a page change: the records that they are part of become undecoded."""
    undecoded = host_load(table + UNDECODED, 8)
    host_store(table + EPOCH, 8, host_load(table + EPOCH, 8) + 1)
    offset = first & ~1
    for _ in range(2048):
        if offset >= end:
            break
        if host_load(table + USED + offset, 2) != 0:
            forget_place(table, offset, undecoded)
        offset = offset + 2


@cold
def data_stored(hart: Hart, table: U64) -> None:
    """A store beside the code of a page: after many the code is forgotten, as it may be of no use any more.

    If it runs again it is decoded again, and twice as many stores are borne then.
    """
    left = host_load(table + DATA_STORES, 8)
    if left > 1:
        host_store(table + DATA_STORES, 8, left - 1)
        return
    twice = host_load(table + DATA_STORES_AT_FIRST, 8) * 2
    host_store(table + DATA_STORES_AT_FIRST, 8, twice)
    host_store(table + DATA_STORES, 8, twice)
    forget_code(hart, table, U64(0), U64(PAGE))


@hosted
def bytes_stored(hart: Hart, pa: U64, region: U64, size: U64) -> None:
    """lang.control.note_store: bytes of one page are about to be written."""
    if hart.undo_base != 0:
        keep_page(hart, hart.region_host[region] + ((pa & ~(PAGE - 1)) - hart.region_base[region]))
    if hart.stored_log != 0:
        log_store(hart, pa)
    if hart.region_info[region] == 0:
        return
    table = host_load(hart.region_info[region] + ((pa - (hart.region_base[region] & ~4095)) >> 12 << 3), 8) & ~1
    if table == 0:
        return
    if host_load(table + CODE_COUNT, 8) == 0:
        return
    offset = pa & (PAGE - 1)
    found = marks_of_block(table, offset, size)
    if found == 0:
        data_stored(hart, table)
    elif found & HELD_BYTES != 0:
        forget_code(hart, table, offset, size)
    else:
        forget_bytes(table, offset, offset + size)
        for i in range(STEP_SLOTS):
            hart.step_record[2 * i] = hart.step_record[2 * STEP_SLOTS]  # copies of what was


@cold
def beside_code(table: U64, offset: U64, size: U64) -> U64:
    """Host address of the page with these records if a store there hits no code, 0 if it does or is to be looked at."""
    if host_load(table + CODE_COUNT, 8) == 0 or marks(table, offset, size) != 0:
        return U64(0)
    left = host_load(table + DATA_STORES, 8)
    if left <= 1:
        return U64(0)
    host_store(table + DATA_STORES, 8, left - 1)
    return host_load(table + PAGE_HOST, 8)


# --- offers of regions ---


@cold
def same_bytes(first: U64, second: U64, size: U64) -> bool:
    """Whether two places of host memory hold the same, a multiple of two bytes."""
    at = U64(0)
    for _ in range(512):
        if size - at < 8:
            break
        if host_load(first + at, 8) != host_load(second + at, 8):
            return False
        at = at + 8
    for _ in range(4):
        if at >= size:
            break
        if host_load(first + at, 2) != host_load(second + at, 2):
            return False
        at = at + 2
    return True


@cold
def offer_fits(offer: U64) -> bool:
    """Whether memory still holds what the region was made from, and some record leads nowhere else by now."""
    at = offer + OFFER_BEGIN
    for i in range(OFFER_LIMIT):
        if i >= host_load(offer + OFFER_RANGES, 8):
            break
        if host_load(host_load(at + RANGE_TABLE, 8) + STOPS, 8) != 0:
            return False
        place = host_load(host_load(at + RANGE_TABLE, 8) + PAGE_HOST, 8) + host_load(at + RANGE_FIRST, 8)
        if not same_bytes(place, host_load(at + RANGE_CONTENT, 8), host_load(at + RANGE_SIZE, 8)):
            return False
        at = at + RANGE_BYTES
    for i in range(OFFER_LIMIT):
        if i >= host_load(offer + OFFER_HEADS, 8):
            break
        if host_load(host_load(at + HEAD_RECORD, 8), 8) == host_load(at + HEAD_OWN, 8):
            return True
        at = at + HEAD_BYTES
    return False


@cold
def take_offer(offer: U64) -> None:
    """Put a region in: its bytes are code, its records lead into it."""
    at = offer + OFFER_BEGIN
    for i in range(OFFER_LIMIT):
        if i >= host_load(offer + OFFER_RANGES, 8):
            break
        first = host_load(at + RANGE_FIRST, 8)
        mark_code(host_load(at + RANGE_TABLE, 8), first, first + host_load(at + RANGE_SIZE, 8), U64(HELD))
        at = at + RANGE_BYTES
    for i in range(OFFER_LIMIT):
        if i >= host_load(offer + OFFER_HEADS, 8):
            break
        record = host_load(at + HEAD_RECORD, 8)
        if host_load(record, 8) == host_load(at + HEAD_OWN, 8):
            host_store(record, 8, host_load(at + HEAD_ENTRY, 8))
        at = at + HEAD_BYTES


@hosted
def take_offers(hart: Hart) -> None:
    """Look at the regions that were offered to this hart."""
    offer = hart.offers
    for _ in range(OFFER_LIMIT):
        if offer == 0:
            break
        following = host_load(offer + OFFER_NEXT, 8)
        if host_load(offer + OFFER_STATE, 8) == OFFER_OPEN:
            if offer_fits(offer):
                take_offer(offer)
                host_store(offer + OFFER_STATE, 8, U64(OFFER_TAKEN))
            else:
                host_store(offer + OFFER_STATE, 8, U64(OFFER_REFUSED))
        offer = following
    hart.offers = offer

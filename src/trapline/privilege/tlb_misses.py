"""Misses of a TLB, for counters that have selected them.

What is counted are the misses of a TLB that is described here: entries of 4 KiB, direct mapped, one for loads and
stores and one for fetches, shared by all modes of an address space. It is looked at where a walk has succeeded. A
translation that it forgets is kept nowhere: then every access that would miss here walks.
"""

from __future__ import annotations

from trapline.lang.control import flush_page, flush_translations
from trapline.lang.functions import cold, inline
from trapline.lang.state import Hart
from trapline.lang.state.words import HPM_DTLB, HPM_ITLB
from trapline.lang.values import U64
from trapline.privilege.derived import update_derived
from trapline.privilege.fields import ATP_MODE_SHIFT
from trapline.privilege.hpm import EVENT_DTLB_LOAD_MISS, EVENT_DTLB_STORE_MISS, EVENT_ITLB_MISS, count_event
from trapline.privilege.protection import ACCESS_FETCH, ACCESS_STORE

_GOLDEN = 0x9E37_79B9_7F4A_7C15
_VALID = 1


@inline
def address_space(hart: Hart, virt: U64) -> U64:
    """A number for what translates: satp, or vsatp and hgatp; 0 where nothing does."""
    if virt == 0:
        return hart.satp if hart.satp >> ATP_MODE_SHIFT != 0 else U64(0)
    if (hart.vsatp | hart.hgatp) >> ATP_MODE_SHIFT == 0:
        return U64(0)
    return hart.vsatp * U64(_GOLDEN) + hart.hgatp + 1


@inline
def data_slot(va: U64) -> U64:
    """The entry of a page for loads and stores."""
    return (va >> 12) & (HPM_DTLB - 1)


@inline
def fetch_slot(va: U64) -> U64:
    """The entry of a page for fetches, which stand behind the others."""
    return HPM_DTLB + ((va >> 12) & (HPM_ITLB - 1))


@cold
def count_miss(hart: Hart, va: U64, access: U64, virt: U64) -> None:
    """A translation for `access` was found: count it if it is new."""
    space = address_space(hart, virt)
    if space == 0:
        return
    page = (va & ~U64(4095)) | _VALID
    event = U64(EVENT_DTLB_LOAD_MISS)
    slot = data_slot(va)
    if access == ACCESS_FETCH:
        event = U64(EVENT_ITLB_MISS)
        slot = fetch_slot(va)
    elif access == ACCESS_STORE:
        event = U64(EVENT_DTLB_STORE_MISS)
    old = hart.hpm_tlb_page[slot]
    if old == page and hart.hpm_tlb_space[slot] == space:
        return
    hart.hpm_tlb_page[slot] = page
    hart.hpm_tlb_space[slot] = space
    if old != 0:
        flush_page(hart, old & ~U64(_VALID))
    before = hart.mip
    count_event(hart, event)
    if hart.mip != before:
        update_derived(hart)


@cold
def forget_all(hart: Hart) -> None:
    """Empty it: at a fence, and when counting begins."""
    for i in range(HPM_DTLB + HPM_ITLB):
        hart.hpm_tlb_page[i] = 0


@inline
def forget_slot(hart: Hart, slot: U64, page: U64) -> None:
    """Empty an entry if it is that page's."""
    if hart.hpm_tlb_page[slot] == page:
        hart.hpm_tlb_page[slot] = 0


@cold
def forget_one(hart: Hart, va: U64) -> None:
    """Forget a page."""
    page = (va & ~U64(4095)) | _VALID
    forget_slot(hart, data_slot(va), page)
    forget_slot(hart, fetch_slot(va), page)


@inline
def forget_translations(hart: Hart) -> None:
    """A fence of all addresses, as software executes it."""
    if hart.hpm_tlb != 0:
        forget_all(hart)
    flush_translations(hart)


@inline
def forget_page(hart: Hart, va: U64) -> None:
    """A fence of one page."""
    if hart.hpm_tlb != 0:
        forget_one(hart, va)
    flush_page(hart, va)

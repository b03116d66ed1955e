"""Address translation: Sv39, Sv48, Sv57 and, below them, Sv39x4, Sv48x4, Sv57x4.

(Privileged spec, Sv39; Hypervisor chapter, two-stage address translation; Svade, Svadu, Svnapot,
Svpbmt.) A fault of an implicit access, also one that reads or writes a PTE, has the cause of the
explicit access it serves.
"""

from __future__ import annotations

from trapline.lang.control import note_store
from trapline.lang.functions import Trap, cold, inline
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
    STORE_ACCESS,
    STORE_GUEST_PAGE_FAULT,
    STORE_PAGE_FAULT,
)
from trapline.privilege.fields import (
    ALL_ONES,
    ATP_MODE_SHIFT,
    ATP_PPN,
    ENVCFG_ADUE,
    ENVCFG_PBMTE,
    MSTATUS_MXR,
    MSTATUS_SUM,
)
from trapline.privilege.modes import MACHINE, SUPERVISOR, USER
from trapline.privilege.protection import (
    ACCESS_FETCH,
    ACCESS_LOAD,
    ACCESS_MANAGE,
    ACCESS_STORE,
    KIND_RAM,
    KIND_ROM,
    check_physical,
    region_of,
)
from trapline.privilege.pte import PTE_A, PTE_D, PTE_N, PTE_PBMT, PTE_R, PTE_RESERVED, PTE_U, PTE_V, PTE_W, PTE_X

__all__ = ["ACCESS_FETCH", "ACCESS_LOAD", "ACCESS_MANAGE", "ACCESS_STORE", "translate"]

# xtinst for an implicit access of VS-stage translation (64-bit PTEs).
PSEUDO_READ_PTE, PSEUDO_WRITE_PTE = 0x3000, 0x3020

# By kind of access: load, store, fetch, cache-block management.
ACCESS_FAULT = (LOAD_ACCESS, STORE_ACCESS, INST_ACCESS, STORE_ACCESS)
PAGE_FAULT = (LOAD_PAGE_FAULT, STORE_PAGE_FAULT, INST_PAGE_FAULT, STORE_PAGE_FAULT)
GUEST_PAGE_FAULT = (
    LOAD_GUEST_PAGE_FAULT, STORE_GUEST_PAGE_FAULT, INST_GUEST_PAGE_FAULT, STORE_GUEST_PAGE_FAULT,
)  # fmt: skip


@cold
def pte_place(hart: Hart, pa: U64, kind: U64, va: U64, access: U64, virt: U64) -> U64:
    """Host address of a PTE that the walker may load or store (`kind`), or the access fault of the original access."""
    if not check_physical(hart, pa, U64(8), kind, U64(SUPERVISOR)):
        raise Trap(ACCESS_FAULT[access], va, 0, 0, virt)
    region = region_of(hart, pa)
    if hart.region_kind[region] != KIND_RAM and hart.region_kind[region] != KIND_ROM:
        raise Trap(ACCESS_FAULT[access], va, 0, 0, virt)
    if kind != ACCESS_LOAD:
        note_store(hart, pa, region, U64(8))
    return hart.region_host[region] + (pa - hart.region_base[region])


@inline
def entry_place(hart: Hart, pa: U64, va: U64, access: U64, virt: U64) -> U64:
    """Host address of a PTE that is read."""
    return pte_place(hart, pa, U64(ACCESS_LOAD), va, access, virt)


@inline
def malformed(hart: Hart, pte: U64, pbmte: U64) -> bool:
    """Invalid, or a reserved encoding for this hart, leaf or not."""
    if pte & PTE_V == 0 or pte & (PTE_R | PTE_W) == PTE_W:
        return True
    if pte & PTE_RESERVED != 0 or (hart.has_svnapot == 0 and pte & PTE_N != 0):
        return True
    return pte & PTE_PBMT != 0 and (pbmte == 0 or pte & PTE_PBMT == PTE_PBMT)


@inline
def pointer(pte: U64) -> bool:
    """A PTE without R, W and X points to the next table."""
    return pte & (PTE_R | PTE_W | PTE_X) == 0


@inline
def bad_pointer(pte: U64) -> bool:
    """D, A, U, N and PBMT are reserved in a pointer."""
    return pte & (PTE_D | PTE_A | PTE_U | PTE_N | PTE_PBMT) != 0


@inline
def permits(pte: U64, access: U64, mxr: U64, hlvx: U64) -> bool:
    """R, W and X against the access; HLVX wants X, MXR lets a load read what is executable."""
    if access == ACCESS_FETCH or hlvx != 0:
        return pte & PTE_X != 0
    if access == ACCESS_STORE:
        return pte & PTE_W != 0
    return pte & PTE_R != 0 or (mxr != 0 and pte & PTE_X != 0)


@inline
def leaf_address(hart: Hart, pte: U64, level: U64, va: U64) -> U64:
    """Physical address that a leaf gives, or all ones if it is misaligned or a reserved NAPOT size.

    walk_page records that the leaf covers more than 4 KiB.
    """
    ppn = (pte >> 10) & ATP_PPN
    span = (U64(1) << ((level * 9 + 12) & 63)) - 1
    if pte & PTE_N != 0:
        if level != 0 or ppn & 15 != 8:
            return U64(ALL_ONES)
        ppn = ppn & ~15
        span = U64(0xFFFF)
    if (ppn << 12) & span != 0:
        return U64(ALL_ONES)
    if span != 0xFFF:
        hart.walk_page = 1
    return (ppn << 12) | (va & span)


@inline
def wanted_bits(access: U64) -> U64:
    """A, and D for a store."""
    return U64(PTE_A | PTE_D) if access == ACCESS_STORE else U64(PTE_A)


@inline
def levels_of(atp: U64) -> U64:
    """Number of levels that the MODE of an xatp register names."""
    return (atp >> ATP_MODE_SHIFT) - 5


@cold
def g_stage(hart: Hart, gpa: U64, kind: U64, va: U64, access: U64, hlvx: U64, pseudo: U64) -> U64:
    """Translate a guest physical address for an access of `kind` that serves `access` to `va`.

    `pseudo` is 0 for the final address, else the pseudo-instruction of an access to a VS-stage PTE.
    Every leaf must be a user page; MXR of HS counts for explicit accesses only.
    """
    hgatp = hart.hgatp
    if hgatp >> ATP_MODE_SHIFT == 0:
        return gpa
    levels = levels_of(hgatp)
    fault = GUEST_PAGE_FAULT[access]
    if gpa >> ((levels * 9 + 14) & 63) != 0:
        raise Trap(fault, va, gpa >> 2, pseudo, 1)
    mxr = hart.mstatus & MSTATUS_MXR
    if pseudo != 0:
        mxr = U64(0)
    table = (hgatp & ATP_PPN) << 12
    index_mask = U64(0x7FF)
    level = levels
    for _ in range(5):
        level = level - 1
        index = (gpa >> ((level * 9 + 12) & 63)) & index_mask
        index_mask = U64(0x1FF)
        place = entry_place(hart, table + (index << 3), va, access, U64(1))
        pte = host_load(place, 8)
        if malformed(hart, pte, hart.menvcfg & ENVCFG_PBMTE):
            raise Trap(fault, va, gpa >> 2, pseudo, 1)
        if pointer(pte):
            if bad_pointer(pte) or level == 0:
                raise Trap(fault, va, gpa >> 2, pseudo, 1)
            table = ((pte >> 10) & ATP_PPN) << 12
        else:
            break
    if pte & PTE_U == 0 or not permits(pte, kind, mxr, hlvx):
        raise Trap(fault, va, gpa >> 2, pseudo, 1)
    pa = leaf_address(hart, pte, level, gpa)
    if pa == ALL_ONES:
        raise Trap(fault, va, gpa >> 2, pseudo, 1)
    wanted = wanted_bits(kind)
    if pte & wanted != wanted:
        if hart.menvcfg & ENVCFG_ADUE == 0:
            raise Trap(fault, va, gpa >> 2, pseudo, 1)
        pte_place(hart, table + (index << 3), U64(ACCESS_STORE), va, access, U64(1))
        pte = pte | wanted
        host_store(place, 8, pte)
    hart.walk_guest_pte = pte
    hart.walk_guest_level = level
    return pa


@inline
def first_stage_entry(hart: Hart, address: U64, va: U64, access: U64, virt: U64) -> U64:
    """Host address of a PTE of the first stage that is read; a VS-stage PTE is found through the G-stage."""
    if virt == 0:
        return entry_place(hart, address, va, access, virt)
    pa = g_stage(hart, address, U64(ACCESS_LOAD), va, access, U64(0), U64(PSEUDO_READ_PTE))
    return entry_place(hart, pa, va, access, virt)


@cold
def first_stage_update(hart: Hart, address: U64, va: U64, access: U64, virt: U64) -> U64:
    """The same for a PTE that is written."""
    pa = address
    if virt != 0:
        pa = g_stage(hart, address, U64(ACCESS_STORE), va, access, U64(0), U64(PSEUDO_WRITE_PTE))
    return pte_place(hart, pa, U64(ACCESS_STORE), va, access, virt)


@inline
def refuses_user_bit(pte: U64, access: U64, priv: U64, status: U64) -> bool:
    """U pages are for U-mode, and for S-mode loads and stores under SUM."""
    if pte & PTE_U == 0:
        return priv == USER
    return priv != USER and (access == ACCESS_FETCH or status & MSTATUS_SUM == 0)


@cold
def first_stage(hart: Hart, va: U64, access: U64, priv: U64, virt: U64, hlvx: U64) -> U64:
    """S-stage (satp) or VS-stage (vsatp) translation of a virtual address."""
    atp = hart.satp
    status = hart.mstatus
    envcfg = hart.menvcfg
    if virt != 0:
        atp = hart.vsatp
        status = hart.vsstatus
        envcfg = hart.menvcfg & hart.henvcfg
    if atp >> ATP_MODE_SHIFT == 0:
        return va
    levels = levels_of(atp)
    fault = PAGE_FAULT[access]
    top = va >> ((levels * 9 + 11) & 63)
    if top != 0 and top != U64(ALL_ONES) >> ((levels * 9 + 11) & 63):
        raise Trap(fault, va, 0, 0, virt)
    table = (atp & ATP_PPN) << 12
    level = levels
    for _ in range(5):
        level = level - 1
        address = table + (((va >> ((level * 9 + 12) & 63)) & 0x1FF) << 3)
        place = first_stage_entry(hart, address, va, access, virt)
        pte = host_load(place, 8)
        if malformed(hart, pte, envcfg & ENVCFG_PBMTE):
            raise Trap(fault, va, 0, 0, virt)
        if pointer(pte):
            if bad_pointer(pte) or level == 0:
                raise Trap(fault, va, 0, 0, virt)
            table = ((pte >> 10) & ATP_PPN) << 12
        else:
            break
    mxr = (status | hart.mstatus) & MSTATUS_MXR
    if refuses_user_bit(pte, access, priv, status) or not permits(pte, access, mxr, hlvx):
        raise Trap(fault, va, 0, 0, virt)
    # The pages of VS-stage tables themselves do not matter for the size of the translation.
    hart.walk_page = 0
    pa = leaf_address(hart, pte, level, va)
    if pa == ALL_ONES:
        raise Trap(fault, va, 0, 0, virt)
    wanted = wanted_bits(access)
    if pte & wanted != wanted:
        if envcfg & ENVCFG_ADUE == 0:
            raise Trap(fault, va, 0, 0, virt)
        large = hart.walk_page
        place = first_stage_update(hart, address, va, access, virt)
        host_store(place, 8, pte | wanted)
        hart.walk_page = large
    hart.walk_pte = pte
    hart.walk_level = level
    return pa


@cold
def translate(hart: Hart, va: U64, access: U64, priv: U64, virt: U64, hlvx: U64) -> U64:
    """Physical address of `va` for this access in this mode, or the fault that the hart raises.

    walk_page is 1 afterwards if a leaf larger than 4 KiB took part, walk_large if one of the first stage did;
    walk_gpa is the guest physical address.
    """
    hart.walk_page = 0
    hart.walk_large = 0
    if virt == 0:
        if priv == MACHINE:
            return va
        pa = first_stage(hart, va, access, priv, U64(0), hlvx)
        hart.walk_large = hart.walk_page
        return pa
    gpa = first_stage(hart, va, access, priv, virt, hlvx)
    hart.walk_large = hart.walk_page
    hart.walk_gpa = gpa
    return g_stage(hart, gpa, access, va, access, hlvx, U64(0))

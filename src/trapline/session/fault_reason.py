"""Why an access faults, in words: the first thing on its way that forbids it.

Only for people, after the fact: the hart's own walker has decided that it faults, and its predicates
(privilege.translation) are asked here one by one.
"""

from __future__ import annotations

from trapline.lang.functions import Trap
from trapline.lang.memory import host_load
from trapline.lang.state import Hart
from trapline.lang.values import U64
from trapline.privilege import translation as walker
from trapline.privilege.causes import (
    ACCESS_FAULTS,
    BREAKPOINT,
    GUEST_PAGE_FAULTS,
    ILLEGAL_INST,
    INST_ACCESS,
    INST_GUEST_PAGE_FAULT,
    INST_MISALIGNED,
    INST_PAGE_FAULT,
    INTERRUPT,
    LOAD_MISALIGNED,
    PAGE_FAULTS,
    STORE_ACCESS,
    STORE_GUEST_PAGE_FAULT,
    STORE_MISALIGNED,
    STORE_PAGE_FAULT,
)
from trapline.privilege.fields import (
    ALL_ONES,
    ATP_MODE_SHIFT,
    ATP_PPN,
    ENVCFG_ADUE,
    ENVCFG_PBMTE,
    MSTATUS_MXR,
)
from trapline.privilege.protection import KIND_DEVICE, KIND_HOLE, KIND_ROM, NO_REGION, pmp_check, region_of
from trapline.privilege.pte import PTE_A, PTE_U, PTE_V
from trapline.privilege.translation import ACCESS_FETCH, ACCESS_LOAD, ACCESS_STORE

MISALIGNED_REMEDY = "--misaligned hardware lets the hart make such accesses itself"

_FETCHES = (INST_ACCESS, INST_PAGE_FAULT, INST_GUEST_PAGE_FAULT)
_STORES = (STORE_ACCESS, STORE_PAGE_FAULT, STORE_GUEST_PAGE_FAULT)
_VERBS = {ACCESS_LOAD: "read", ACCESS_STORE: "written", ACCESS_FETCH: "executed"}
_RIGHTS = {ACCESS_LOAD: "R", ACCESS_STORE: "W", ACCESS_FETCH: "X"}


Mode = tuple[int, int]  # priv, virt


def fault_reason(hart: Hart, cause: int, tval: int, gpa: int, fetch: Mode, data: Mode) -> str:
    """Say why a trap is taken; "" where nothing more can be told.

    `tval` and `gpa` are what the trap wrote (xtval, xtval2 << 2); `fetch` and `data` the modes of fetches and of loads
    and stores.
    """
    priv, virt = fetch if cause in _FETCHES else data
    access = ACCESS_FETCH if cause in _FETCHES else ACCESS_STORE if cause in _STORES else ACCESS_LOAD
    if cause in (LOAD_MISALIGNED, STORE_MISALIGNED):
        return f"the address {tval:#x} is misaligned; {MISALIGNED_REMEDY}"
    if cause == INST_MISALIGNED:
        return f"the target {tval:#x} is not a multiple of 4"
    if cause == ILLEGAL_INST:
        return "the instruction is all zeros" if tval == 0 else f"the instruction {tval:#x} is illegal there"
    if cause & INTERRUPT:
        return "its handler leaves it pending"
    if cause == BREAKPOINT:
        return "an ebreak that nobody serves"
    if cause in ACCESS_FAULTS:
        return _access_reason(hart, tval, access, priv, virt)
    if cause in PAGE_FAULTS:
        return _first_stage_reason(hart, tval, access, priv, virt)
    if cause in GUEST_PAGE_FAULTS:
        return _stage_reason(hart, gpa, access)
    return ""


def _access_reason(hart: Hart, va: int, access: int, priv: int, virt: int) -> str:
    try:
        pa = int(hart.call(walker.translate, va, access, priv, virt, 0))
    except Trap as trap:
        if trap.cause in GUEST_PAGE_FAULTS:
            return f"no memory at guest physical address {trap.tval2 << 2 | va & 3:#x}"
        return f"a page table for {va:#x} lies where it cannot be read"
    region = int(region_of(hart, U64(pa)))
    if region == NO_REGION or hart.region_kind[region] == KIND_HOLE:
        return f"no memory at {pa:#x}"
    kind = hart.region_kind[region]
    if access == ACCESS_FETCH and (kind == KIND_DEVICE or hart.region_noexec[region] != 0):
        return f"what lies at {pa:#x} cannot be executed"
    if access == ACCESS_STORE and kind == KIND_ROM:
        return f"{pa:#x} is ROM"
    if hart.pmp_active != 0 and not pmp_check(hart, U64(pa), U64(1), U64(access), U64(priv)):
        return f"PMP keeps {pa:#x} from being {_VERBS[access]}"
    return f"the device at {pa:#x} takes no such access" if kind == KIND_DEVICE else ""


def _first_stage_reason(hart: Hart, va: int, access: int, priv: int, virt: int) -> str:
    """Walk as privilege.translation.first_stage does, and say where and why it stops."""
    atp, status, envcfg = hart.satp, hart.mstatus, hart.menvcfg
    if virt:
        atp, status, envcfg = hart.vsatp, hart.vsstatus, hart.menvcfg & hart.henvcfg
    name = "vsatp" if virt else "satp"
    if atp >> ATP_MODE_SHIFT == 0:
        return ""
    levels = int(walker.levels_of(atp))
    top = va >> (levels * 9 + 11)
    if top not in (0, ALL_ONES >> (levels * 9 + 11)):
        return f"{va:#x} is no address of Sv{levels * 9 + 12}"
    table, level = (atp & ATP_PPN) << 12, levels
    while True:
        level -= 1
        address = table + ((U64(va) >> (level * 9 + 12) & 0x1FF) << 3)
        try:
            place = walker.first_stage_entry(hart, address, U64(va), U64(access), U64(virt))
        except Trap:
            return f"the PTE at {int(address):#x} under {name} cannot be read"
        pte = host_load(place, 8)
        at = f"the PTE at {int(address):#x}"
        if (wrong := _malformed(hart, pte, level, at, envcfg & ENVCFG_PBMTE)) is not None:
            return wrong
        if not walker.pointer(pte):
            break
        table = (pte >> 10 & ATP_PPN) << 12
    if walker.refuses_user_bit(pte, U64(access), U64(priv), status):
        return f"U is {int(pte >> 4 & 1)} in {at}, and the access is made in {'U' if priv == 0 else 'S'}-mode"
    mxr = (status | hart.mstatus) & MSTATUS_MXR
    if not walker.permits(pte, U64(access), mxr, U64(0)):
        return f"{_RIGHTS[access]} is 0 in {at}"
    switch = "henvcfg" if virt and hart.menvcfg & ENVCFG_ADUE != 0 else "menvcfg"
    return _leaf(hart, pte, level, U64(va), access, at, envcfg, switch)


def _stage_reason(hart: Hart, gpa: int, access: int) -> str:
    """Walk as privilege.translation.g_stage does, and say where and why it stops."""
    hgatp = hart.hgatp
    if hgatp >> ATP_MODE_SHIFT == 0:
        return ""
    levels = int(walker.levels_of(hgatp))
    if gpa >> (levels * 9 + 14) != 0:
        return f"{gpa:#x} is no guest physical address of Sv{levels * 9 + 12}x4"
    table, level, mask = (hgatp & ATP_PPN) << 12, levels, 0x7FF
    while True:
        level -= 1
        address = table + ((U64(gpa) >> (level * 9 + 12) & mask) << 3)
        mask = 0x1FF
        try:
            place = walker.entry_place(hart, address, U64(gpa), U64(access), U64(1))
        except Trap:
            return f"the PTE at {int(address):#x} under hgatp cannot be read"
        pte = host_load(place, 8)
        at = f"the G-stage PTE at {int(address):#x}"
        if (wrong := _malformed(hart, pte, level, at, hart.menvcfg & ENVCFG_PBMTE)) is not None:
            return f"guest physical address {gpa:#x}: {wrong}"
        if not walker.pointer(pte):
            break
        table = (pte >> 10 & ATP_PPN) << 12
    if pte & PTE_U == 0:
        return f"U is 0 in {at}"
    if not walker.permits(pte, U64(access), hart.mstatus & MSTATUS_MXR, U64(0)):
        return f"{_RIGHTS[access]} is 0 in {at}"
    return _leaf(hart, pte, level, U64(gpa), access, at, hart.menvcfg, "menvcfg")


def _malformed(hart: Hart, pte: U64, level: int, at: str, pbmte: U64) -> str | None:
    if pte & PTE_V == 0:
        return f"V is 0 in {at} ({int(pte):#x})"
    if walker.malformed(hart, pte, pbmte):
        return f"{at} ({int(pte):#x}) has a reserved encoding"
    if walker.pointer(pte) and (level == 0 or walker.bad_pointer(pte)):
        return f"{at} ({int(pte):#x}) is no leaf, and no pointer to a table either"
    return None


def _leaf(hart: Hart, pte: U64, level: int, address: U64, access: int, at: str, envcfg: U64, switch: str) -> str:
    if walker.leaf_address(hart, pte, U64(level), address) == ALL_ONES:
        return f"{at} ({int(pte):#x}) is a large page that is misaligned"
    missing = walker.wanted_bits(U64(access)) & ~pte
    if missing != 0 and envcfg & ENVCFG_ADUE == 0:
        bit = "A" if missing & PTE_A != 0 else "D"
        return f"{bit} is 0 in {at} ({int(pte):#x}), and {switch}.ADUE is 0"
    return ""

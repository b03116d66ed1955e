"""Page tables that are written or refused on the way: A and D bits, PBMT, tables of four and five levels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from trapline.isa.assemble import encode_line
from trapline.pack import rows
from trapline.pack.places import (
    AGED,
    AGED_ENTRY,
    BASE,
    DATA,
    G_TABLE,
    HGATP,
    S_TABLE,
    SATP,
    SV48,
    SV48X4,
    SV57,
    SV57X4,
    TABLE_WINDOW,
)
from trapline.pack.rows import ADUE, PBMTE, Case, Check, Options, csr, held, watch
from trapline.privilege.causes import (
    LOAD_GUEST_PAGE_FAULT,
    LOAD_PAGE_FAULT,
    STORE_GUEST_PAGE_FAULT,
    STORE_PAGE_FAULT,
)
from trapline.privilege.fields import ATP_MODE_SHIFT, ATP_SV39, ATP_SV48, ATP_SV57
from trapline.privilege.pte import PTE_A, PTE_D, PTE_R, PTE_U, PTE_V, PTE_W, PTE_X

AD = "Supervisor: Svadu, Svade; H: henvcfg.ADUE, menvcfg.ADUE"
IMPLICIT = "H: Guest-Page Faults, of implicit accesses for VS-stage address translation; Pseudoinstruction values"
PBMT = "Supervisor: Svpbmt; H: henvcfg.PBMTE, menvcfg.PBMTE"
MODES = "H: Hypervisor Guest Address Translation and Protection (hgatp); Two-Stage Address Translation"
WIDTHS = "Supervisor: Sv39, Sv48, Sv57; address bits above the virtual address must equal its highest"

VALUE = 0x0123_4567_89AB_CDEF
READ_OF_TABLE, WRITE_OF_TABLE = 0x3000, 0x3020
NON_CACHEABLE = 1 << 61
_RWX = PTE_V | PTE_R | PTE_W | PTE_X
_RAM = BASE >> 2
_V_ENTRY, _G_ENTRY = S_TABLE + 8 * AGED_ENTRY, G_TABLE + 8 * AGED_ENTRY
_WINDOW_ENTRY = G_TABLE + 8 * TABLE_WINDOW
_TABLE_GPA = TABLE_WINDOW << 30 | S_TABLE - BASE
_FAULTS = {
    **dict.fromkeys(("satp", "vsatp"), (LOAD_PAGE_FAULT, STORE_PAGE_FAULT)),
    "hgatp": (LOAD_GUEST_PAGE_FAULT, STORE_GUEST_PAGE_FAULT),
}
_FENCES = "sfence.vma; hfence.gvma; hfence.vvma"
_TAKER = "taker (0 M, 1 HS, 2 VS, 3 nobody)"


@dataclass(frozen=True, slots=True)
class Walk:
    """An access under a set-up; cause 0: it gives the value. All traps go to M-mode."""

    name: str
    mode: str
    code: str
    at: int
    setup: tuple[str, ...]
    rule: str
    cause: int = 0
    gpa: int = 0  # of a guest-page fault
    tinst: int | None = None  # of an implicit access; None: of the instruction
    watched: int = 0  # a table's entry, and what it must be afterwards
    entry: int = 0


def cases(options: Options) -> Iterator[Case]:
    """Return the cases; each writes the entries that it needs, and a core without the control is not asked."""
    for walk in (*_aging(), *_aging_of_tables(), *_memory_types(), *_wide()):
        yield _case(walk, options)


def _write(at: int, entry: int) -> str:
    return f"li t0, {at:#x}; li t1, {entry:#x}; sd t1, 0(t0)"


def _accesses(stage: str) -> tuple[tuple[str, str, bool], ...]:
    """Return mode, instruction, and whether it stores."""
    plain = (
        ("HS" if stage == "satp" else "VS", "ld a1, 0(a0)", False),
        ("HS" if stage == "satp" else "VS", "sd a1, 0(a0)", True),
    )
    if stage == "satp":
        return plain
    return (*plain, ("HS", "hlv.d a1, (a0)", False), ("HS", "hsv.d a1, (a0)", True))


def _stage(stage: str) -> tuple[str, ...]:
    on = {"satp": (held("satp", SATP),), "vsatp": (held("vsatp", SATP), held("hgatp", HGATP))}
    return on.get(stage, (held("hgatp", HGATP),))


def _control(stage: str, mask: int, on: bool) -> tuple[str, ...]:
    """Give the stage's bit of menvcfg or henvcfg a value; menvcfg's is 1 where henvcfg's is meant."""
    if stage == "vsatp":
        return (held("menvcfg", mask), held("henvcfg", mask), csr("henvcfg", mask if on else 0))
    return (held("menvcfg", mask), csr("menvcfg", mask if on else 0))


def _aging() -> Iterator[Walk]:
    """Each stage's own leaf without A or D: a fault with ADUE 0, an update with ADUE 1."""
    for stage in ("satp", "vsatp", "hgatp"):
        place, user = (_G_ENTRY, PTE_U) if stage == "hgatp" else (_V_ENTRY, 0)
        for mode, code, store in _accesses(stage):
            for bits, label in ((0, "A 0"), (PTE_A, "D 0")):
                for adue in (False, True):
                    entry = _RAM | _RWX | user | bits
                    fault = not adue and (bits == 0 or store)
                    after = entry if fault else entry | PTE_A | (PTE_D if store else 0)
                    setup = (*_control(stage, ADUE, adue), _write(place, entry), *_stage(stage))
                    yield Walk(
                        f"{code} from {mode}, {label} in {stage}'s leaf, ADUE {adue:d}", mode, code, AGED, setup, AD,
                        _FAULTS[stage][store] if fault else 0, AGED if stage == "hgatp" else 0, None, place, after,
                    )  # fmt: skip


def _aging_of_tables() -> Iterator[Walk]:
    """VS-stage tables in pages of the G-stage that are read-only, or without A or D."""
    vsatp = held("vsatp", ATP_SV39 << ATP_MODE_SHIFT | _TABLE_GPA >> 12)
    leaf = _RAM | _RWX
    update = (held("menvcfg", ADUE), held("henvcfg", ADUE))
    window = _RAM | PTE_V | PTE_R | PTE_U | PTE_A
    for mode, code, store in _accesses("vsatp"):
        for bits in (0, PTE_A) if store else (0,):
            setup = (*update, _write(_V_ENTRY, leaf | bits), _write(_WINDOW_ENTRY, window), vsatp, held("hgatp", HGATP))
            yield Walk(
                f"{code} from {mode}, {'D' if bits else 'A'} 0 in a table that the G-stage has read-only", mode, code,
                AGED, setup, IMPLICIT, 23 if store else 21, _TABLE_GPA + 8 * AGED_ENTRY, WRITE_OF_TABLE, _V_ENTRY,
                leaf | bits,
            )  # fmt: skip
    window = _RAM | _RWX | PTE_U
    for code, store in (("hlv.d a1, (a0)", False), ("hsv.d a1, (a0)", True)):
        off = (held("menvcfg", ADUE), csr("menvcfg", 0))
        old, new = (_write(_V_ENTRY, leaf | bits) for bits in (PTE_A | PTE_D, 0))
        yield Walk(
            f"{code} from HS, A 0 in the G-stage's leaf of a table, ADUE 0", "HS", code, AGED,
            (*off, old, _write(_WINDOW_ENTRY, window), vsatp, held("hgatp", HGATP)), IMPLICIT, 23 if store else 21,
            _TABLE_GPA + 8 * AGED_ENTRY, READ_OF_TABLE, _WINDOW_ENTRY, window,
        )  # fmt: skip
        for first, what, place, after in (
            (new, "both stages' entries", _V_ENTRY, leaf | PTE_A | (PTE_D if store else 0)),
            (new, "both stages' entries, seen in the G-stage", _WINDOW_ENTRY, window | PTE_A | PTE_D),
            (old, "the G-stage's leaf of a table that is only read", _WINDOW_ENTRY, window | PTE_A),
        ):
            setup = (*update, first, _write(_WINDOW_ENTRY, window), vsatp, held("hgatp", HGATP))
            yield Walk(f"{code} from HS, A 0 in {what}, ADUE 1", "HS", code, AGED, setup, AD, 0, 0, None, place, after)


def _memory_types() -> Iterator[Walk]:
    """A leaf with a memory type: reserved, so a fault, unless PBMTE of its stage is set."""
    for stage in ("satp", "vsatp", "hgatp"):
        place, user = (_G_ENTRY, PTE_U) if stage == "hgatp" else (_V_ENTRY, 0)
        entry = NON_CACHEABLE | _RAM | _RWX | user | PTE_A | PTE_D
        for mode, code, store in _accesses(stage):
            for on in (False, True):
                setup = (*_control(stage, PBMTE, on), _write(place, entry), *_stage(stage))
                cause = 0 if on else _FAULTS[stage][store]
                gpa = AGED if stage == "hgatp" else 0
                yield Walk(
                    f"{code} from {mode}, PBMT 1 in {stage}'s leaf, PBMTE {on:d}",
                    mode,
                    code,
                    AGED,
                    setup,
                    PBMT,
                    cause,
                    gpa,
                )


def _wide() -> Iterator[Walk]:
    """Every mode of vsatp and hgatp: what it reaches, and the first address that it does not."""
    here = DATA + 0x120
    guests = (
        (39, HGATP),
        (48, ATP_SV48 << ATP_MODE_SHIFT | SV48X4 >> 12),
        (57, ATP_SV57 << ATP_MODE_SHIFT | SV57X4 >> 12),
    )
    supervisors = (
        (39, SATP),
        (48, ATP_SV48 << ATP_MODE_SHIFT | SV48 >> 12),
        (57, ATP_SV57 << ATP_MODE_SHIFT | SV57 >> 12),
    )
    for mode, code, store in _accesses("hgatp"):
        fault = _FAULTS["hgatp"][store]
        for bits, hgatp in guests:
            name, on = f"{code} from {mode}, Sv{bits}x4", (held("hgatp", hgatp),)
            beyond = 1 << bits + 2 | here
            yield Walk(f"{name}, its first table", mode, code, here, on, MODES)
            yield Walk(f"{name}, an address that is too wide", mode, code, beyond, on, MODES, fault, beyond)
            yield Walk(f"{name}, the two bits that x4 adds", mode, code, 3 << bits | here, on, MODES)
        for bits, vsatp in supervisors:
            name, both = f"{code} from {mode}, Sv{bits}", (held("vsatp", vsatp), held("hgatp", HGATP))
            yield Walk(f"{name}, its first table", mode, code, here, both, WIDTHS)
            beyond = 1 << bits - 1 | here
            yield Walk(f"{name}, an address that is no sign extension", mode, code, beyond, both, WIDTHS, fault - 8)
            if bits > 39:
                yield Walk(f"{name}, its second table", mode, code, 1 << bits - 9 | here, both, WIDTHS)
        gpa = 1 << 41 | here
        leaf = _write(_V_ENTRY, (1 << 41 | BASE) >> 2 | _RWX | PTE_A | PTE_D)
        setup = (leaf, held("vsatp", SATP), held("hgatp", HGATP))
        yield Walk(
            f"{code} from {mode}, Sv39 to an address too wide for Sv39x4", mode, code, AGED, setup, MODES, fault, gpa
        )


def _case(walk: Walk, options: Options) -> Case:
    before = (csr("hstatus", rows.SPVP), f"li t0, {DATA + 0x120:#x}; li t1, {VALUE:#x}; sd t1, 0(t0)")
    setup = (*before, *walk.setup, *((watch(walk.watched),) if walk.watched else ()), _FENCES)
    store = walk.code.startswith(("sd", "hsv"))
    body = (f"li a1, {VALUE if store else 0:#x}; li a0, {walk.at:#x}", "{c}_test:", walk.code)
    checks = [Check(_TAKER, "taker", rows.TAKERS["M" if walk.cause else "nobody"], walk.rule)]
    if walk.cause:
        tied = 0 if "htval" in options.zero else None
        checks += [
            Check("mcause", "mcause", walk.cause, walk.rule),
            Check("mepc", "mepc", "{c}_test", "H: Trap Entry"),
            Check("mtval", "mtval", walk.at, "Machine: mtval", other=0 if "xtval" in options.zero else None),
            Check("mtval2", "mtval2", walk.gpa >> 2, IMPLICIT, other=tied),
            Check("mtinst", "mtinst", _tinst(walk), IMPLICIT, other=0 if walk.tinst is None else tied),
        ]
    else:
        checks.append(Check("what was read", "a1", VALUE, walk.rule))
    if walk.watched:
        checks.append(Check("the entry afterwards", "watched", walk.entry, walk.rule))
    return Case(walk.name, walk.mode, setup, body, tuple(checks))


def _tinst(walk: Walk) -> int:
    if walk.tinst is not None:
        return walk.tinst
    word = encode_line(walk.code)
    if walk.code.startswith("h"):
        return word & ~(31 << 15)
    return word & (0x01F0_707F if walk.code.startswith("sd") else 0x7FFF)

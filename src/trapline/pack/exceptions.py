"""Exceptions: each cause, by medeleg, hedeleg and the mode that raises it, with every field of the trap."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from trapline.isa.assemble import encode_line
from trapline.pack import rows
from trapline.pack.places import DATA, HGATP, HOLE, NO_ACCESS, SATP, USER
from trapline.pack.rows import MODES, Case, Check, Options, bits, csr, field, held, status
from trapline.privilege.causes import ECALL_M, ENVIRONMENT_CALLS, GUEST_PAGE_FAULTS

# Hypervisor extension, table of hedeleg bits: these must be writable, all others are read-only zero.
HEDELEG = {0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 13, 15}
_LOAD, _STORE = "ld a1, 0(a0)", "sd a1, 0(a0)"
_LOAD_BITS = encode_line(_LOAD) & 0x7FFF  # rd, funct3, opcode; no offset, rs1 is the address offset
_STORE_BITS = encode_line(_STORE) & 0x01F0_707F  # rs2, funct3, opcode

DELEGATION = "H: Hypervisor Trap Delegation Registers (hedeleg); Machine: medeleg"
ENTRY = "H: Trap Entry"
MACHINE_ENTRY = "H: Trap Entry; Machine: Privilege and Global Interrupt-Enable Stack"
VS_ENTRY = "H: Trap Entry, traps into VS-mode"
CAUSES = "H: Trap Cause Codes"
HSTATUS_GVA = "H: Hypervisor Status (hstatus), GVA"
MSTATUS_GVA = "H: Machine Status Registers, GVA"
TVAL = "Supervisor: stval; Machine: mtval"
HTVAL = "H: Hypervisor Trap Value (htval); Machine Second Trap Value (mtval2)"
TINST = "H: Transformed Instruction or Pseudoinstruction for mtinst or htinst"
UNTOUCHED = "H: Trap Entry, a trap writes the registers of the mode that takes it"


@dataclass(frozen=True, slots=True)
class Event:
    """An exception: how it is raised, and what its trap value is."""

    name: str
    cause: int
    code: tuple[str, ...]  # the last instruction raises it
    modes: tuple[str, ...]
    tval: int | str = 0
    zero: bool = False  # the trap value may be zero on every core
    address: bool = False  # it is an address, guest virtual where V=1
    epc: int | None = None  # if it is not the last instruction
    transformed: int = 0
    paging: str = ""  # satp (vsatp where V=1), hgatp
    optional: bool = False


_ANY = ("M", "HS", "U", "VS", "VU")
_LOWER = _ANY[1:]
_VIRTUAL = ("VS", "VU")


def _memory(name: str, causes: tuple[int, int, int], at: int, modes: tuple[str, ...], paging: str) -> list[Event]:
    address = f"li a0, {at:#x}"
    return [
        Event(f"fetch-{name}", causes[0], (address, "jr a0"), modes, at, address=True, epc=at, paging=paging),
        Event(f"load-{name}", causes[1], (address, _LOAD), modes, at, False, True, None, _LOAD_BITS, paging),
        Event(f"store-{name}", causes[2], (address, _STORE), modes, at, False, True, None, _STORE_BITS, paging),
    ]


def _events() -> list[Event]:
    read = encode_line("csrrs a1, hstatus, zero")
    odd = (f"li a0, {DATA:#x}", "addi a0, a0, 1")
    return [
        Event("illegal", 2, (".word 0xffffffff",), _ANY, 0xFFFF_FFFF, zero=True),
        Event("breakpoint", 3, ("ebreak",), _ANY, "test", zero=True, address=True),
        Event("ecall-u", 8, ("ecall",), ("U", "VU")),
        Event("ecall-hs", 9, ("ecall",), ("HS",)),
        Event("ecall-vs", 10, ("ecall",), ("VS",)),
        Event("ecall-m", 11, ("ecall",), ("M",)),
        Event("virtual", 22, ("csrr a1, hstatus",), _VIRTUAL, read, zero=True),
        Event("load-misaligned", 4, (*odd, _LOAD), _ANY, DATA + 1, False, True, None, _LOAD_BITS, optional=True),
        Event("store-misaligned", 6, (*odd, _STORE), _ANY, DATA + 1, False, True, None, _STORE_BITS, optional=True),
        *_memory("access", (1, 5, 7), NO_ACCESS + 0x120, _LOWER, ""),
        *_memory("page", (12, 13, 15), HOLE, _LOWER, "satp"),
        *_memory("guest-page", GUEST_PAGE_FAULTS, HOLE, _VIRTUAL, "hgatp"),
    ]


def cases(options: Options) -> Iterator[Case]:
    """Return the cases: two values of each delegation bit, and the interrupt enables on and off in turn."""
    number = 0
    for event in _events():
        for mode in event.modes:
            for medeleg in (0, 1):
                for hedeleg in (0, 1):
                    yield _case(event, mode, bool(medeleg), bool(hedeleg), number % 3 == 0, options)
                    number += 1


def taker(cause: int, mode: str, medeleg: bool, hedeleg: bool) -> str:
    """Return the mode that takes an exception (Machine: medeleg; H: hedeleg)."""
    if not medeleg or mode == "M" or cause == ECALL_M:
        return "M"
    return "VS" if MODES[mode][0] and hedeleg and cause in HEDELEG else "HS"


def _case(event: Event, mode: str, medeleg: bool, hedeleg: bool, enabled: bool, options: Options) -> Case:
    to = taker(event.cause, mode, medeleg, hedeleg)
    privilege = MODES[mode][1]
    window = USER if event.paging == "satp" and not privilege else 0
    setup = [*_setup(event, mode, to, enabled)]
    setup.append(held("medeleg", bits(medeleg and event.cause != ECALL_M, 1 << event.cause)))
    setup.append(csr("hedeleg", bits(hedeleg, 1 << event.cause)))
    if event.name.endswith("-access"):
        setup.append("li t0, 0x1f18; la t1, pmp_held; ld t1, 0(t1); bne t0, t1, {c}_skip")
    body = ("nop", *event.code[:-1], "{c}_test:", event.code[-1])
    return Case(
        f"{event.name} from {mode}, medeleg {medeleg:d}, hedeleg {hedeleg:d}", mode, tuple(setup), body,
        _checks(event, mode, to, enabled, window, options), window,
        "ebreak" if event.cause in ENVIRONMENT_CALLS else "ecall", event.optional,
    )  # fmt: skip


def _setup(event: Event, mode: str, to: str, enabled: bool) -> Iterator[str]:
    """Give every field that the trap writes the value that it must not keep."""
    v, privilege = MODES[mode]
    virtual = bits(not (v and event.address), rows.GVA) | bits(privilege == 0, rows.SPVP)
    yield csr("hstatus", virtual)
    yield status(
        "mstatus", rows.MIE | rows.MPIE | rows.SPIE, bits(enabled, rows.MIE | rows.SPIE) | bits(not enabled, rows.MPIE)
    )
    yield status(
        "mstatus", rows.MPV | rows.MGVA | rows.MPP, bits(not v, rows.MPV) | bits(not (v and event.address), rows.MGVA)
    )
    yield csr("vsstatus", bits(enabled, rows.SIE) | bits(not enabled, rows.SPIE) | bits(not privilege, rows.SPP))
    if event.paging == "satp":
        yield held("vsatp" if v else "satp", SATP)
    elif event.paging:
        yield held("hgatp", HGATP)


def _checks(event: Event, mode: str, to: str, enabled: bool, window: int, options: Options) -> tuple[Check, ...]:
    privilege = MODES[mode][1]
    prefix = {"M": "m", "HS": "s", "VS": "vs"}[to]
    here = f"{{c}}_test + {window}"
    epc = here if event.epc is None else event.epc
    tval = here if event.tval == "test" else event.tval
    loose = event.zero or (event.address and "xtval" in options.zero)
    found = [
        Check("taker (0 M, 1 HS, 2 VS, 3 nobody)", "taker", rows.TAKERS[to], DELEGATION),
        Check(f"{prefix}cause", f"{prefix}cause", event.cause, CAUSES),
        Check(f"{prefix}epc", f"{prefix}epc", epc, ENTRY),
        Check(f"{prefix}tval", f"{prefix}tval", tval, TVAL, other=0 if loose else None),
    ]
    if to == "VS":
        found += _vs(privilege, enabled)
    elif to == "HS":
        found += _hs(event, mode, enabled)
    else:
        found += _m(event, mode, enabled)
    if to != "VS":
        second = HOLE >> 2 if event.cause in GUEST_PAGE_FAULTS else 0
        name, tinst = ("htval", "htinst") if to == "HS" else ("mtval2", "mtinst")
        found.append(Check(name, name, second, HTVAL, other=0 if "htval" in options.zero else None))
        found.append(Check(tinst, tinst, event.transformed, TINST, other=0))
    return tuple(found)


def _vs(privilege: int, enabled: bool) -> list[Check]:
    return [
        field("vsstatus.SPP", "vsstatus", rows.SPP, privilege, VS_ENTRY),
        field("vsstatus.SPIE", "vsstatus", rows.SPIE, int(enabled), VS_ENTRY),
        field("vsstatus.SIE", "vsstatus", rows.SIE, 0, VS_ENTRY),
        field("hstatus.SPV", "hstatus", rows.SPV, 0, UNTOUCHED),
        field("hstatus.SPVP", "hstatus", rows.SPVP, int(not privilege), UNTOUCHED),
        Check("scause", "scause", 0, UNTOUCHED),
        Check("sepc", "sepc", "{c}_entry", UNTOUCHED, mask=0xFFFF_FFFF),
    ]


def _hs(event: Event, mode: str, enabled: bool) -> list[Check]:
    v, privilege = MODES[mode]
    gva = Check("hstatus.GVA xor (stval is not 0)", "hgva", 0, HSTATUS_GVA)
    return [
        field("sstatus.SPP", "sstatus", rows.SPP, privilege, ENTRY),
        field("sstatus.SPIE", "sstatus", rows.SPIE, int(enabled), ENTRY),
        field("sstatus.SIE", "sstatus", rows.SIE, 0, ENTRY),
        field("hstatus.SPV", "hstatus", rows.SPV, v, ENTRY),
        field("hstatus.SPVP", "hstatus", rows.SPVP, privilege if v else int(not privilege), ENTRY),
        gva if v and event.address else field("hstatus.GVA", "hstatus", rows.GVA, 0, HSTATUS_GVA),
        Check("vscause", "vscause", 0, UNTOUCHED),
        Check("vsepc", "vsepc", 0x7F0, UNTOUCHED),
    ]


def _m(event: Event, mode: str, enabled: bool) -> list[Check]:
    v, privilege = MODES[mode]
    gva = Check("mstatus.GVA xor (mtval is not 0)", "mgva", 0, MSTATUS_GVA)
    return [
        field("mstatus.MPP", "mstatus", rows.MPP, privilege, MACHINE_ENTRY),
        field("mstatus.MPV", "mstatus", rows.MPV, v, MACHINE_ENTRY),
        field("mstatus.MPIE", "mstatus", rows.MPIE, int(enabled), MACHINE_ENTRY),
        field("mstatus.MIE", "mstatus", rows.MIE, 0, MACHINE_ENTRY),
        gva if v and event.address else field("mstatus.GVA", "mstatus", rows.MGVA, 0, MSTATUS_GVA),
        Check("scause", "scause", 0, UNTOUCHED),
        Check("vscause", "vscause", 0, UNTOUCHED),
    ]

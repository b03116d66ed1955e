"""Loads and stores through two stages: HLV and HSV, the guest's own, and M-mode's under MPRV with MPV."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from trapline.isa.assemble import encode_line
from trapline.pack import rows
from trapline.pack.places import DATA, EXECUTE_ONLY, HGATP, HOLE, NO_TABLE, NOT_USER, READ_ONLY, SATP, USER
from trapline.pack.rows import MODES, MXR, SUM, Case, Check, Options, bits, csr, field, held, status

TWO_STAGE = "H: Two-Stage Address Translation"
GUEST_FAULT = "H: Guest-Page Faults; htval and mtval2 hold the guest physical address shifted right by 2"
PERMISSION = "H: Two-Stage Address Translation, G-stage permissions; MXR and SUM of vsstatus and sstatus"
LOADS = "H: Hypervisor Virtual-Machine Load and Store Instructions"
MPRV = "H: Machine Status Registers, MPRV with MPV and MPP"
TINST = "H: Transformed Instruction or Pseudoinstruction for mtinst or htinst"
GVA = "H: GVA, a guest virtual address was written to the trap value"
ENTRY = "H: Trap Entry"

VALUE = 0x0123_4567_89AB_CDEF
IMPLICIT_READ = 0x3000  # the pseudoinstruction of a 64-bit read of a VS-stage table
_RS1 = 31 << 15
LOAD_PAGE, STORE_PAGE, LOAD_GUEST, STORE_GUEST = 13, 15, 21, 23


@dataclass(frozen=True, slots=True)
class Row:
    """An access: what executes it, which stages are on, and the cause that it has (0: it gives the value)."""

    name: str
    code: str
    at: int
    cause: int = 0
    gpa: int | None = None  # of a guest-page fault; None: the address itself
    stages: str = "vg"  # v: vsatp, g: hgatp, s: satp
    user: bool = False  # with the privilege of user code, in its window
    setup: tuple[str, ...] = ()
    rule: str = TWO_STAGE
    implicit: bool = False


def _virtual_machine_accesses() -> list[Row]:
    here = DATA + 0x120
    vs_mxr, hs_mxr = (status(name, MXR, MXR) for name in ("vsstatus", "sstatus"))
    sum_on = status("vsstatus", SUM, SUM)
    load, store, execute = "hlv.d a1, (a0)", "hsv.d a1, (a0)", "hlvx.wu a1, (a0)"
    return [
        Row("both stages", load, here),
        Row("both stages", load, here, user=True),
        Row("store, both stages", store, here),
        Row("no translation", load, here, stages=""),
        Row("hole of the VS-stage", load, HOLE, LOAD_PAGE),
        Row("hole of the VS-stage", store, HOLE, STORE_PAGE),
        Row("hole of the G-stage", load, HOLE, LOAD_GUEST, stages="g"),
        Row("hole of the G-stage", store, HOLE, STORE_GUEST, stages="g"),
        Row("hole of the G-stage", execute, HOLE, LOAD_GUEST, stages="g"),
        Row("hole of the VS-stage", execute, HOLE, LOAD_PAGE),
        Row("no table of the VS-stage", load, NO_TABLE, LOAD_GUEST, 3 << 30, rule=GUEST_FAULT, implicit=True),
        Row("no table of the VS-stage", store, NO_TABLE, STORE_GUEST, 3 << 30, rule=GUEST_FAULT, implicit=True),
        Row("read-only in the VS-stage", store, READ_ONLY, STORE_PAGE),
        Row("read-only in the G-stage", store, READ_ONLY, STORE_GUEST, stages="g"),
        Row("U=0 in the G-stage", load, NOT_USER, LOAD_GUEST, stages="g", rule=PERMISSION),
        Row("execute-only in the VS-stage", load, EXECUTE_ONLY, LOAD_PAGE, rule=PERMISSION),
        Row("execute-only in the VS-stage, vsstatus.MXR", load, EXECUTE_ONLY, setup=(vs_mxr,), rule=PERMISSION),
        Row("execute-only in the VS-stage, sstatus.MXR", load, EXECUTE_ONLY, setup=(hs_mxr,), rule=PERMISSION),
        Row("execute-only in the G-stage", load, EXECUTE_ONLY, LOAD_GUEST, stages="g", rule=PERMISSION),
        Row("execute-only in the G-stage, vsstatus.MXR", load, EXECUTE_ONLY, LOAD_GUEST, None, "g", False, (vs_mxr,)),
        Row("execute-only in the G-stage, sstatus.MXR", load, EXECUTE_ONLY, 0, None, "g", False, (hs_mxr,)),
        Row("execute-only in the VS-stage", execute, EXECUTE_ONLY, rule=LOADS),
        Row("read-only in the VS-stage", execute, READ_ONLY, LOAD_PAGE, rule=LOADS),
        Row("read-only in the G-stage", execute, READ_ONLY, LOAD_GUEST, stages="g", rule=LOADS),
        Row("user page with SPVP 1", load, here + USER, LOAD_PAGE, rule=LOADS),
        Row("user page with SPVP 1, vsstatus.SUM", load, here + USER, setup=(sum_on,), rule=LOADS),
        Row("supervisor page with SPVP 0", load, here - USER, LOAD_PAGE, user=True, rule=LOADS),
    ]


_PLAIN = {"hlv.d a1, (a0)": "ld a1, 0(a0)", "hsv.d a1, (a0)": "sd a1, 0(a0)"}


def hlv(options: Options) -> Iterator[Case]:
    """Return HLV and HSV from HS, M, and U with hstatus.HU, and the same accesses by VS-mode, seen by M and by HS."""
    for row in _virtual_machine_accesses():
        spvp = csr("hstatus", bits(not row.user, rows.SPVP))
        for medeleg in (False, True):
            yield _case(row, row.code, "HS", medeleg, (spvp,), options)
            by_user = csr("hstatus", rows.HU | bits(not row.user, rows.SPVP))
            yield _case(row, row.code, "U", medeleg, (by_user,), options)
            if row.code in _PLAIN and not row.user:
                yield _case(row, _PLAIN[row.code], "VS", medeleg, (spvp,), options)
        yield _case(row, row.code, "M", False, (spvp,), options)


def mprv(options: Options) -> Iterator[Case]:
    """Return loads and stores of M-mode under MPRV, by MPV and MPP; no trap of M-mode is delegated."""
    for row in _virtual_machine_accesses():
        if row.code in _PLAIN:
            as_guest = (status("mstatus", rows.MPV | rows.MPP, rows.MPV | bits(not row.user, 1 << 11)),)
            for medeleg in (False, True):
                yield _case(row, _PLAIN[row.code], "M", medeleg, as_guest, options)
    here, hole, load = DATA + 0x120, HOLE, "ld a1, 0(a0)"
    as_host = (status("mstatus", rows.MPV | rows.MPP, 1 << 11),)
    as_machine = (status("mstatus", rows.MPV | rows.MPP, rows.MPV | rows.MPP),)
    for row, setup in (
        (Row("MPV 0, MPP 1", load, here, stages="vgs", rule=MPRV), as_host),
        (Row("MPV 0, MPP 1, hole of satp", load, hole, LOAD_PAGE, stages="s", rule=MPRV), as_host),
        (Row("MPV 1, MPP 3: the machine's own", load, here, stages="vgs", rule=MPRV), as_machine),
    ):
        yield _case(row, load, "M", False, setup, options)


def _case(row: Row, code: str, mode: str, medeleg: bool, setup: tuple[str, ...], options: Options) -> Case:
    on = [
        held(n, v) for c, n, v in (("v", "vsatp", SATP), ("g", "hgatp", HGATP), ("s", "satp", SATP)) if c in row.stages
    ]
    at = row.at + (USER if row.user else 0)
    store = code.startswith(("hsv", "sd"))
    value = f"li a1, {0 if not store else VALUE:#x}; li a0, {at:#x}"
    before = (f"li t0, {DATA + 0x120:#x}; li t1, {VALUE:#x}; sd t1, 0(t0)",)
    delegate = held("medeleg", bits(medeleg and row.cause > 0, 1 << row.cause))
    body = (
        value,
        *((f"li t0, {rows.MPRV}; csrs mstatus, t0",) if mode == "M" and code[0] != "h" else ()),
        "{c}_test:",
        code,
    )
    to = "nobody" if not row.cause else "HS" if medeleg and mode != "M" else "M"
    name = f"{code} from {mode}, {row.name}, medeleg {medeleg:d}"
    if row.user:
        name += ", as user"
    guest = mode != "M" or "s" not in row.stages
    checks = _fault(row, code, mode, to, at, guest, options) if row.cause else _result(row, code)
    return Case(name, mode, (*before, *setup, *row.setup, *on, delegate), body, checks)


def _result(row: Row, code: str) -> tuple[Check, ...]:
    low = 0xFFFF_FFFF if code.startswith("hlvx") else rows.ALL
    return (
        Check("taker (0 M, 1 HS, 2 VS, 3 nobody)", "taker", rows.TAKERS["nobody"], row.rule),
        Check("what was read", "a1", VALUE & low, row.rule),
    )


def _fault(row: Row, code: str, mode: str, to: str, at: int, guest: bool, options: Options) -> tuple[Check, ...]:
    m = to == "M"
    cause, epc, tval, second, tinst = (
        ("mcause", "mepc", "mtval", "mtval2", "mtinst") if m else ("scause", "sepc", "stval", "htval", "htinst")
    )
    zero = 0 if "htval" in options.zero else None
    gpa = at if row.gpa is None else row.gpa
    found = [
        Check("taker (0 M, 1 HS, 2 VS, 3 nobody)", "taker", rows.TAKERS[to], row.rule),
        Check(cause, cause, row.cause, row.rule),
        Check(epc, epc, "{c}_test", ENTRY),
        Check(tval, tval, at, ENTRY, other=0 if "xtval" in options.zero else None),
        Check(second, second, gpa >> 2 if row.cause in (LOAD_GUEST, STORE_GUEST) else 0, GUEST_FAULT, other=zero),
        Check(tinst, tinst, _tinst(row, code), TINST, other=zero if row.implicit else 0),
    ]
    if guest:
        found.append(Check(f"GVA xor ({tval} is not 0)", "mgva" if m else "hgva", 0, GVA))
    else:
        found.append(field("mstatus.GVA", "mstatus", rows.MGVA, 0, GVA))
    v, privilege = MODES[mode]
    if m:
        found.append(field("mstatus.MPV", "mstatus", rows.MPV, v, ENTRY))
        found.append(field("mstatus.MPP", "mstatus", rows.MPP, privilege, ENTRY))
    else:
        found.append(field("hstatus.SPV", "hstatus", rows.SPV, v, ENTRY))
        found.append(field("sstatus.SPP", "sstatus", rows.SPP, privilege, ENTRY))
    return tuple(found)


def _tinst(row: Row, code: str) -> int:
    if row.implicit:
        return IMPLICIT_READ
    word = encode_line(code)
    if code.startswith("h"):
        return word & ~_RS1
    return word & (0x01F0_707F if code.startswith("sd") else 0x7FFF)

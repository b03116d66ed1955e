"""Virtual against illegal instruction: what each mode may execute, by the bits that trap it and the counters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from trapline.pack import rows
from trapline.pack.rows import Case, Check, Options, csr, held, status

CAUSES = "H: Trap Cause Codes, when a virtual-instruction exception is raised"
VIRTUAL_MEMORY = "H: hstatus.VTVM; Machine: mstatus.TVM; H: TVM affects HS-mode alone"
WAIT = "H: hstatus.VTW; Machine: mstatus.TW"
RETURN = "H: hstatus.VTSR; Machine: mstatus.TSR; H: TSR affects HS-mode alone"
COUNTERS = "H: Hypervisor Counter-Enable (hcounteren); Machine: mcounteren"
HU = "H: hstatus.HU; Hypervisor Virtual-Machine Load and Store Instructions"
FLOATS = "H: Virtual Supervisor Status (vsstatus.FS); both levels of FS count"
FENCES = "H: Memory-Management Fence Instructions"

ILLEGAL, VIRTUAL, RUNS = 2, 22, 0
_MODES = ("HS", "U", "VS", "VU")


@dataclass(frozen=True, slots=True)
class Row:
    """An instruction under a set-up: what it does in HS, U, VS and VU."""

    code: str
    outcome: tuple[int | None, int | None, int | None, int | None]  # None: not tried
    rule: str = CAUSES
    setup: tuple[str, ...] = ()
    name: str = ""


def _mstatus(mask: int) -> tuple[str, ...]:
    return (status("mstatus", mask, mask),)


def _hstatus(mask: int) -> tuple[str, ...]:
    return (status("hstatus", mask, mask),)


_HYPERVISOR = "hstatus hedeleg hideleg hie hip hvip hcounteren henvcfg htval htinst hgatp htimedelta".split()
_VS = ("vsstatus", "vsie", "vstvec", "vsscratch", "vsepc", "vscause", "vstval", "vsip", "vsatp")
_SUPERVISOR = ("sstatus", "sie", "stvec", "scounteren", "senvcfg", "sscratch", "sepc", "scause", "stval", "sip")
_MACHINE = "mstatus misa medeleg mideleg mtvec mepc mcause mtval mtval2 mtinst mip mhartid".split()
# Any bit of a counter-enable register may be read-only zero: then there is no such case.
_M, _H, _S = "mcounteren", "hcounteren", "scounteren"
_ENABLED = (
    ((), (ILLEGAL, ILLEGAL, ILLEGAL, ILLEGAL), ""),
    ((_M, _H, _S), (RUNS, RUNS, RUNS, RUNS), "all enabled"),
    ((_M,), (RUNS, ILLEGAL, VIRTUAL, VIRTUAL), "mcounteren"),
    ((_M, _H), (RUNS, ILLEGAL, RUNS, VIRTUAL), "mcounteren, hcounteren"),
    ((_M, _S), (RUNS, RUNS, VIRTUAL, VIRTUAL), "mcounteren, scounteren"),
    ((_H, _S), (ILLEGAL, ILLEGAL, ILLEGAL, ILLEGAL), "hcounteren, scounteren"),
)

ROWS = [
    *(Row(f"csrr a1, {n}", (RUNS, ILLEGAL, VIRTUAL, VIRTUAL)) for n in (*_HYPERVISOR, *_VS)),
    *(Row(f"csrr a1, {n}", (RUNS, ILLEGAL, RUNS, VIRTUAL)) for n in (*_SUPERVISOR, "satp")),
    *(Row(f"csrr a1, {n}", (ILLEGAL,) * 4) for n in _MACHINE),
    Row("csrw vsscratch, zero", (RUNS, ILLEGAL, VIRTUAL, VIRTUAL)),
    Row("csrw hgeip, zero", (ILLEGAL, ILLEGAL, None, None), name="read-only"),
    Row(".insn 0x5c0025f3", (ILLEGAL,) * 4, name="CSR 0x5c0, custom and absent"),
    *(
        Row(f"csrr a1, {n}", (ILLEGAL, ILLEGAL, RUNS, VIRTUAL), VIRTUAL_MEMORY, _mstatus(rows.TVM), "TVM")
        for n in ("satp",)
    ),
    Row("csrr a1, hgatp", (ILLEGAL, ILLEGAL, VIRTUAL, VIRTUAL), VIRTUAL_MEMORY, _mstatus(rows.TVM), "TVM"),
    Row("csrr a1, vsatp", (RUNS, ILLEGAL, VIRTUAL, VIRTUAL), VIRTUAL_MEMORY, _mstatus(rows.TVM), "TVM"),
    Row("csrr a1, satp", (RUNS, ILLEGAL, VIRTUAL, VIRTUAL), VIRTUAL_MEMORY, _hstatus(rows.VTVM), "VTVM"),
    Row("sfence.vma", (RUNS, ILLEGAL, RUNS, VIRTUAL), FENCES),
    Row("sfence.vma", (ILLEGAL, ILLEGAL, RUNS, VIRTUAL), VIRTUAL_MEMORY, _mstatus(rows.TVM), "TVM"),
    Row("sfence.vma", (RUNS, ILLEGAL, VIRTUAL, VIRTUAL), VIRTUAL_MEMORY, _hstatus(rows.VTVM), "VTVM"),
    Row("hfence.vvma", (RUNS, ILLEGAL, VIRTUAL, VIRTUAL), FENCES),
    Row("hfence.gvma", (RUNS, ILLEGAL, VIRTUAL, VIRTUAL), FENCES),
    Row("hfence.gvma", (ILLEGAL, ILLEGAL, VIRTUAL, VIRTUAL), FENCES, _mstatus(rows.TVM), "TVM"),
    Row("hfence.vvma", (RUNS, ILLEGAL, VIRTUAL, VIRTUAL), FENCES, _mstatus(rows.TVM), "TVM"),
    Row("wfi", (None, None, None, VIRTUAL), WAIT),
    Row("wfi", (None, None, VIRTUAL, VIRTUAL), WAIT, _hstatus(rows.VTW), "VTW"),
    Row("wfi", (ILLEGAL, ILLEGAL, ILLEGAL, ILLEGAL), WAIT, _mstatus(rows.TW), "TW"),
    Row("wfi", (ILLEGAL, ILLEGAL, ILLEGAL, ILLEGAL), WAIT, (*_mstatus(rows.TW), *_hstatus(rows.VTW)), "TW and VTW"),
    Row("sret", (None, ILLEGAL, None, VIRTUAL), RETURN),
    Row("sret", (ILLEGAL, ILLEGAL, None, VIRTUAL), RETURN, _mstatus(rows.TSR), "TSR"),
    Row("sret", (None, ILLEGAL, VIRTUAL, VIRTUAL), RETURN, _hstatus(rows.VTSR), "VTSR"),
    Row("mret", (ILLEGAL,) * 4),
    Row("hlv.d a1, (sp)", (None, ILLEGAL, VIRTUAL, VIRTUAL), HU),
    Row("hsv.d a1, (sp)", (None, ILLEGAL, VIRTUAL, VIRTUAL), HU),
    Row("hlvx.wu a1, (sp)", (None, ILLEGAL, VIRTUAL, VIRTUAL), HU),
    Row("hlv.d a1, (sp)", (None, None, VIRTUAL, VIRTUAL), HU, _hstatus(rows.HU), "HU"),
]
_COUNTERS = [
    Row(f"csrr a1, {name}", outcome, COUNTERS, tuple(held(register, bit) for register in enabled), said)
    for enabled, outcome, said in _ENABLED
    for name, bit in (("cycle", 1), ("instret", 4))
]
_FLOATS = [
    Row(
        "fadd.d f0, f0, f0", (ILLEGAL, ILLEGAL, ILLEGAL, ILLEGAL), FLOATS, (csr("vsstatus", rows.FS),), "sstatus.FS off"
    ),
    Row(
        "fadd.d f0, f0, f0",
        (RUNS, RUNS, ILLEGAL, ILLEGAL),
        FLOATS,
        (*_mstatus(rows.FS), csr("vsstatus", 0)),
        "vsstatus.FS off",
    ),
    Row("fadd.d f0, f0, f0", (RUNS, RUNS, RUNS, RUNS), FLOATS, (*_mstatus(rows.FS), csr("vsstatus", rows.FS)), "FS on"),
]


def cases(options: Options) -> Iterator[Case]:
    """Return the cases; nothing is delegated, so that M-mode sees each exception."""
    letters, *names = options.isa.lower().removeprefix("rv64").split("_")
    floats = _FLOATS if set("gd") & set(letters) else ()
    counters = _COUNTERS if "zicntr" in names else ()
    for row in (*ROWS, *floats, *counters):
        for mode, outcome in zip(_MODES, row.outcome, strict=True):
            if outcome is not None:
                yield case(row, mode, outcome)


def case(row: Row, mode: str, outcome: int, before: tuple[str, ...] = ()) -> Case:
    """Return the case of an instruction in a mode, behind `before`: the cause that M-mode sees, or 0 if it runs."""
    checks = [Check("taker (0 M, 1 HS, 2 VS, 3 nobody)", "taker", rows.TAKERS["M" if outcome else "nobody"], row.rule)]
    if outcome:
        checks.append(Check("mcause", "mcause", outcome, row.rule))
        checks.append(Check("mepc", "mepc", "{c}_test", "H: Trap Entry"))
    name = f"{row.code}{', ' + row.name if row.name else ''} in {mode}"
    return Case(name, mode, row.setup, (*before, "{c}_test:", row.code), tuple(checks))

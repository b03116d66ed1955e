"""What the registers of delegation hold: bits that must be writable, and bits that must be zero or one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from trapline.pack import rows
from trapline.pack.rows import ALL, Case, Check, Options, csr
from trapline.privilege.fields import ATP_MODE_SHIFT, ATP_PPN, ATP_SV39, S_INTERRUPTS, VS_INTERRUPTS

HEDELEG_TABLE = "H: Hypervisor Trap Delegation Registers, bits of hedeleg that must be writable"
HIDELEG = "H: Hypervisor Trap Delegation Registers (hideleg)"
HSTATUS = "H: Hypervisor Status Register (hstatus)"
MSTATUS = "H: Machine Status Registers, MPV and GVA; Machine: mstatus"
INTERRUPTS = "H: Hypervisor Interrupt Registers (hvip, hip, hie)"
VS_VIEWS = "H: Virtual Supervisor Interrupt Registers (vsip and vsie)"
MEDELEG = "Machine: Trap Delegation Registers (medeleg)"
MIDELEG = "H: Machine Interrupt Delegation (mideleg)"
HGATP = "H: Hypervisor Guest Address Translation and Protection (hgatp)"
VSATP = "H: Virtual Supervisor Address Translation and Protection (vsatp)"
TRAP_VALUES = "H: htval, mtval2, htinst, mtinst must hold zero"
VS_REGISTERS = "H: Virtual Supervisor registers, as the supervisor's own"

_SV39X4 = ATP_SV39 << ATP_MODE_SHIFT


@dataclass(frozen=True, slots=True)
class Row:
    """After `value` is written to a register, what is under `mask` reads as `want`."""

    csr: str
    value: int
    mask: int
    want: int
    rule: str
    before: tuple[str, ...] = ()
    name: str = ""


def _both(name: str, writable: int, rule: str, before: tuple[str, ...] = ()) -> list[Row]:
    """Return rows for bits that must be writable: ones and zeros, after the opposite."""
    return [
        Row(name, writable, writable, writable, rule, (*before, csr(name, 0)), "set"),
        Row(name, 0, writable, 0, rule, (*before, csr(name, writable)), f"clear {writable:#x}"),
    ]


def _bits(*numbers: int) -> int:
    return sum(1 << n for n in numbers)


ROWS = [
    *_both("hedeleg", _bits(1, 2, 3, 4, 5, 6, 7, 8, 12, 13, 15), HEDELEG_TABLE),
    Row("hedeleg", _bits(19), _bits(19), _bits(19), HEDELEG_TABLE, name="hardware error"),
    Row("hedeleg", ALL, _bits(9, 10, 11, 20, 21, 22, 23), 0, HEDELEG_TABLE, name="ones"),
    *_both("hideleg", VS_INTERRUPTS, HIDELEG),
    Row("hideleg", ALL, 0x1FFF & ~VS_INTERRUPTS, 0, HIDELEG, name="ones"),
    Row("medeleg", ALL, _bits(11), 0, MEDELEG, name="ones"),
    Row("medeleg", 0, ALL, 0, MEDELEG, (csr("medeleg", ALL),), "zeros"),
    Row("mideleg", 0, VS_INTERRUPTS, VS_INTERRUPTS, MIDELEG, name="zeros, VS-level interrupts"),
    Row("mideleg", ALL, VS_INTERRUPTS, VS_INTERRUPTS, MIDELEG, name="ones, VS-level interrupts"),
    Row("mideleg", ALL, _bits(0, 4, 8), 0, MIDELEG, name="ones, interrupts of no mode"),
    *_both("hvip", VS_INTERRUPTS, INTERRUPTS),
    Row("hvip", ALL, 0x1FFF & ~VS_INTERRUPTS, 0, INTERRUPTS, name="ones"),
    *_both("hie", VS_INTERRUPTS, INTERRUPTS),
    Row("hie", ALL, 0xFFF & ~VS_INTERRUPTS, 0, INTERRUPTS, name="ones"),
    Row("hip", ALL, 0xFFF & ~_bits(2), 0, INTERRUPTS, name="ones: VSSIP alone is writable"),
    *_both("hip", _bits(2), INTERRUPTS),
    *_both("vsie", S_INTERRUPTS, VS_VIEWS, (csr("hideleg", VS_INTERRUPTS),)),
    Row("vsie", ALL, 0x1FFF, 0, VS_VIEWS, name="ones without hideleg"),
    Row("vsip", ALL, 0xFFF, 2, VS_VIEWS, (csr("hideleg", VS_INTERRUPTS),), "ones: SSIP alone is writable"),
    *_both("hstatus", rows.GVA | rows.SPV | rows.SPVP | rows.HU | rows.VTVM | rows.VTW | rows.VTSR, HSTATUS),
    Row(
        "hstatus",
        ALL,
        ~(_bits(5, 6, 7, 8, 9, 20, 21, 22) | 0x3F << 12 | 0x30000 << 32 | 3 << 32) & 0xFFFF_FFFF,
        0,
        HSTATUS,
        name="ones",
    ),
    *_both("mstatus", rows.MPV | rows.MGVA, MSTATUS),
    *_both("mstatus", rows.TVM | rows.TW | rows.TSR, MSTATUS),
    Row("mstatus", rows.MPP, rows.MPP, rows.MPP, MSTATUS, name="MPP 3"),
    Row("mstatus", 1 << 11, rows.MPP, 1 << 11, MSTATUS, (csr("mstatus", rows.MPP),), "MPP 1"),
    Row("mstatus", 0, rows.MPP, 0, MSTATUS, (csr("mstatus", rows.MPP),), "MPP 0"),
    Row("hgatp", _SV39X4 | 0x80003, 15 << 60 | ATP_PPN, _SV39X4 | 0x80000, HGATP, name="Sv39x4 keeps PPN[1:0] zero"),
    Row("hgatp", 0, ALL, 0, HGATP, (csr("hgatp", _SV39X4 | 0x80000),), "Bare"),
    Row("vsatp", _SV39X4 | 0x80003, 15 << 60 | ATP_PPN, _SV39X4 | 0x80003, VSATP, name="Sv39"),
    Row("vsatp", 0, ALL, 0, VSATP, (csr("vsatp", _SV39X4 | 0x80003),), "Bare"),
    *(Row(n, 0, ALL, 0, TRAP_VALUES, name="zero") for n in ("htval", "mtval2", "htinst", "mtinst")),
    *_both("vsscratch", ALL, VS_REGISTERS),
    Row("vsepc", 0x8000_0FFD, ALL, 0x8000_0FFC, VS_REGISTERS, name="bit 0 is zero"),
    Row("vstvec", 0x8000_1000, ALL, 0x8000_1000, VS_REGISTERS, name="direct"),
    *_both("vsstatus", rows.SIE | rows.SPIE | rows.SPP | _bits(18, 19), VS_REGISTERS),
    Row(
        "vsstatus",
        ALL,
        rows.MIE | rows.MPIE | rows.MPP | rows.MPRV | rows.TVM | rows.TW | rows.TSR,
        0,
        VS_REGISTERS,
        name="ones",
    ),
    *(Row("vscause", n, ALL, n, VS_REGISTERS, name=f"holds {n}") for n in (2, 8, 12, 13, 15)),
    *(Row("scause", n, ALL, n, "H: Trap Cause Codes", name=f"holds {n}") for n in (10, 20, 21, 22, 23)),
    *(Row("mcause", n, ALL, n, "H: Trap Cause Codes", name=f"holds {n}") for n in (10, 20, 21, 22, 23)),
]


# Software check exists with Zicfilp and Zicfiss alone.
_OF_ZICFI = Row("hedeleg", _bits(18), _bits(18), _bits(18), HEDELEG_TABLE, name="software check")


def cases(options: Options) -> Iterator[Case]:
    """Return a case for each row, all in M-mode."""
    names = set(options.isa.lower().split("_"))
    for row in (*ROWS, *((_OF_ZICFI,) if names & {"zicfilp", "zicfiss"} else ())):
        if row.name == "hardware error" and "hedeleg-19" in options.zero:
            continue
        check = Check(row.csr, "a1", row.want, row.rule, row.mask)
        yield Case(
            f"{row.csr} {row.name}, {row.value:#x} written", "M", row.before,
            (f"li a0, {row.value:#x}; csrw {row.csr}, a0; csrr a1, {row.csr}",), (check,),
        )  # fmt: skip

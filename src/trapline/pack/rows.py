"""The rows of the pack: what is set up, what runs, what must be seen, and the section that says so."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from trapline.privilege import fields as f

# Where a program starts: V and the privilege, as mstatus has MPV and MPP.
MODES = {"U": (0, 0), "HS": (0, 1), "M": (0, 3), "VU": (1, 0), "VS": (1, 1)}

# What the handler of M-mode notes at the trap that ends a case, in this order.
NOTED = (
    "taker mcause mepc mtval mtval2 mtinst mstatus scause sepc stval htval htinst sstatus hstatus "
    "vscause vsepc vstval vsstatus a1 hgva mgva watched"
).split()
TAKERS = {"M": 0, "HS": 1, "VS": 2, "nobody": 3}

SIE, MIE, SPIE, MPIE = f.MSTATUS_SIE, f.MSTATUS_MIE, f.MSTATUS_SPIE, f.MSTATUS_MPIE
SPP, MPP, FS, SUM, MXR = f.MSTATUS_SPP, f.MSTATUS_MPP, f.MSTATUS_FS, f.MSTATUS_SUM, f.MSTATUS_MXR
FIOM, ADUE, PBMTE, STCE = f.ENVCFG_FIOM, f.ENVCFG_ADUE, f.ENVCFG_PBMTE, f.ENVCFG_STCE
MPRV, TVM, TW, TSR = f.MSTATUS_MPRV, f.MSTATUS_TVM, f.MSTATUS_TW, f.MSTATUS_TSR
MGVA, MPV, MDT = f.MSTATUS_GVA, f.MSTATUS_MPV, 1 << 42
GVA, SPV, SPVP, HU = f.HSTATUS_GVA, f.HSTATUS_SPV, f.HSTATUS_SPVP, f.HSTATUS_HU
VTVM, VTW, VTSR = f.HSTATUS_VTVM, f.HSTATUS_VTW, f.HSTATUS_VTSR
QUIET = MDT | MPRV | TVM | TW | TSR | MPV | SIE | MIE | SPIE | MPIE | MPP | FS | SUM | MXR  # off before a case
ALL = (1 << 64) - 1
DEFAULT_ISA = "rv64gch_zicntr"


@dataclass(frozen=True, slots=True)
class Check:
    """A noted word under a mask must be `want`, or one of the others that the specification allows as well.

    A text is an expression of the case's labels: {c}_entry, {c}_test, {c}_after.
    """

    label: str
    noted: str
    want: int | str
    rule: str
    mask: int = ALL
    other: int | str | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """Code that runs in a mode after a set-up in M-mode; it goes on to an `ecall` if nothing traps before."""

    name: str
    mode: str
    setup: tuple[str, ...]
    code: tuple[str, ...]
    checks: tuple[Check, ...]
    window: int = 0  # added to physical addresses where the code runs
    end: str = "ecall"  # how the handlers of HS and VS, and the code's end, get to M-mode
    optional: bool = False  # nothing needs to trap: then nothing is checked


@dataclass(frozen=True, slots=True)
class Options:
    """What the core has, and what it ties to zero."""

    isa: str
    zero: frozenset[str] = frozenset()  # of xtval, htval, hedeleg-19


def field(label: str, noted: str, mask: int, want: int, rule: str) -> Check:
    """Return the check of a field: `want` counts from its lowest bit."""
    return Check(label, noted, want * (mask & -mask), rule, mask)


def csr(name: str, value: int | str) -> str:
    """Return the set-up that writes a CSR."""
    return f"{'li' if isinstance(value, int) else 'la'} t0, {value}; csrw {name}, t0"


def held(name: str, value: int) -> str:
    """Return the set-up that writes a CSR, and skips the case if the core does not hold these bits."""
    return f"li t0, {value}; csrw {name}, t0; csrr t1, {name}; and t1, t1, t0; bne t1, t0, {{c}}_skip"


def watch(address: int) -> str:
    """Return the set-up that has M-mode note the doubleword at an address when the case ends."""
    return f"li t0, {address:#x}; la t1, watched; sd t0, 0(t1)"


def status(name: str, mask: int, value: int) -> str:
    """Return the set-up that gives some bits of a CSR a value."""
    return f"li t0, {mask}; csrc {name}, t0; li t0, {value & mask}; csrs {name}, t0"


def bits(value: bool, mask: int) -> int:
    """Return the mask or nothing."""
    return mask if value else 0


def unique(cases: Iterable[Case]) -> tuple[Case, ...]:
    """Return the cases; AssertionError if two have one name."""
    found = tuple(cases)
    if len({c.name for c in found}) != len(found):
        raise AssertionError("two cases of one name")
    return found

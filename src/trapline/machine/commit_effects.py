"""What an instruction writes and touches, by its name: the data behind the commit log."""

from __future__ import annotations

from typing import Any

from trapline.isa.decode import Decoded
from trapline.privilege import csr_numbers as csr
from trapline.privilege.csr_numbers import CSR_NAMES

_LOADS = {"lb": 1, "lbu": 1, "lh": 2, "lhu": 2, "lw": 4, "lwu": 4, "ld": 8, "flh": 2, "flw": 4, "fld": 8}
_STORES = {"sb": 1, "sh": 2, "sw": 4, "sd": 8, "fsh": 2, "fsw": 4, "fsd": 8}
_SUFFIX = {"b": 1, "bu": 1, "h": 2, "hu": 2, "w": 4, "wu": 4, "d": 8}
CSR_WRITES = {"csrrw": "rs1", "csrrs": "rs1", "csrrc": "rs1", "csrrwi": "", "csrrsi": "", "csrrci": ""}
_FLOAT = frozenset({"F", "D", "Zfh", "Zfhmin"})

LOAD, STORE, AMO, CONDITIONAL, ZERO = "load", "store", "amo", "conditional", "zero"


def memory_effect(name: str) -> tuple[str, int] | None:
    """Return (kind, bytes) of an instruction's access."""
    if name in _LOADS:
        return LOAD, _LOADS[name]
    if name in _STORES:
        return STORE, _STORES[name]
    stem, _, suffix = name.partition(".")
    if stem in ("hlv", "hlvx", "lr"):
        return LOAD, _SUFFIX[suffix]
    if stem == "hsv":
        return STORE, _SUFFIX[suffix]
    if stem == "sc":
        return CONDITIONAL, _SUFFIX[suffix]
    if stem.startswith("amo"):
        return AMO, _SUFFIX[suffix]
    return (ZERO, 1) if name == "cbo.zero" else None


def is_float(decoded: Decoded) -> bool:
    """Return whether the instruction may raise floating-point flags."""
    return any(part in _FLOAT for word in decoded.instruction.extension.split("&") for part in word.split("|"))


def destination(decoded: Decoded) -> tuple[str, int] | None:
    """Return ("x" or "f", number) of the register that the instruction writes; x0 is none."""
    if "rd" not in decoded.operands or decoded.instruction.function is None:
        return None
    if "rd" not in decoded.instruction.operands:
        return None
    if "frd" in decoded.instruction.text:
        return "f", decoded.operands["rd"]
    number = decoded.operands["rd"]
    return ("x", number) if number else None


def csr_written(decoded: Decoded) -> int | None:
    """Return the CSR that a Zicsr instruction writes, or None if it only reads."""
    name = decoded.instruction.name
    if name not in CSR_WRITES:
        return None
    writes = name.startswith("csrrw") or decoded.operands["rs1"] != 0
    return decoded.operands["csr"] if writes else None


# Spike logs a view as the register behind it: the numbers, in the order of the log (ascending).
_MVIP = 0x309
LOGGED_AS = {
    csr.SSTATUS: (csr.MSTATUS,),
    csr.SIE: (csr.SIE, csr.MIE),
    csr.SIP: (_MVIP, csr.MIP),
    csr.MIP: (_MVIP, csr.MIP),
    csr.HIE: (csr.MIE,),
    csr.VSIE: (csr.MIE,),
    csr.HIP: (csr.MIP,),
    csr.VSIP: (csr.MIP,),
    csr.HVIP: (csr.MIP, csr.HVIP),
    csr.FCSR: (csr.FFLAGS, csr.FRM),
}
LOG_NAMES = {**CSR_NAMES, _MVIP: "mvip"}
MVIP = _MVIP
_PMP_LOCKED, _PMP_TOR = 0x80, 0x08


def write_is_refused(hart: Any, number: int) -> bool:
    """Return whether the register ignores every write, which Spike does not log."""
    if csr.MHPMCOUNTER3 <= number < csr.MHPMCOUNTER3 + 29:
        return True
    if number == csr.HGEIE:
        return bool(hart.geilen == 0)
    if csr.PMPADDR0 <= number < csr.PMPADDR0 + 64:
        return _address_locked(hart, number - csr.PMPADDR0)
    if csr.PMPCFG0 <= number < csr.PMPCFG0 + 16:
        return (number - csr.PMPCFG0) * 4 >= int(hart.pmp_count)
    return False


def _address_locked(hart: Any, entry: int) -> bool:
    if entry >= int(hart.pmp_count):
        return True
    following = int(hart.pmpcfg[entry + 1]) if entry + 1 < int(hart.pmp_count) else 0
    top_of_range = following & _PMP_LOCKED and following & 0x18 == _PMP_TOR
    return bool(int(hart.pmpcfg[entry]) & _PMP_LOCKED or top_of_range)

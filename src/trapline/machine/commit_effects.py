"""Which CSRs Spike logs for a write, and which writes it does not: the data behind the commit log."""

from __future__ import annotations

from trapline.lang.state import Hart
from trapline.lang.values import U64
from trapline.privilege import csr_numbers as csr
from trapline.privilege.csr_numbers import CSR_NAMES
from trapline.privilege.protection import locked_address

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


def write_is_refused(hart: Hart, number: int) -> bool:
    """Return whether the register ignores every write, which Spike does not log."""
    if csr.MHPMCOUNTER3 <= number < csr.MHPMCOUNTER3 + 29:
        return True
    if number == csr.HGEIE:
        return bool(hart.geilen == 0)
    if csr.PMPADDR0 <= number < csr.PMPADDR0 + 64:
        entry = number - csr.PMPADDR0
        return entry >= int(hart.pmp_count) or locked_address(hart, U64(entry))
    if csr.PMPCFG0 <= number < csr.PMPCFG0 + 16:
        return (number - csr.PMPCFG0) * 4 >= int(hart.pmp_count)
    return False

"""Which CSRs Spike logs for a write, and which writes it does not: the data behind the commit log."""

from __future__ import annotations

from trapline.lang.state import Hart
from trapline.privilege import csr_numbers as csr
from trapline.privilege.csr_numbers import CSR_NAMES

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


def write_is_refused(hart: Hart, number: int) -> bool:
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


def _address_locked(hart: Hart, entry: int) -> bool:
    if entry >= int(hart.pmp_count):
        return True
    following = int(hart.pmpcfg[entry + 1]) if entry + 1 < int(hart.pmp_count) else 0
    top_of_range = following & _PMP_LOCKED and following & 0x18 == _PMP_TOR
    return bool(int(hart.pmpcfg[entry]) & _PMP_LOCKED or top_of_range)

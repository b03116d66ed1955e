"""CSR addresses (Privileged spec, CSR listing). Bits 11:10 = 3 is read-only; bits 9:8 are the lowest privilege."""

from __future__ import annotations

FFLAGS, FRM, FCSR = 0x001, 0x002, 0x003

SSTATUS, SIE, STVEC, SCOUNTEREN = 0x100, 0x104, 0x105, 0x106
SENVCFG = 0x10A
SSTATEEN0 = 0x10C
SSCRATCH, SEPC, SCAUSE, STVAL, SIP = 0x140, 0x141, 0x142, 0x143, 0x144
STIMECMP = 0x14D
SISELECT, SIREG, STOPEI = 0x150, 0x151, 0x15C
SATP = 0x180

VSSTATUS, VSIE, VSTVEC = 0x200, 0x204, 0x205
VSSCRATCH, VSEPC, VSCAUSE, VSTVAL, VSIP = 0x240, 0x241, 0x242, 0x243, 0x244
VSTIMECMP = 0x24D
VSISELECT, VSIREG, VSTOPEI = 0x250, 0x251, 0x25C
VSATP = 0x280

MSTATUS, MISA, MEDELEG, MIDELEG, MIE, MTVEC, MCOUNTEREN = 0x300, 0x301, 0x302, 0x303, 0x304, 0x305, 0x306
MVIEN, MVIP = 0x308, 0x309
MENVCFG = 0x30A
MSTATEEN0 = 0x30C
MCOUNTINHIBIT = 0x320
MHPMEVENT3 = 0x323
MSCRATCH, MEPC, MCAUSE, MTVAL, MIP = 0x340, 0x341, 0x342, 0x343, 0x344
MTINST, MTVAL2 = 0x34A, 0x34B
MISELECT, MIREG, MTOPEI = 0x350, 0x351, 0x35C
PMPCFG0 = 0x3A0
PMPADDR0 = 0x3B0

SCONTEXT, HCONTEXT = 0x5A8, 0x6A8
TSELECT, TDATA1, TDATA2, TDATA3, TINFO, MCONTEXT = 0x7A0, 0x7A1, 0x7A2, 0x7A3, 0x7A4, 0x7A8

HSTATUS, HEDELEG, HIDELEG, HIE, HTIMEDELTA, HCOUNTEREN, HGEIE = 0x600, 0x602, 0x603, 0x604, 0x605, 0x606, 0x607
HVIEN, HVICTL = 0x608, 0x609
HENVCFG = 0x60A
HSTATEEN0 = 0x60C
HTVAL, HIP, HVIP, HTINST = 0x643, 0x644, 0x645, 0x64A
HVIPRIO1, HVIPRIO2 = 0x646, 0x647
HGATP = 0x680

MCYCLE, MINSTRET, MHPMCOUNTER3 = 0xB00, 0xB02, 0xB03
CYCLE, TIME, INSTRET, HPMCOUNTER3 = 0xC00, 0xC01, 0xC02, 0xC03
SCOUNTOVF = 0xDA0
STOPI, VSTOPI, MTOPI = 0xDB0, 0xEB0, 0xFB0
HGEIP = 0xE12
MVENDORID, MARCHID, MIMPID, MHARTID, MCONFIGPTR = 0xF11, 0xF12, 0xF13, 0xF14, 0xF15

# Bases of runs of registers, which CSR_BY_NAME lists one by one.
_RUNS = {
    "SSTATEEN0": ("sstateen", 0, 4, 1),
    "MSTATEEN0": ("mstateen", 0, 4, 1),
    "HSTATEEN0": ("hstateen", 0, 4, 1),
    "MHPMEVENT3": ("mhpmevent", 3, 29, 1),
    "PMPCFG0": ("pmpcfg", 0, 8, 2),
    "PMPADDR0": ("pmpaddr", 0, 64, 1),
    "MHPMCOUNTER3": ("mhpmcounter", 3, 29, 1),
    "HPMCOUNTER3": ("hpmcounter", 3, 29, 1),
}


def _by_name() -> dict[str, int]:
    names: dict[str, int] = {}
    for constant, address in list(globals().items()):
        if constant.isupper() and not constant.startswith("_"):
            if constant in _RUNS:
                stem, first, count, step = _RUNS[constant]
                names |= {f"{stem}{first + i * step}": address + i * step for i in range(count)}
            else:
                names[constant.lower()] = address
    return names


CSR_BY_NAME: dict[str, int] = _by_name()
CSR_NAMES: dict[int, str] = {address: name for name, address in CSR_BY_NAME.items()}

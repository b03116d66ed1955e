"""What instructions may require of the mode they run in: illegal or virtual instruction otherwise.

Virtual instruction is raised where the instruction would have run in HS-mode with TVM=TSR=0
(Hypervisor chapter, virtual-instruction exception). The order of the checks is behaviour.
"""

from __future__ import annotations

from trapline.lang.functions import IllegalInstruction, Trap, VirtualInstruction, cold, inline
from trapline.lang.state import Hart
from trapline.lang.values import U64
from trapline.privilege.causes import BREAKPOINT
from trapline.privilege.derived import derive_fp
from trapline.privilege.fields import (
    ENVCFG_CBCFE,
    ENVCFG_CBIE,
    ENVCFG_CBZE,
    HSTATUS_HU,
    HSTATUS_VTSR,
    HSTATUS_VTVM,
    HSTATUS_VTW,
    MSTATUS_FS,
    MSTATUS_TSR,
    MSTATUS_TVM,
    MSTATUS_TW,
)
from trapline.privilege.modes import MACHINE, SUPERVISOR, USER


@cold
def require_machine(hart: Hart) -> None:
    """Only M-mode: MRET."""
    if hart.priv != MACHINE:
        raise IllegalInstruction()


@cold
def require_sret(hart: Hart) -> None:
    """SRET: mstatus.TSR traps it in HS-mode, hstatus.VTSR in VS-mode."""
    if hart.virt != 0:
        if hart.priv == USER or hart.hstatus & HSTATUS_VTSR != 0:
            raise VirtualInstruction()
    elif hart.priv == USER or (hart.priv == SUPERVISOR and hart.mstatus & MSTATUS_TSR != 0):
        raise IllegalInstruction()


@cold
def require_wfi(hart: Hart) -> None:
    """WFI, WRS.NTO: TW traps every mode below M as illegal, then VU and VTW as virtual, then U."""
    if hart.priv != MACHINE and hart.mstatus & MSTATUS_TW != 0:
        raise IllegalInstruction()
    if hart.virt != 0:
        if hart.priv == USER or hart.hstatus & HSTATUS_VTW != 0:
            raise VirtualInstruction()
    elif hart.priv == USER and hart.has_s != 0:
        raise IllegalInstruction()


@cold
def require_wrs_nto(hart: Hart) -> None:
    """WRS.NTO (Zawrs): TW and VTW as for WFI, but U and VU may run it."""
    if hart.priv != MACHINE and hart.mstatus & MSTATUS_TW != 0:
        raise IllegalInstruction()
    if hart.virt != 0 and hart.hstatus & HSTATUS_VTW != 0:
        raise VirtualInstruction()


@cold
def require_sfence_vma(hart: Hart) -> None:
    """SFENCE.VMA and SINVAL.VMA: TVM traps them in HS-mode, VTVM in VS-mode."""
    if hart.virt != 0:
        if hart.priv == USER or hart.hstatus & HSTATUS_VTVM != 0:
            raise VirtualInstruction()
    elif hart.priv == USER or (hart.priv == SUPERVISOR and hart.mstatus & MSTATUS_TVM != 0):
        raise IllegalInstruction()


@cold
def require_sfence_inval(hart: Hart) -> None:
    """SFENCE.W.INVAL and SFENCE.INVAL.IR: any supervisor; TVM and VTVM do not matter (Svinval)."""
    if hart.priv == USER:
        if hart.virt != 0:
            raise VirtualInstruction()
        raise IllegalInstruction()


@cold
def require_hfence_vvma(hart: Hart) -> None:
    """HFENCE.VVMA and HINVAL.VVMA: M and HS; TVM does not matter."""
    if hart.virt != 0:
        raise VirtualInstruction()
    if hart.priv == USER:
        raise IllegalInstruction()


@cold
def require_hfence_gvma(hart: Hart) -> None:
    """HFENCE.GVMA and HINVAL.GVMA: M, and HS unless TVM."""
    if hart.virt != 0:
        raise VirtualInstruction()
    if hart.priv == USER or (hart.priv == SUPERVISOR and hart.mstatus & MSTATUS_TVM != 0):
        raise IllegalInstruction()


@cold
def require_hypervisor_access(hart: Hart) -> None:
    """HLV, HLVX, HSV: M, HS, and U when hstatus.HU."""
    if hart.virt != 0:
        raise VirtualInstruction()
    if hart.priv == USER and hart.hstatus & HSTATUS_HU == 0:
        raise IllegalInstruction()


@inline
def require_fp(hart: Hart) -> None:
    """Floating point: FS must be on in sstatus and, when V=1, in vsstatus; never a virtual instruction."""
    if hart.fp_ready == 0:
        raise IllegalInstruction()


@inline
def mark_fp_dirty(hart: Hart) -> None:
    """After a write of floating-point state: FS becomes Dirty in sstatus and, when V=1, in vsstatus."""
    if hart.fp_clean != 0:
        set_fp_dirty(hart)


@cold
def set_fp_dirty(hart: Hart) -> None:
    """The rare part of mark_fp_dirty."""
    hart.mstatus = hart.mstatus | MSTATUS_FS
    if hart.virt != 0:
        hart.vsstatus = hart.vsstatus | MSTATUS_FS
    derive_fp(hart, hart.virt)


@inline
def require_envcfg(hart: Hart, bits: U64) -> None:
    """The chain of xenvcfg for one field: menvcfg, then senvcfg in U, henvcfg and senvcfg when V=1."""
    if hart.priv == MACHINE:
        return
    if hart.menvcfg & bits == 0:
        raise IllegalInstruction()
    if hart.virt != 0:
        if hart.henvcfg & bits == 0 or (hart.priv == USER and hart.senvcfg & bits == 0):
            raise VirtualInstruction()
    elif hart.priv == USER and hart.has_s != 0 and hart.senvcfg & bits == 0:
        raise IllegalInstruction()


@cold
def require_cbo_inval(hart: Hart) -> None:
    """CBO.INVAL (Zicbom): xenvcfg.CBIE."""
    require_envcfg(hart, U64(ENVCFG_CBIE))


@cold
def require_cbo_clean(hart: Hart) -> None:
    """CBO.CLEAN and CBO.FLUSH (Zicbom): xenvcfg.CBCFE."""
    require_envcfg(hart, U64(ENVCFG_CBCFE))


@cold
def require_cbo_zero(hart: Hart) -> None:
    """CBO.ZERO (Zicboz): xenvcfg.CBZE."""
    require_envcfg(hart, U64(ENVCFG_CBZE))


@inline
def ecall_cause(hart: Hart) -> U64:
    """Exception code of ECALL: U and VU 8, HS 9, VS 10, M 11."""
    if hart.priv == USER:
        return U64(8)
    return 8 + hart.priv + hart.virt


@cold
def ebreak(hart: Hart) -> None:
    """EBREAK: a breakpoint whose tval is the instruction's own (virtual) address."""
    raise Trap(BREAKPOINT, hart.pc, 0, 0, hart.virt)

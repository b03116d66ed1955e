"""Reading and writing the status, delegation, floating-point and trap-handler CSRs."""

from __future__ import annotations

from trapline.lang.functions import cold, inline
from trapline.lang.state import Hart
from trapline.lang.values import U64
from trapline.privilege.fields import (
    HSTATUS_VGEIN,
    HSTATUS_VGEIN_SHIFT,
    LOCAL_INTERRUPTS,
    MSTATUS_FS,
    MSTATUS_MPP,
    MSTATUS_MPP_SHIFT,
    MSTATUS_SD,
    SSTATUS_VISIBLE,
    SSTATUS_WRITABLE,
)
from trapline.privilege.guards import mark_fp_dirty


@inline
def with_sd(status: U64) -> U64:
    """SD summarizes FS; VS and XS do not exist."""
    return status | MSTATUS_SD if status & MSTATUS_FS == MSTATUS_FS else status


@cold
def read_mstatus(hart: Hart) -> U64:
    return with_sd(hart.mstatus)


@inline
def new_mstatus(hart: Hart, value: U64) -> U64:
    """mstatus after a write: MPP is WARL, a mode that does not exist becomes U."""
    new = value
    mpp = (value >> MSTATUS_MPP_SHIFT) & 3
    if mpp == 2 or (mpp == 1 and hart.has_s == 0):
        new = value & ~MSTATUS_MPP
    return (hart.mstatus & ~hart.mstatus_mask) | (new & hart.mstatus_mask)


@cold
def read_sstatus(hart: Hart) -> U64:
    """sstatus: the supervisor's part of mstatus."""
    return with_sd(hart.mstatus & SSTATUS_VISIBLE)


@inline
def new_sstatus(hart: Hart, value: U64) -> U64:
    """mstatus after a write of sstatus."""
    mask = hart.mstatus_mask & SSTATUS_WRITABLE
    return (hart.mstatus & ~mask) | (value & mask)


@cold
def read_vsstatus(hart: Hart) -> U64:
    return with_sd(hart.vsstatus)


@inline
def new_vsstatus(hart: Hart, value: U64) -> U64:
    """vsstatus after a write: the same bits as sstatus."""
    mask = hart.mstatus_mask & SSTATUS_WRITABLE
    return (hart.vsstatus & ~mask) | (value & mask)


@inline
def new_hstatus(hart: Hart, value: U64) -> U64:
    """hstatus after a write: VGEIN beyond GEILEN leaves VGEIN as it was."""
    mask = hart.hstatus_mask
    if (value >> HSTATUS_VGEIN_SHIFT) & 63 > hart.geilen:
        mask = mask & ~HSTATUS_VGEIN
    return (hart.hstatus & ~mask) | (value & mask)


@inline
def legal_epc(hart: Hart, epc: U64) -> U64:
    """xepc as it reads: IALIGN=32 hides bit 1."""
    return epc if hart.has_c != 0 else epc & ~2


@cold
def read_mepc(hart: Hart) -> U64:
    return legal_epc(hart, hart.mepc)


@cold
def read_sepc(hart: Hart) -> U64:
    return legal_epc(hart, hart.sepc)


@cold
def read_vsepc(hart: Hart) -> U64:
    return legal_epc(hart, hart.vsepc)


@cold
def read_fcsr(hart: Hart) -> U64:
    """fcsr: frm above fflags."""
    return hart.fflags | (hart.frm << 5)


@cold
def write_fcsr(hart: Hart, value: U64) -> None:
    hart.fflags = value & 31
    hart.frm = (value >> 5) & 7
    mark_fp_dirty(hart)


@cold
def write_fflags(hart: Hart, value: U64) -> None:
    hart.fflags = value & 31
    mark_fp_dirty(hart)


@cold
def write_frm(hart: Hart, value: U64) -> None:
    """frm: reserved rounding modes are kept; instructions that use them are illegal."""
    hart.frm = value & 7
    mark_fp_dirty(hart)


@cold
def write_mideleg(hart: Hart, value: U64) -> None:
    """mideleg: the VS-level interrupts and SGEI are read-only one with H."""
    hart.mideleg = (value & hart.mideleg_mask) | hart.mideleg_ones
    if hart.hideleg & LOCAL_INTERRUPTS != 0:
        hart.hideleg = hart.hideleg & (hart.mideleg | hart.mvien)

"""Reading and writing the status, delegation, floating-point and trap-handler CSRs."""

from __future__ import annotations

from trapline.lang.control import give_up_unless
from trapline.lang.functions import cold, inline
from trapline.lang.state import Hart
from trapline.lang.values import U64
from trapline.privilege.derived import settled, update_derived
from trapline.privilege.fields import (
    HSTATUS_VGEIN,
    HSTATUS_VGEIN_SHIFT,
    LOCAL_INTERRUPTS,
    MSTATUS_FS,
    MSTATUS_MPP,
    MSTATUS_MPP_SHIFT,
    MSTATUS_MPRV,
    MSTATUS_MXR,
    MSTATUS_SD,
    MSTATUS_SUM,
    SSTATUS_VISIBLE,
    SSTATUS_WRITABLE,
)
from trapline.privilege.guards import mark_fp_dirty

# Of mstatus and vsstatus: what more than the selection of an interrupt follows from.
DERIVED_FROM = MSTATUS_FS | MSTATUS_MXR | MSTATUS_SUM


@inline
def with_sd(status: U64) -> U64:
    """SD summarizes FS; VS and XS do not exist."""
    return status | MSTATUS_SD if status & MSTATUS_FS == MSTATUS_FS else status


@cold
def read_mstatus(hart: Hart) -> U64:
    """mstatus."""
    return with_sd(hart.mstatus)


@cold
def write_mstatus(hart: Hart, value: U64) -> None:
    """mstatus: MPP is WARL, a mode that does not exist becomes U."""
    new = value
    mpp = (value >> MSTATUS_MPP_SHIFT) & 3
    if mpp == 2 or (mpp == 1 and hart.has_s == 0):
        new = value & ~MSTATUS_MPP
    new = (hart.mstatus & ~hart.mstatus_mask) | (new & hart.mstatus_mask)
    calm = settled(hart) and (hart.mstatus ^ new) & (DERIVED_FROM | MSTATUS_MPRV) == 0
    give_up_unless(calm)
    hart.mstatus = new
    if not calm:
        update_derived(hart)


@cold
def read_sstatus(hart: Hart) -> U64:
    """sstatus: the supervisor's part of mstatus."""
    return with_sd(hart.mstatus & SSTATUS_VISIBLE)


@inline
def set_sstatus(hart: Hart, value: U64) -> None:
    """sstatus, for a caller that recomputes what is derived afterwards."""
    mask = hart.mstatus_mask & SSTATUS_WRITABLE
    hart.mstatus = (hart.mstatus & ~mask) | (value & mask)


@cold
def write_sstatus(hart: Hart, value: U64) -> None:
    """sstatus."""
    calm = settled(hart) and (hart.mstatus ^ value) & DERIVED_FROM == 0
    give_up_unless(calm)
    set_sstatus(hart, value)
    if not calm:
        update_derived(hart)


@cold
def read_vsstatus(hart: Hart) -> U64:
    """vsstatus."""
    return with_sd(hart.vsstatus)


@inline
def set_vsstatus(hart: Hart, value: U64) -> None:
    """vsstatus, for a caller that recomputes what is derived afterwards."""
    mask = hart.mstatus_mask & SSTATUS_WRITABLE
    hart.vsstatus = (hart.vsstatus & ~mask) | (value & mask)


@cold
def write_vsstatus(hart: Hart, value: U64) -> None:
    """vsstatus: the same bits as sstatus."""
    calm = settled(hart) and (hart.vsstatus ^ value) & DERIVED_FROM == 0
    give_up_unless(calm)
    set_vsstatus(hart, value)
    if not calm:
        update_derived(hart)


@inline
def set_hstatus(hart: Hart, value: U64) -> None:
    """hstatus, for a caller that recomputes what is derived afterwards."""
    mask = hart.hstatus_mask
    if (value >> HSTATUS_VGEIN_SHIFT) & 63 > hart.geilen:
        mask = mask & ~HSTATUS_VGEIN
    hart.hstatus = (hart.hstatus & ~mask) | (value & mask)


@cold
def write_hstatus(hart: Hart, value: U64) -> None:
    """hstatus: VGEIN beyond GEILEN leaves VGEIN as it was."""
    calm = settled(hart) and (hart.hstatus ^ value) & HSTATUS_VGEIN == 0
    give_up_unless(calm)
    set_hstatus(hart, value)
    if not calm:
        update_derived(hart)


@inline
def legal_epc(hart: Hart, epc: U64) -> U64:
    """xepc as it reads: IALIGN=32 hides bit 1."""
    return epc if hart.has_c != 0 else epc & ~2


@cold
def read_mepc(hart: Hart) -> U64:
    """mepc."""
    return legal_epc(hart, hart.mepc)


@cold
def read_sepc(hart: Hart) -> U64:
    """sepc."""
    return legal_epc(hart, hart.sepc)


@cold
def read_vsepc(hart: Hart) -> U64:
    """vsepc."""
    return legal_epc(hart, hart.vsepc)


@cold
def read_fcsr(hart: Hart) -> U64:
    """fcsr: frm above fflags."""
    return hart.fflags | (hart.frm << 5)


@cold
def write_fcsr(hart: Hart, value: U64) -> None:
    """fcsr."""
    hart.fflags = value & 31
    hart.frm = (value >> 5) & 7
    mark_fp_dirty(hart)


@cold
def write_fflags(hart: Hart, value: U64) -> None:
    """fflags."""
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
    update_derived(hart)

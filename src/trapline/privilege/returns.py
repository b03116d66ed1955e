"""Trap returns (Privileged spec, MRET and SRET; Hypervisor chapter, trap return).

The guards stand apart (privilege.guards), so hosted software may return from any mode.
"""

from __future__ import annotations

from trapline.lang.control import jump
from trapline.lang.functions import inline
from trapline.lang.state import Hart
from trapline.lang.values import U64
from trapline.privilege.fields import (
    HSTATUS_SPV,
    MSTATUS_MIE,
    MSTATUS_MPIE,
    MSTATUS_MPP,
    MSTATUS_MPP_SHIFT,
    MSTATUS_MPRV,
    MSTATUS_MPV,
    MSTATUS_SIE,
    MSTATUS_SPIE,
    MSTATUS_SPP,
)
from trapline.privilege.mode_change import trap_return
from trapline.privilege.modes import MACHINE, SUPERVISOR, change_mode


@inline
def return_address(hart: Hart, epc: U64) -> U64:
    """xepc as an instruction address: bit 1 does not count without C."""
    return epc & ~1 if hart.has_c != 0 else epc & ~3


@inline
def restore_supervisor(status: U64) -> U64:
    """sstatus or vsstatus after SRET: SIE from SPIE, SPIE 1, SPP U."""
    new = (status & ~(MSTATUS_SIE | MSTATUS_SPP)) | MSTATUS_SPIE
    if status & MSTATUS_SPIE != 0:
        new = new | MSTATUS_SIE
    return new


@trap_return
def mret(hart: Hart) -> U64:
    """Return from M-mode to MPP and MPV. A hosted M-mode retires no instruction here."""
    old = hart.mstatus
    mpp = (old >> MSTATUS_MPP_SHIFT) & 3
    virt = U64(1) if mpp != MACHINE and old & MSTATUS_MPV != 0 else U64(0)
    new = (old & ~(MSTATUS_MIE | MSTATUS_MPP | MSTATUS_MPV)) | MSTATUS_MPIE
    if old & MSTATUS_MPIE != 0:
        new = new | MSTATUS_MIE
    if mpp != MACHINE:
        new = new & ~MSTATUS_MPRV
    hart.mstatus = new
    jump(hart, return_address(hart, hart.mepc))
    change_mode(hart, mpp, virt, 1 - hart.hosted_m)
    return mpp | (virt << 2)


@trap_return
def sret(hart: Hart) -> U64:
    """Return to SPP: at V=1 from vsstatus alone, at V=0 (M-mode too) from sstatus and hstatus.SPV."""
    if hart.virt != 0:
        old = hart.vsstatus
        target = previous_privilege(old)
        hart.vsstatus = restore_supervisor(old)
        jump(hart, return_address(hart, hart.vsepc))
        change_mode(hart, target, U64(1), U64(1))
        return target | (U64(1) << 2)
    status = hart.mstatus
    target = previous_privilege(status)
    virt = U64(1) if hart.hstatus & HSTATUS_SPV != 0 else U64(0)
    hart.mstatus = restore_supervisor(status) & ~MSTATUS_MPRV
    hart.hstatus = hart.hstatus & ~HSTATUS_SPV
    jump(hart, return_address(hart, hart.sepc))
    hosted = hart.hosted_hs if hart.priv == SUPERVISOR else hart.hosted_m
    change_mode(hart, target, virt, 1 - hosted)
    return target | (virt << 2)


@inline
def previous_privilege(status: U64) -> U64:
    """The privilege that SPP names: 0 or 1."""
    return U64(1) if status & MSTATUS_SPP != 0 else U64(0)

"""Trap returns (Privileged spec, MRET and SRET; Hypervisor chapter, trap return).

The guards stand apart (privilege.guards), so hosted software may return from any mode.
"""

from __future__ import annotations

from typing import Any

from trapline.lang.control import ATTENTION_RESUME
from trapline.lang.functions import cold, inline
from trapline.lang.values import U64
from trapline.privilege.derived import update_derived, update_level
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
from trapline.privilege.modes import MACHINE, SUPERVISOR, TO_HS, TO_M, TO_VS, change_mode
from trapline.privilege.observe import observe_return


@inline
def return_address(hart: Any, epc: U64) -> U64:
    """xepc as an instruction address: bit 1 does not count without C."""
    return epc & ~1 if hart.has_c != 0 else epc & ~3


@inline
def restore_supervisor(status: U64) -> U64:
    """sstatus or vsstatus after SRET: SIE from SPIE, SPIE 1, SPP U."""
    new = (status & ~(MSTATUS_SIE | MSTATUS_SPP)) | MSTATUS_SPIE
    if status & MSTATUS_SPIE != 0:
        new = new | MSTATUS_SIE
    return new


@cold
def mret(hart: Any) -> None:
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
    hart.next_pc = return_address(hart, hart.mepc)
    change_mode(hart, mpp, virt, 1 - hart.hosted_m)
    if hart.observe_base != 0:
        observe_return(hart, U64(TO_M))
    hart.attention = hart.attention | ATTENTION_RESUME
    update_derived(hart)


@cold
def sret(hart: Any) -> None:
    """Return to SPP: at V=1 from vsstatus alone, at V=0 (M-mode too) from sstatus and hstatus.SPV."""
    crosses = U64(0)
    if hart.virt != 0:
        old = hart.vsstatus
        spp = previous_privilege(old)
        hart.vsstatus = restore_supervisor(old)
        hart.next_pc = return_address(hart, hart.vsepc)
        change_mode(hart, spp, U64(1), U64(1))
        if hart.observe_base != 0:
            observe_return(hart, U64(TO_VS))
    else:
        status = hart.mstatus
        target = previous_privilege(status)
        virt = U64(1) if hart.hstatus & HSTATUS_SPV != 0 else U64(0)
        crosses = virt | (status & MSTATUS_MPRV) | (hart.priv ^ SUPERVISOR)
        hart.mstatus = restore_supervisor(status) & ~MSTATUS_MPRV
        hart.hstatus = hart.hstatus & ~HSTATUS_SPV
        hart.next_pc = return_address(hart, hart.sepc)
        level = U64(TO_HS) if hart.priv == SUPERVISOR else U64(TO_M)
        hosted = hart.hosted_hs if hart.priv == SUPERVISOR else hart.hosted_m
        change_mode(hart, target, virt, 1 - hosted)
        if hart.observe_base != 0:
            observe_return(hart, level)
    hart.attention = hart.attention | ATTENTION_RESUME
    if crosses != 0:
        update_derived(hart)
    else:
        update_level(hart)


@inline
def previous_privilege(status: U64) -> U64:
    """The privilege that SPP names: 0 or 1."""
    return U64(1) if status & MSTATUS_SPP != 0 else U64(0)

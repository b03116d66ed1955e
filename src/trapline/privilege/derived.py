"""Everything in the hart's state that follows from CSRs and mode, recomputed by one function.

Every CSR write, trap entry and return that matters calls update_derived, so these words are never
stale when an instruction starts (a test compares them with a recomputation).
"""

from __future__ import annotations

from typing import Any

from trapline.lang.control import ATTENTION_RESUME
from trapline.lang.functions import cold, inline
from trapline.lang.values import U64
from trapline.privilege.fields import (
    ENVCFG_ADUE,
    ENVCFG_PBMTE,
    MSTATUS_FS,
    MSTATUS_MIE,
    MSTATUS_MPP_SHIFT,
    MSTATUS_MPRV,
    MSTATUS_MPV,
    MSTATUS_MXR,
    MSTATUS_SIE,
    MSTATUS_SUM,
)
from trapline.privilege.interrupts import highest, pending, update_timers
from trapline.privilege.modes import MACHINE, SUPERVISOR, TO_HS, TO_M, TO_VS, USER
from trapline.privilege.priorities import guest_top, machine_top, supervisor_top

LEVEL_BITS = 0x3F  # of ctx_key[0]: the mode, and that of loads and stores


@inline
def derive_fp(hart: Any) -> None:
    """FS of sstatus, and of vsstatus when V=1: both must be on, both must become dirty."""
    outer = hart.mstatus & MSTATUS_FS
    inner = outer
    if hart.virt != 0:
        inner = hart.vsstatus & MSTATUS_FS
    hart.fp_ready = U64(1) if outer != 0 and inner != 0 else U64(0)
    hart.fp_clean = U64(0) if outer & inner == MSTATUS_FS else U64(1)


@inline
def derive_data_mode(hart: Any) -> None:
    """MPRV: loads and stores at MPP and MPV; MPV does not matter when MPP is M."""
    mstatus = hart.mstatus
    if mstatus & MSTATUS_MPRV == 0:
        hart.data_priv = hart.priv
        hart.data_virt = hart.virt
    else:
        mpp = (mstatus >> MSTATUS_MPP_SHIFT) & 3
        hart.data_priv = mpp
        hart.data_virt = U64(1) if mpp != MACHINE and mstatus & MSTATUS_MPV != 0 else U64(0)


@inline
def derive_interrupt(hart: Any) -> None:
    """The interrupt to take before the next instruction, and its level: M before HS before VS."""
    if hart.time_offset != hart.timer_offset or hart.time_ratio != hart.timer_ratio:
        update_timers(hart)
    active = pending(hart) & hart.mie
    hart.irq_active = active
    if active == 0 and hart.virtual_used == 0:
        hart.irq_cause = 0
    elif hart.has_ssaia != 0:
        select_advanced(hart)
    else:
        select_interrupt(hart, active)


@cold
def select_interrupt(hart: Any, active: U64) -> None:
    """Pick among interrupts that are pending and enabled in mie (Hypervisor chapter, interrupt targets)."""
    priv = hart.priv
    hart.irq_cause = 0
    to_m = active & ~hart.mideleg
    to_hs = active & hart.mideleg & ~hart.hideleg
    to_vs = active & hart.mideleg & hart.hideleg
    if to_m != 0 and (priv != MACHINE or hart.mstatus & MSTATUS_MIE != 0):
        hart.irq_cause = highest(to_m) + 1
        hart.irq_level = TO_M
    elif priv == MACHINE:
        return
    elif to_hs != 0 and (hart.virt != 0 or priv == USER or hart.mstatus & MSTATUS_SIE != 0):
        hart.irq_cause = highest(to_hs) + 1
        hart.irq_level = TO_HS
    elif to_vs != 0 and hart.virt != 0 and (priv == USER or hart.vsstatus & MSTATUS_SIE != 0):
        hart.irq_cause = highest(to_vs) + 1
        hart.irq_level = TO_VS
    if hart.irq_cause != 0:
        hart.attention = hart.attention | ATTENTION_RESUME


@cold
def select_advanced(hart: Any) -> None:
    """Pick what mtopi, stopi or vstopi name (AIA spec, interrupt traps); VS-level codes stand one up, as in mip."""
    priv = hart.priv
    top = U64(0)
    level = U64(TO_M)
    if priv != MACHINE or hart.mstatus & MSTATUS_MIE != 0:
        top = machine_top(hart)
    if top == 0 and priv != MACHINE:
        level = U64(TO_HS)
        if hart.virt != 0 or priv == USER or hart.mstatus & MSTATUS_SIE != 0:
            top = supervisor_top(hart)
        if top == 0 and hart.virt != 0 and (priv == USER or hart.vsstatus & MSTATUS_SIE != 0):
            level = U64(TO_VS)
            top = guest_top(hart)
    if top == 0:
        hart.irq_cause = 0
        return
    code = top >> 16
    if level == TO_VS and (code == 1 or code == 5 or code == 9):
        code = code + 1
    hart.irq_cause = code + 1
    hart.irq_level = level
    hart.attention = hart.attention | ATTENTION_RESUME


@inline
def derive_context(hart: Any) -> None:
    """ctx_key: all that changes a translation or its permissions, and nothing that does not."""
    mode = hart.priv | (hart.virt << 2) | (hart.data_priv << 3) | (hart.data_virt << 5)
    satp = U64(0)
    vsatp = U64(0)
    hgatp = U64(0)
    if hart.virt | hart.data_virt != 0:
        mode = mode | (hart.mstatus & MSTATUS_MXR) | ((hart.vsstatus & (MSTATUS_MXR | MSTATUS_SUM)) << 8)
        mode = mode | (hart.menvcfg & (ENVCFG_ADUE | ENVCFG_PBMTE))
        mode = mode | ((hart.henvcfg & (ENVCFG_ADUE | ENVCFG_PBMTE)) >> 8)
        vsatp = hart.vsatp
        hgatp = hart.hgatp
    if (hart.virt == 0 and hart.priv <= SUPERVISOR) or (hart.data_virt == 0 and hart.data_priv <= SUPERVISOR):
        mode = mode | (hart.mstatus & (MSTATUS_MXR | MSTATUS_SUM)) | (hart.menvcfg & (ENVCFG_ADUE | ENVCFG_PBMTE))
        satp = hart.satp
    if hart.ctx_key[0] != mode or hart.ctx_key[1] != satp or hart.ctx_key[2] != vsatp or hart.ctx_key[3] != hgatp:
        hart.ctx_key[0] = mode
        hart.ctx_key[1] = satp
        hart.ctx_key[2] = vsatp
        hart.ctx_key[3] = hgatp
        hart.attention = hart.attention | ATTENTION_RESUME


@cold
def update_derived(hart: Any) -> None:
    """Recompute what is derived; ask for attention when the context changed or an interrupt is due."""
    derive_fp(hart)
    derive_data_mode(hart)
    derive_interrupt(hart)
    derive_context(hart)


@cold
def update_level(hart: Any) -> None:
    """The same after a trap or a return between U and S that leaves V alone: the levels' FS, the registers of
    translation and what is pending and enabled are as they were. Where one of these may matter, all is recomputed.
    """
    now = hart.instret
    quiet = hart.irq_active | hart.virtual_used | (hart.mstatus & MSTATUS_MPRV)
    quiet = quiet | (hart.time_offset ^ hart.timer_offset) | (hart.time_ratio ^ hart.timer_ratio)
    if quiet != 0 or now >= hart.stimer_at or now >= hart.vstimer_at:
        update_derived(hart)
        return
    priv = hart.priv
    virt = hart.virt
    hart.data_priv = priv
    hart.data_virt = virt
    hart.irq_cause = 0
    hart.ctx_key[0] = (hart.ctx_key[0] & ~LEVEL_BITS) | priv | (virt << 2) | (priv << 3) | (virt << 5)

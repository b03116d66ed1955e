"""Everything in the hart's state that follows from CSRs and mode, recomputed by one function.

Every CSR write, trap entry and return that matters calls update_derived, so these words are never
stale when an instruction starts (a test compares them with a recomputation).
"""

from __future__ import annotations

from trapline.lang.control import ATTENTION_RESUME
from trapline.lang.functions import cold, inline
from trapline.lang.state import Hart
from trapline.lang.values import U64, mulhu
from trapline.privilege.fields import (
    ALL_ONES,
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
from trapline.privilege.hpm import settle_counters
from trapline.privilege.interrupts import highest, pending, timer_ahead, timers_pending, update_timers
from trapline.privilege.modes import MACHINE, SUPERVISOR, TO_HS, TO_M, TO_VS, USER
from trapline.privilege.priorities import guest_top, machine_top, supervisor_top

# ctx_now: the mode of loads and stores, SUM where they are made at that level, and MPRV.
CONTEXT_SUM, CONTEXT_MPRV = 1 << 3, 1 << 4


@inline
def derive_fp(hart: Hart, virt: U64) -> None:
    """FS of sstatus, and of vsstatus when V=1: both must be on, both must become dirty."""
    outer = hart.mstatus & MSTATUS_FS
    inner = outer
    if virt != 0:
        inner = hart.vsstatus & MSTATUS_FS
    hart.fp_ready = U64(1) if outer != 0 and inner != 0 else U64(0)
    hart.fp_clean = U64(0) if outer & inner == MSTATUS_FS else U64(1)


@inline
def derive_data_mode(hart: Hart) -> None:
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
def derive_interrupt(hart: Hart) -> None:
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
def select_interrupt(hart: Hart, active: U64) -> None:
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
def select_advanced(hart: Hart) -> None:
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


@cold
def forget_contexts(hart: Hart) -> None:
    """What all contexts depend on has changed: none of them has a set of translations any more."""
    for i in range(CONTEXT_MPRV):
        hart.ctx_set[i] = 0
    hart.attention = hart.attention | ATTENTION_RESUME


@inline
def derive_context(hart: Hart) -> None:
    """ctx_base and ctx_now: together all that changes a translation or its permissions, beside the mode itself."""
    flags = (hart.mstatus & MSTATUS_MXR) | ((hart.vsstatus & MSTATUS_MXR) << 8)
    flags = flags | (hart.menvcfg & (ENVCFG_ADUE | ENVCFG_PBMTE)) | ((hart.henvcfg & (ENVCFG_ADUE | ENVCFG_PBMTE)) >> 8)
    changed = (hart.ctx_base[0] ^ flags) | (hart.ctx_base[1] ^ hart.satp)
    changed = changed | (hart.ctx_base[2] ^ hart.vsatp) | (hart.ctx_base[3] ^ hart.hgatp)
    if changed != 0:
        hart.ctx_base[0] = flags
        hart.ctx_base[1] = hart.satp
        hart.ctx_base[2] = hart.vsatp
        hart.ctx_base[3] = hart.hgatp
        forget_contexts(hart)
    now = context_number(hart, hart.data_priv, hart.data_virt)
    if hart.mstatus & MSTATUS_MPRV != 0:
        now = now | CONTEXT_MPRV
    if hart.ctx_now != now:
        hart.ctx_now = now
        hart.attention = hart.attention | ATTENTION_RESUME


@inline
def context_number(hart: Hart, priv: U64, virt: U64) -> U64:
    """ctx_now for loads and stores in this mode."""
    number = priv | (virt << 2)
    status = hart.mstatus
    if virt != 0:
        status = hart.vsstatus
    if priv == SUPERVISOR and status & MSTATUS_SUM != 0:
        number = number | CONTEXT_SUM
    return number


@cold
def update_derived(hart: Hart) -> None:
    """Recompute what is derived; ask for attention when the context changed or an interrupt is due."""
    if hart.instret >= hart.hpm_due or hart.hpm_near != 0:
        settle_counters(hart)
    derive_fp(hart, hart.virt)
    derive_data_mode(hart)
    derive_interrupt(hart)
    derive_context(hart)
    hart.unsettled = (hart.irq_active | hart.virtual_used | (hart.mstatus & MSTATUS_MPRV)) | (
        hart.hpm_near | hart.hpm_traps | hart.stop_traps | hart.trace_base
    )
    hart.timer_due = timer_ahead(hart)


@inline
def follow_time(hart: Hart) -> None:
    """What is derived, after time_offset has moved: at once, or where a timer fell due, before the next change of mode.

    A deadline that stays ahead moves, and nothing else follows from the time; one out of reach stays there.
    """
    ticks = hart.time_offset - hart.timer_offset
    moved = ticks * hart.time_ratio
    first = timer_ahead(hart)
    short = hart.instret < hart.timer_due and moved < first - hart.instret
    if short and mulhu(ticks, hart.time_ratio) == 0 and hart.time_ratio == hart.timer_ratio:
        hart.stimer_at = nearer(hart, hart.stimer_at, moved)
        hart.vstimer_at = nearer(hart, hart.vstimer_at, moved)
        hart.timer_due = nearer(hart, first, moved)
        hart.timer_offset = hart.time_offset
    else:
        follow_far_time(hart)


@inline
def nearer(hart: Hart, at: U64, moved: U64) -> U64:
    """A deadline after so much time has passed, which does not reach it."""
    if at <= hart.instret:
        return U64(0)
    return at if at == ALL_ONES else at - moved


@cold
def follow_far_time(hart: Hart) -> None:
    """The same where a timer is reached, or may be."""
    before = timers_pending(hart)
    seen = hart.instret < hart.timer_due
    update_timers(hart)
    if seen and timers_pending(hart) == before:
        hart.timer_due = timer_ahead(hart)
    else:
        hart.unsettled = 1

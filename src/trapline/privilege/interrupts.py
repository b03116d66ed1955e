"""Interrupts: what is pending, what is taken next, the views of mip and mie (Privileged spec and
Hypervisor chapter, interrupt registers; Sstc).

hart.mip holds the devices' lines and the latched bits, hart.hvip the bits that a hypervisor injects
(VSSIP of mip, hip and vsip is hvip's). The comparators of Sstc and the guest external interrupts
are ORed in by `pending` and stored nowhere.
"""

from __future__ import annotations

from trapline.lang.functions import cold, inline
from trapline.lang.state import Hart
from trapline.lang.values import U64, mulhu, udiv
from trapline.privilege.fields import (
    ALL_ONES,
    ENVCFG_STCE,
    HSTATUS_VGEIN_SHIFT,
    HVICTL_VTI,
    LCOFIP,
    LOCAL_INTERRUPTS,
    MEIP,
    MSIP,
    MTIP,
    SEIP,
    SGEIP,
    SSIP,
    STIP,
    VS_INTERRUPTS,
    VSEIP,
    VSSIP,
    VSTIP,
)


@inline
def guest_external(hart: Hart) -> U64:
    """SGEIP from hgeip and hgeie, and VSEIP from the guest external interrupt that VGEIN selects."""
    bits = U64(0)
    if hart.hgeip & hart.hgeie != 0:
        bits = bits | SGEIP
    vgein = (hart.hstatus >> HSTATUS_VGEIN_SHIFT) & 63
    if vgein != 0 and (hart.hgeip >> vgein) & 1 != 0:
        bits = bits | VSEIP
    return bits


@inline
def timers_pending(hart: Hart) -> U64:
    """STIP and VSTIP of the comparators of Sstc."""
    bits = U64(0)
    now = hart.instret
    if now >= hart.stimer_at:
        bits = bits | STIP
    if now >= hart.vstimer_at:
        bits = bits | VSTIP
    return bits


@inline
def pending(hart: Hart) -> U64:
    """The value of mip: every source ORed together."""
    bits = hart.mip | (hart.hvip & VS_INTERRUPTS) | hart.seip_software | timers_pending(hart)
    if hart.geilen != 0:
        bits = bits | guest_external(hart)
    return bits


@inline
def supervisor_pending(hart: Hart) -> U64:
    """sip and hip together: what mideleg delegates, and what mvien makes virtual (AIA spec)."""
    return (pending(hart) & hart.mideleg) | (hart.mvip & hart.mvien & ~hart.mideleg)


@inline
def supervisor_enabled(hart: Hart) -> U64:
    """sie and hie together."""
    return (hart.mie & hart.mideleg) | (hart.sie_virtual & hart.mvien & ~hart.mideleg)


@inline
def guest_pending(hart: Hart) -> U64:
    """vsip: the VS-level bits one place down; from 13 on hideleg delegates and hvien makes virtual (AIA spec)."""
    bits = (pending(hart) & hart.hideleg & VS_INTERRUPTS) >> 1
    if (hart.hideleg | hart.hvien) & LOCAL_INTERRUPTS != 0:
        bits = bits | (supervisor_pending(hart) & hart.hideleg & LOCAL_INTERRUPTS)
        bits = bits | (hart.hvip & hart.hvien & ~hart.hideleg)
    return bits


@inline
def guest_enabled(hart: Hart) -> U64:
    """vsie."""
    bits = (hart.mie & hart.hideleg & VS_INTERRUPTS) >> 1
    if (hart.hideleg | hart.hvien) & LOCAL_INTERRUPTS != 0:
        bits = bits | (supervisor_enabled(hart) & hart.hideleg & LOCAL_INTERRUPTS)
        bits = bits | (hart.vsie_virtual & hart.hvien & ~hart.hideleg)
    return bits


@cold
def virtual_pending(hart: Hart) -> bool:
    """Whether an interrupt is pending that mip and mie do not show: by mvien, hvien or hvictl."""
    if supervisor_pending(hart) & supervisor_enabled(hart) != 0:
        return True
    return guest_pending(hart) & guest_enabled(hart) != 0 or hart.hvictl & HVICTL_VTI != 0


@inline
def interrupt_waits(hart: Hart) -> bool:
    """Whether an interrupt is pending and enabled at any level, which ends WFI; the global enables do not matter."""
    if pending(hart) & hart.mie != 0:
        return True
    return hart.virtual_used != 0 and virtual_pending(hart)


@cold
def highest(bits: U64) -> U64:
    """Code of the interrupt that comes first among those set: MEI MSI MTI SEI SSI STI SGEI VSEI VSSI VSTI LCOFI."""
    if bits & (MEIP | MSIP | MTIP) != 0:
        if bits & MEIP != 0:
            return U64(11)
        return U64(3) if bits & MSIP != 0 else U64(7)
    if bits & (SEIP | SSIP | STIP) != 0:
        if bits & SEIP != 0:
            return U64(9)
        return U64(1) if bits & SSIP != 0 else U64(5)
    if bits & SGEIP != 0:
        return U64(12)
    if bits & (VSEIP | VSSIP | VSTIP) != 0:
        if bits & VSEIP != 0:
            return U64(10)
        return U64(2) if bits & VSSIP != 0 else U64(6)
    return U64(13) if bits & LCOFIP != 0 else U64(0)


@inline
def time_now(hart: Hart) -> U64:
    """The time CSR at V=0, in ticks."""
    return udiv(hart.instret, hart.time_ratio) + hart.time_offset


@inline
def deadline(hart: Hart, now: U64, compare: U64) -> U64:
    """The instret at which a time that is `now` at present reaches `compare`; 0 if it has, all ones if never."""
    if now >= compare:
        return U64(0)
    ticks = udiv(hart.instret, hart.time_ratio) + (compare - now)
    if ticks < compare - now or mulhu(ticks, hart.time_ratio) != 0:
        return U64(ALL_ONES)
    return ticks * hart.time_ratio


@cold
def update_timers(hart: Hart) -> None:
    """Recompute the deadlines of stimecmp and vstimecmp.

    For whoever changes a comparator, htimedelta or STCE; a change of time_offset or time_ratio is
    seen by update_derived.
    """
    stimer = U64(ALL_ONES)
    vstimer = U64(ALL_ONES)
    if hart.has_sstc != 0 and hart.menvcfg & ENVCFG_STCE != 0:
        now = time_now(hart)
        stimer = deadline(hart, now, hart.stimecmp)
        if hart.has_h != 0 and hart.henvcfg & ENVCFG_STCE != 0:
            vstimer = deadline(hart, now + hart.htimedelta, hart.vstimecmp)
    hart.stimer_at = stimer
    hart.vstimer_at = vstimer
    hart.timer_offset = hart.time_offset
    hart.timer_ratio = hart.time_ratio


@cold
def next_timer(hart: Hart) -> U64:
    """The instret of the next Sstc deadline that lies ahead, or all ones: run no further without looking again."""
    return timer_ahead(hart)


@inline
def timer_ahead(hart: Hart) -> U64:
    """The same, where it is derived."""
    first = U64(ALL_ONES)
    if hart.stimer_at > hart.instret:
        first = hart.stimer_at
    if hart.vstimer_at > hart.instret and hart.vstimer_at < first:
        first = hart.vstimer_at
    return first

"""Writing the CSRs that steer translation, time and cache blocks: xatp, xenvcfg, (v)stimecmp, htimedelta."""

from __future__ import annotations

from trapline.lang.control import EXIT_TIMER, leave
from trapline.lang.functions import IllegalInstruction, VirtualInstruction, cold, inline
from trapline.lang.state import Hart
from trapline.lang.values import U64
from trapline.privilege.counters import guard_counter
from trapline.privilege.csr_numbers import TIME
from trapline.privilege.derived import update_derived
from trapline.privilege.fields import (
    ATP_BARE,
    ATP_MODE_SHIFT,
    ATP_PPN,
    ATP_SV39,
    ATP_SV48,
    ATP_SV57,
    ENVCFG_ADUE,
    ENVCFG_CBIE,
    ENVCFG_PBMTE,
    ENVCFG_STCE,
    HGATP_VMID_SHIFT,
    HSTATUS_VTVM,
    MSTATUS_TVM,
    STATEEN_CONTEXT,
    STATEEN_ENVCFG,
    STATEEN_SE,
    STIP,
)
from trapline.privilege.interrupts import next_timer, update_timers
from trapline.privilege.modes import MACHINE, SUPERVISOR

ATP_MODE = 15 << ATP_MODE_SHIFT
# 14 bits of VMID, and a root table of 16 KiB: two PPN bits are 0.
HGATP_WRITABLE = (0x3FFF << HGATP_VMID_SHIFT) | (ATP_PPN & ~3)


@inline
def mode_exists(hart: Hart, value: U64) -> bool:
    """Whether the hart has the MODE of an xatp value."""
    mode = value >> ATP_MODE_SHIFT
    if mode == ATP_SV48:
        return hart.has_sv48 != 0
    if mode == ATP_SV57:
        return hart.has_sv57 != 0
    return mode == ATP_BARE or mode == ATP_SV39


@cold
def write_satp(hart: Hart, value: U64) -> None:
    """satp: a write with an unsupported MODE has no effect at all."""
    if mode_exists(hart, value):
        hart.satp = value


@cold
def write_vsatp(hart: Hart, value: U64) -> None:
    """vsatp: as satp when VS-mode writes it; from outside, an unsupported MODE leaves just MODE as it was."""
    if mode_exists(hart, value):
        hart.vsatp = value
    elif hart.virt == 0:
        hart.vsatp = (hart.vsatp & ATP_MODE) | (value & ~ATP_MODE)


@cold
def write_hgatp(hart: Hart, value: U64) -> None:
    """hgatp: an unsupported MODE leaves MODE as it was."""
    mask = U64(HGATP_WRITABLE)
    if mode_exists(hart, value):
        mask = mask | ATP_MODE
    hart.hgatp = (hart.hgatp & ~mask) | (value & mask)


@cold
def guard_satp(hart: Hart, csr: U64) -> None:
    """satp: TVM traps it in HS-mode, VTVM in VS-mode."""
    if hart.priv == SUPERVISOR:
        if hart.virt == 0 and hart.mstatus & MSTATUS_TVM != 0:
            raise IllegalInstruction()
        if hart.virt != 0 and hart.hstatus & HSTATUS_VTVM != 0:
            raise VirtualInstruction()


@cold
def guard_hgatp(hart: Hart, csr: U64) -> None:
    """hgatp: TVM traps it in HS-mode."""
    if hart.priv == SUPERVISOR and hart.virt == 0 and hart.mstatus & MSTATUS_TVM != 0:
        raise IllegalInstruction()


@inline
def legal_cbie(value: U64) -> U64:
    """CBIE=2 is reserved and becomes 0."""
    return value & ~ENVCFG_CBIE if value & ENVCFG_CBIE == 2 << 4 else value


@cold
def timer_changed(hart: Hart) -> None:
    """After a change of a comparator or its conditions; the run ends if a deadline came nearer."""
    before = next_timer(hart)
    update_timers(hart)
    update_derived(hart)
    if next_timer(hart) < before:
        leave(hart, EXIT_TIMER)


@cold
def write_menvcfg(hart: Hart, value: U64) -> None:
    """menvcfg: with STCE, STIP is the comparator's and software's bit is gone."""
    hart.menvcfg = legal_cbie(value) & hart.menvcfg_mask
    if hart.menvcfg & ENVCFG_STCE != 0:
        hart.mip = hart.mip & ~STIP
    timer_changed(hart)


@inline
def henvcfg_visible(hart: Hart) -> U64:
    """ADUE, PBMTE and STCE of henvcfg are read-only zero where menvcfg's are 0."""
    return hart.menvcfg | ~(ENVCFG_ADUE | ENVCFG_PBMTE | ENVCFG_STCE)


@cold
def read_henvcfg(hart: Hart) -> U64:
    return hart.henvcfg & henvcfg_visible(hart)


@cold
def write_henvcfg(hart: Hart, value: U64) -> None:
    """henvcfg: the bits that menvcfg hides keep their value."""
    mask = hart.menvcfg_mask & henvcfg_visible(hart)
    hart.henvcfg = (hart.henvcfg & ~mask) | (legal_cbie(value) & mask)
    timer_changed(hart)


@cold
def write_senvcfg(hart: Hart, value: U64) -> None:
    hart.senvcfg = legal_cbie(value) & hart.senvcfg_mask


@cold
def guard_stimecmp(hart: Hart, csr: U64) -> None:
    """stimecmp and vstimecmp: menvcfg.STCE and the right to read time, then henvcfg.STCE when V=1 (Sstc)."""
    if hart.priv != MACHINE and hart.menvcfg & ENVCFG_STCE == 0:
        raise IllegalInstruction()
    guard_counter(hart, U64(TIME))
    if hart.virt != 0 and hart.henvcfg & ENVCFG_STCE == 0:
        raise VirtualInstruction()


@cold
def write_stimecmp(hart: Hart, value: U64) -> None:
    hart.stimecmp = value
    timer_changed(hart)


@cold
def write_vstimecmp(hart: Hart, value: U64) -> None:
    hart.vstimecmp = value
    timer_changed(hart)


@cold
def write_htimedelta(hart: Hart, value: U64) -> None:
    hart.htimedelta = value
    timer_changed(hart)


@inline
def require_stateen(hart: Hart, bits: U64) -> None:
    """Smstateen: bits of mstateen0 below M, of hstateen0 when V=1."""
    if hart.has_smstateen != 0 and hart.priv != MACHINE:
        if hart.mstateen[0] & bits != bits:
            raise IllegalInstruction()
        if hart.virt != 0 and hart.hstateen[0] & bits != bits:
            raise VirtualInstruction()


@cold
def guard_envcfg(hart: Hart, csr: U64) -> None:
    """senvcfg and henvcfg: xstateen0.ENVCFG."""
    require_stateen(hart, U64(STATEEN_ENVCFG))


@cold
def guard_context(hart: Hart, csr: U64) -> None:
    """scontext and hcontext: xstateen0.CONTEXT."""
    require_stateen(hart, U64(STATEEN_CONTEXT))


@cold
def write_mcontext(hart: Hart, value: U64) -> None:
    """mcontext, another name of hcontext: 14 bits with the Hypervisor extension, else 13 (Debug spec, mcontext)."""
    hart.hcontext = value & 0x3FFF if hart.has_h != 0 else value & 0x1FFF


@cold
def guard_stateen(hart: Hart, csr: U64) -> None:
    """hstateen and sstateen: bit 63 of mstateen below M, of hstateen when V=1."""
    if hart.priv == MACHINE:
        return
    if hart.mstateen[csr & 3] & STATEEN_SE == 0:
        raise IllegalInstruction()
    if hart.virt != 0 and hart.hstateen[csr & 3] & STATEEN_SE == 0:
        raise VirtualInstruction()

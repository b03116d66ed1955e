"""A trap entry made by software: what firmware writes so that a lower level sees a trap.

The S-level CSRs and their VS-level twins have numbers 0x100 apart, and the trap value registers and the
status stack of both are written alike. Different are what is around them: hstatus, htval and htinst for
HS-mode, mstatus.MPV for VS-mode. (The hosted KVM's redirect, kvm.redirect, writes the VS-level ones too,
but from its saved guest context and with vstvec unmasked: it stays apart.)
"""

from __future__ import annotations

from trapline.firmware.models import FirmwareModel, ToVs
from trapline.lang.functions import hosted, inline
from trapline.lang.state import Hart
from trapline.lang.values import U64
from trapline.privilege.causes import INST_PAGE_FAULT, LOAD_PAGE_FAULT, STORE_PAGE_FAULT
from trapline.privilege.csr import csr_read, csr_write
from trapline.privilege.csr_numbers import (
    HSTATUS,
    HTINST,
    HTVAL,
    MEPC,
    MSTATUS,
    SCAUSE,
    SEPC,
    SSTATUS,
    STVAL,
    STVEC,
    VSCAUSE,
    VSEPC,
    VSSTATUS,
    VSTVAL,
    VSTVEC,
)
from trapline.privilege.fields import (
    HSTATUS_GVA,
    HSTATUS_SPV,
    HSTATUS_SPVP,
    MSTATUS_MPP,
    MSTATUS_MPP_SHIFT,
    MSTATUS_MPV,
    MSTATUS_SIE,
    MSTATUS_SPIE,
    MSTATUS_SPP,
)
from trapline.privilege.modes import SUPERVISOR

# hart.fw_flags: what the subset needs to know of the model.
TO_VS_PAGE_FAULTS, TO_VS_HEDELEG, WRITES_GVA, WRITES_HTVAL_OF_HS, EMULATES_MISALIGNED, EMULATES_ZCB = (
    1 << n for n in range(6)
)
FETCHES, FIXES_TINST, MARKS_GUEST_FP_DIRTY, EMULATES_TIME_ALWAYS = (1 << n for n in range(6, 10))
WENT_TO_VS, WENT_TO_HS = 1, 2


def flags_of(model: FirmwareModel) -> int:
    """Return hart.fw_flags for a model."""
    flags = {ToVs.NEVER: 0, ToVs.PAGE_FAULTS: TO_VS_PAGE_FAULTS}.get(model.to_vs, TO_VS_HEDELEG)
    for bit, there in (
        (WRITES_GVA, model.writes_gva),
        (WRITES_HTVAL_OF_HS, model.writes_htval_of_hs),
        (EMULATES_MISALIGNED, model.emulates_misaligned),
        (EMULATES_ZCB, model.emulates_zcb),
        (FETCHES, model.fetches_on_access_fault),
        (FIXES_TINST, model.fixes_tinst),
        (MARKS_GUEST_FP_DIRTY, model.marks_guest_fp_dirty),
        (EMULATES_TIME_ALWAYS, model.emulates_time_always),
    ):
        flags |= bit if there else 0
    return flags


@inline
def goes_to_vs(hart: Hart, cause: U64, virt: U64) -> bool:
    """Whether this firmware hands the trap to VS-mode itself. medeleg plays no part."""
    if virt == 0 or cause >= 64:
        return False
    if hart.fw_flags & TO_VS_PAGE_FAULTS != 0:
        return cause == INST_PAGE_FAULT or cause == LOAD_PAGE_FAULT or cause == STORE_PAGE_FAULT
    return hart.fw_flags & TO_VS_HEDELEG != 0 and (hart.hedeleg >> (cause & 63)) & 1 != 0


@inline
def pushed(status: U64, priv: U64) -> U64:
    """A status after a trap from `priv`: SPP := the privilege that trapped, SPIE := SIE, SIE := 0."""
    new = status & ~(U64(MSTATUS_SPP) | MSTATUS_SPIE | MSTATUS_SIE)
    if priv == SUPERVISOR:
        new = new | MSTATUS_SPP
    if status & MSTATUS_SIE != 0:
        new = new | MSTATUS_SPIE
    return new


@inline
def write_hypervisor_state(hart: Hart, tval2: U64, tinst: U64, gva: U64, priv: U64, virt: U64) -> None:
    """Write hstatus, htval and htinst for a trap into HS: SPVP only changes if the trap came from V=1.

    Up to OpenSBI 1.1 nothing of this is written for a trap from V=0: SPV stays as it was.
    """
    if virt == 0 and hart.fw_flags & WRITES_HTVAL_OF_HS == 0:
        return
    hstatus = csr_read(hart, U64(HSTATUS)) & ~U64(HSTATUS_SPV)
    if virt != 0:
        hstatus = (hstatus & ~U64(HSTATUS_SPVP)) | HSTATUS_SPV
        if priv == SUPERVISOR:
            hstatus = hstatus | HSTATUS_SPVP
    if hart.fw_flags & WRITES_GVA != 0:
        hstatus = hstatus & ~U64(HSTATUS_GVA)
        if gva != 0:
            hstatus = hstatus | HSTATUS_GVA
    csr_write(hart, U64(HSTATUS), hstatus)
    csr_write(hart, U64(HTVAL), tval2)
    csr_write(hart, U64(HTINST), tinst)


@inline
def enter_handler(hart: Hart, tvec: U64, virt: U64) -> None:
    """Make mret go to a handler in S- or VS-mode. xtvec's mode bits are stripped."""
    mstatus = csr_read(hart, U64(MSTATUS)) & ~(U64(MSTATUS_MPV) | MSTATUS_MPP)
    mstatus = mstatus | (SUPERVISOR << MSTATUS_MPP_SHIFT)
    if virt != 0:
        mstatus = mstatus | MSTATUS_MPV
    csr_write(hart, U64(MSTATUS), mstatus)
    csr_write(hart, U64(MEPC), tvec & ~3)


@hosted
def redirect_trap(
    hart: Hart, cause: U64, epc: U64, tval: U64, tval2: U64, tinst: U64, gva: U64, priv: U64, virt: U64
) -> U64:
    """Enter a trap from below M-mode into VS (returns 1) or HS (2) and make mret go to its handler."""
    if goes_to_vs(hart, cause, virt):
        csr_write(hart, U64(VSTVAL), tval)
        csr_write(hart, U64(VSEPC), epc)
        csr_write(hart, U64(VSCAUSE), cause)
        csr_write(hart, U64(VSSTATUS), pushed(csr_read(hart, U64(VSSTATUS)), priv))
        enter_handler(hart, csr_read(hart, U64(VSTVEC)), U64(1))
        hart.kvm_traps_by_firmware = hart.kvm_traps_by_firmware + 1
        return U64(WENT_TO_VS)
    if hart.has_h != 0:
        write_hypervisor_state(hart, tval2, tinst, gva, priv, virt)
    csr_write(hart, U64(STVAL), tval)
    csr_write(hart, U64(SEPC), epc)
    csr_write(hart, U64(SCAUSE), cause)
    csr_write(hart, U64(SSTATUS), pushed(csr_read(hart, U64(SSTATUS)), priv))
    enter_handler(hart, csr_read(hart, U64(STVEC)), U64(0))
    return U64(WENT_TO_HS)

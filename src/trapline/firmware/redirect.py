"""A trap entry made by software: what firmware writes so that a lower level sees a trap.

The S-level CSRs and their VS-level twins have numbers 0x100 apart, and the trap value registers and the
status stack of both are written alike. Different are what is around them: hstatus, htval and htinst for
HS-mode, mstatus.MPV for VS-mode. (The hosted KVM's redirect, kvm.redirect, writes the VS-level ones too,
but from its saved guest context and with vstvec unmasked: it stays apart.)
"""

from __future__ import annotations

from typing import Any

from trapline.firmware.models import FirmwareModel, ToVs
from trapline.firmware.trap import MachineTrap
from trapline.privilege import causes
from trapline.privilege import csr_numbers as csr
from trapline.privilege.csr import csr_read, csr_write
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
from trapline.privilege.modes import MACHINE, SUPERVISOR

S_BANK, VS_BANK = 0x100, 0x200
STATUS, TVEC, EPC, CAUSE, TVAL = 0x00, 0x05, 0x41, 0x42, 0x43
TVEC_MODE = 3

PAGE_FAULTS = (causes.INST_PAGE_FAULT, causes.LOAD_PAGE_FAULT, causes.STORE_PAGE_FAULT)


def write_trap(hart: Any, bank: int, trap: MachineTrap) -> None:
    """Write cause, epc and tval of a bank of CSRs (0x100 S, 0x200 VS)."""
    hart.call(csr_write, bank + TVAL, trap.tval)
    hart.call(csr_write, bank + EPC, trap.epc)
    hart.call(csr_write, bank + CAUSE, trap.cause)


def stack_status(hart: Any, bank: int, trap: MachineTrap) -> None:
    """Push the status stack of a bank: SPP := the privilege that trapped, SPIE := SIE, SIE := 0."""
    status = int(hart.call(csr_read, bank + STATUS))
    pushed = status & ~(MSTATUS_SPP | MSTATUS_SPIE | MSTATUS_SIE)
    pushed |= MSTATUS_SPP if trap.priv == SUPERVISOR else 0
    pushed |= MSTATUS_SPIE if status & MSTATUS_SIE else 0
    hart.call(csr_write, bank + STATUS, pushed)


def goes_to_vs(hart: Any, model: FirmwareModel, trap: MachineTrap) -> bool:
    """Return whether this firmware hands the trap to VS-mode itself. medeleg plays no part."""
    if not trap.virt or model.to_vs is ToVs.NEVER:
        return False
    if model.to_vs is ToVs.PAGE_FAULTS:
        return trap.cause in PAGE_FAULTS
    return trap.cause < 64 and bool(int(hart.call(csr_read, csr.HEDELEG)) >> trap.cause & 1)


def redirect(hart: Any, model: FirmwareModel, trap: MachineTrap) -> str | None:
    """Enter `trap` into VS or HS and make mret go to its handler; None if it came from M-mode.

    Returns "VS" or "HS". xtvec's mode bits are stripped, so a vectored handler gets exceptions at its base.
    """
    if trap.priv == MACHINE:
        return None
    to_vs = goes_to_vs(hart, model, trap)
    bank = VS_BANK if to_vs else S_BANK
    if not to_vs and hart.has_h != 0:
        write_hypervisor_state(hart, model, trap)
    write_trap(hart, bank, trap)
    stack_status(hart, bank, trap)
    handler = int(hart.call(csr_read, bank + TVEC)) & ~TVEC_MODE
    mstatus = int(hart.call(csr_read, csr.MSTATUS)) & ~(MSTATUS_MPV | MSTATUS_MPP)
    mstatus |= SUPERVISOR << MSTATUS_MPP_SHIFT | (MSTATUS_MPV if to_vs else 0)
    hart.call(csr_write, csr.MSTATUS, mstatus)
    hart.call(csr_write, csr.MEPC, handler)
    return "VS" if to_vs else "HS"


def write_hypervisor_state(hart: Any, model: FirmwareModel, trap: MachineTrap) -> None:
    """Write hstatus, htval and htinst for a trap into HS: SPVP only changes if the trap came from V=1."""
    hstatus = int(hart.call(csr_read, csr.HSTATUS)) & ~HSTATUS_SPV
    if trap.virt:
        hstatus = hstatus & ~HSTATUS_SPVP | HSTATUS_SPV | (HSTATUS_SPVP if trap.priv == SUPERVISOR else 0)
    if model.writes_gva:
        hstatus = hstatus & ~HSTATUS_GVA | (HSTATUS_GVA if trap.gva else 0)
    hart.call(csr_write, csr.HSTATUS, hstatus)
    if trap.virt or model.writes_htval_of_hs:
        hart.call(csr_write, csr.HTVAL, trap.tval2)
        hart.call(csr_write, csr.HTINST, trap.tinst)

"""Entering and leaving the guest: the part of vcpu_switch.S that touches CSRs.

Subset functions: hosted now, compiled whenever the engine is told to. The guest's general registers
stay in the hart, since a hosted HS-mode needs none; its pc, its HS-level sstatus and hstatus are
saved in the hart's guest_* words, as KVM's guest_context.
"""

from __future__ import annotations

from trapline.lang.functions import hosted
from trapline.lang.state import Hart
from trapline.lang.values import U64
from trapline.privilege import csr_numbers as csr
from trapline.privilege.csr import csr_read, csr_write
from trapline.privilege.csr_numbers import HSTATUS, SEPC, SSTATUS
from trapline.privilege.csr_status import new_hstatus, new_sstatus
from trapline.privilege.derived import update_derived
from trapline.privilege.fields import (
    HSTATUS_SPV,
    HSTATUS_SPVP,
    HSTATUS_VGEIN,
    MSTATUS_MXR,
    MSTATUS_SPIE,
    MSTATUS_SPP,
)
from trapline.privilege.returns import sret


@hosted
def load_host(hart: Hart, hedeleg: U64, hideleg: U64, henvcfg: U64, hcounteren: U64) -> None:
    """What KVM has chosen for a vCPU (kvm_arch_vcpu_load)."""
    csr_write(hart, U64(csr.HEDELEG), hedeleg)
    csr_write(hart, U64(csr.HIDELEG), hideleg)
    csr_write(hart, U64(csr.HENVCFG), henvcfg)
    csr_write(hart, U64(csr.HCOUNTEREN), hcounteren)


@hosted
def load_trap_csrs(hart: Hart, vsie: U64, vstvec: U64, vsscratch: U64, vsepc: U64, vscause: U64, vstval: U64) -> None:
    """The guest's own registers of its traps."""
    csr_write(hart, U64(csr.VSIE), vsie)
    csr_write(hart, U64(csr.VSTVEC), vstvec)
    csr_write(hart, U64(csr.VSSCRATCH), vsscratch)
    csr_write(hart, U64(csr.VSEPC), vsepc)
    csr_write(hart, U64(csr.VSCAUSE), vscause)
    csr_write(hart, U64(csr.VSTVAL), vstval)


@hosted
def load_csrs(hart: Hart, vsstatus: U64, hvip: U64, vsatp: U64, scounteren: U64, senvcfg: U64) -> None:
    """The guest's other registers."""
    csr_write(hart, U64(csr.VSSTATUS), vsstatus)
    csr_write(hart, U64(csr.HVIP), hvip)
    csr_write(hart, U64(csr.VSATP), vsatp)
    csr_write(hart, U64(csr.SCOUNTEREN), scounteren)
    csr_write(hart, U64(csr.SENVCFG), senvcfg)


@hosted
def enter_guest(hart: Hart) -> None:
    """Load sepc, sstatus and hstatus from the guest context and return into the guest with sret."""
    changes = ((hart.hstatus ^ hart.guest_hstatus) & HSTATUS_VGEIN) | (
        (hart.mstatus ^ hart.guest_sstatus) & MSTATUS_MXR
    )
    if hart.hstatus != hart.guest_hstatus:
        hart.hstatus = new_hstatus(hart, hart.guest_hstatus)
    hart.mstatus = new_sstatus(hart, hart.guest_sstatus)
    if changes != 0:
        update_derived(hart)
    csr_write(hart, U64(SEPC), hart.guest_sepc)
    sret(hart)
    hart.pc = hart.next_pc


@hosted
def preempt(hart: Hart) -> None:
    """Leave the guest between two instructions, as if a host interrupt had come."""
    hart.guest_sepc = hart.pc
    hart.guest_sstatus = (csr_read(hart, U64(SSTATUS)) & ~U64(MSTATUS_SPP)) | MSTATUS_SPIE
    hart.guest_hstatus = (csr_read(hart, U64(HSTATUS)) & ~U64(HSTATUS_SPVP)) | HSTATUS_SPV
    if hart.priv != 0:
        hart.guest_sstatus = hart.guest_sstatus | MSTATUS_SPP
        hart.guest_hstatus = hart.guest_hstatus | HSTATUS_SPVP
    hart.priv = 1
    hart.virt = 0
    update_derived(hart)
    hart.kvm_in_guest = 0


@hosted
def save_guest(hart: Hart) -> None:
    """Keep what trap entry left in sepc, sstatus and hstatus."""
    hart.guest_sepc = csr_read(hart, U64(SEPC))
    hart.guest_sstatus = csr_read(hart, U64(SSTATUS))
    hart.guest_hstatus = csr_read(hart, U64(HSTATUS))

"""Redirecting a trap into the guest: what kvm_riscv_vcpu_trap_redirect does to the guest's CSRs.

Not a hardware trap entry: software writes the VS-level trap CSRs one by one and sends the guest to
vstvec. It differs from hardware: vstvec is not masked, nothing is vectored, htval and htinst are
dropped, and before 6.3 the privilege was kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trapline.dataclass import replace
from trapline.kvm.nested.exits import nested_redirect
from trapline.lang.functions import hosted
from trapline.lang.state import Hart
from trapline.lang.values import U64
from trapline.privilege.causes import ACCESS_FAULTS, GUEST_PAGE_FAULTS
from trapline.privilege.csr import csr_read, csr_write
from trapline.privilege.csr_numbers import VSCAUSE, VSEPC, VSSTATUS, VSTVAL, VSTVEC
from trapline.privilege.csr_status import new_vsstatus
from trapline.privilege.fields import MSTATUS_SIE, MSTATUS_SPIE, MSTATUS_SPP

if TYPE_CHECKING:
    from trapline.kvm.uapi.context import CpuTrap
    from trapline.kvm.vcpu import Vcpu


@hosted
def trap_redirect(hart: Hart, scause: U64, sepc: U64, stval: U64, keep_privilege: U64) -> None:
    """Give the guest the trap (scause, sepc, stval); `keep_privilege` is the bug that 6.3 fixed."""
    if hart.kvm_virtual != 0 and nested_redirect(hart, scause, sepc, stval):
        return
    vsstatus = csr_read(hart, U64(VSSTATUS)) & ~(U64(MSTATUS_SPP) | MSTATUS_SPIE)
    # The guest's privilege at the trap, as the trap into HS-mode saved it.
    vsstatus = vsstatus | (hart.guest_sstatus & MSTATUS_SPP)
    if vsstatus & MSTATUS_SIE != 0:
        vsstatus = vsstatus | MSTATUS_SPIE
    # What is derived follows from other fields of vsstatus.
    hart.vsstatus = new_vsstatus(hart, vsstatus & ~U64(MSTATUS_SIE))
    csr_write(hart, U64(VSCAUSE), scause)
    csr_write(hart, U64(VSTVAL), stval)
    csr_write(hart, U64(VSEPC), sepc)
    hart.guest_sepc = csr_read(hart, U64(VSTVEC))
    if keep_privilege == 0:
        hart.guest_sstatus = hart.guest_sstatus | MSTATUS_SPP


# What a bus says of an access that it cannot do, by the guest page fault that KVM saw of it.
ACCESS_FAULT_OF = dict(zip(GUEST_PAGE_FAULTS, ACCESS_FAULTS, strict=True))


def access_fault(vcpu: Vcpu, trap: CpuTrap) -> None:
    """Give the guest a guest page fault of its own as what a machine without hypervisor would show: an access fault."""
    inject(vcpu, replace(trap, scause=ACCESS_FAULT_OF[trap.scause], htval=0, htinst=0))


def inject(vcpu: Vcpu, trap: CpuTrap) -> None:
    """Redirect a trap, real or made up, into the guest of a vCPU."""
    keep = int(vcpu.policy.has_bug("redirect-keeps-privilege"))
    vcpu.hart.call(trap_redirect, trap.scause, trap.sepc, trap.stval, keep)

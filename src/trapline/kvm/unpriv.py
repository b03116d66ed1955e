"""Reading guest memory as the guest sees it, with HLV and HLVX (kvm_riscv_vcpu_unpriv_read)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trapline.firmware.trap import last_trap
from trapline.kvm.exits.guest_fetch import fetches_guest
from trapline.kvm.exits.redirect import inject
from trapline.kvm.uapi.context import CpuTrap
from trapline.privilege.causes import LOAD_GUEST_PAGE_FAULT
from trapline.privilege.memory import guest_load

if TYPE_CHECKING:
    from trapline.kvm.vcpu import Vcpu


def read_word(vcpu: Vcpu, va: int) -> int:
    """HLV.D; raises Trap as the load did."""
    return int(vcpu.hart.call(guest_load, va, 8, 0))


def fetch_guest(vcpu: Vcpu) -> int | CpuTrap:
    """Fetch the guest's instruction; or return the fault of the fetch."""
    return int(vcpu.hart.attempted) if vcpu.hart.call(fetches_guest) else failed_fetch(vcpu)


def failed_fetch(vcpu: Vcpu) -> CpuTrap:
    """The fault of the last fetch."""
    trap = last_trap(vcpu.hart)
    return CpuTrap(trap.cause, int(vcpu.hart.guest_sepc), trap.tval, trap.tval2, trap.tinst)


def fetch_failed(vcpu: Vcpu, fault: CpuTrap, how: str) -> int:
    """Give the fault of a fetch to the guest; since 6.19 a guest page fault makes it try again."""
    if fault.scause == LOAD_GUEST_PAGE_FAULT and not vcpu.policy.has_bug("injects-guest-page-fault-of-fetch"):
        vcpu.hop(how, "resumed")
        return 1
    inject(vcpu, fault)
    vcpu.hop(how, "guest")
    return 1

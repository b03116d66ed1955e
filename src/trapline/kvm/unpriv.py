"""Reading guest memory as the guest sees it, with HLV and HLVX (kvm_riscv_vcpu_unpriv_read)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trapline.kvm.context import CpuTrap
from trapline.kvm.redirect import inject
from trapline.lang.functions import Trap
from trapline.privilege.causes import INST_ACCESS, INST_PAGE_FAULT, LOAD_ACCESS, LOAD_GUEST_PAGE_FAULT, LOAD_PAGE_FAULT
from trapline.privilege.memory import guest_load

if TYPE_CHECKING:
    from trapline.kvm.vcpu import Vcpu


def read_word(vcpu: Vcpu, va: int) -> int:
    """HLV.D; raises Trap as the load did."""
    return int(vcpu.hart.call(guest_load, va, 8, 0))


def fetch_guest(vcpu: Vcpu) -> int | CpuTrap:
    """Fetch the guest's instruction with HLVX.HU, one or two parcels; or return the fault of the fetch.

    A load page fault becomes an instruction page fault; other causes stay what the load took.
    """
    pc = int(vcpu.hart.guest_sepc)
    try:
        bits = int(vcpu.hart.call(guest_load, pc, 2, 1))
        if bits & 3 == 3:
            bits |= int(vcpu.hart.call(guest_load, pc + 2, 2, 1)) << 16
    except Trap as trap:
        cause = INST_PAGE_FAULT if trap.cause == LOAD_PAGE_FAULT else trap.cause
        if cause == LOAD_ACCESS and vcpu.policy.has_feature("reads-as-the-guest"):
            cause = INST_ACCESS
        return CpuTrap(cause, pc, trap.tval, trap.tval2, trap.tinst)
    return bits


def fetch_failed(vcpu: Vcpu, fault: CpuTrap, how: str) -> int:
    """Give the fault of a fetch to the guest; since 6.19 a guest page fault makes it try again."""
    if fault.scause == LOAD_GUEST_PAGE_FAULT and not vcpu.policy.has_bug("injects-guest-page-fault-of-fetch"):
        vcpu.hop(how, "resumed")
        return 1
    inject(vcpu, fault)
    vcpu.hop(how, "guest")
    return 1

"""MMIO that needs more than the VMM's own devices: what the policy refuses, in-kernel devices, KVM_EXIT_MMIO."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trapline.engine.records import ACCESS_NOTHING, ACCESS_SIZE
from trapline.kvm.exits.mmio_access import (
    DECODED,
    UNFETCHED,
    decode_access,
    finish_access,
    stored_data,
)
from trapline.kvm.exits.outside import refusals
from trapline.kvm.exits.redirect import access_fault
from trapline.kvm.uapi.context import CpuTrap, MmioAccess
from trapline.kvm.uapi.numbers import Exit
from trapline.kvm.unpriv import failed_fetch, fetch_failed
from trapline.policies import CauseRule, Refusal
from trapline.privilege.causes import STORE_GUEST_PAGE_FAULT

if TYPE_CHECKING:
    from trapline.kvm.vcpu import Vcpu


def mmio_access(vcpu: Vcpu, trap: CpuTrap, rule: CauseRule) -> int:
    """A load or store outside the slots that hosted exits left: in-kernel devices first, then KVM_EXIT_MMIO."""
    hart = vcpu.hart
    store = trap.scause == STORE_GUEST_PAGE_FAULT
    found = int(hart.call(decode_access, int(store), trap.gpa, trap.htinst))
    if found == UNFETCHED:
        return fetch_failed(vcpu, failed_fetch(vcpu), "mmio")
    size = int(hart.kvm_mmio_access) & ACCESS_SIZE
    refusal = refusals(rule, vcpu.policy.mmio).get(found)
    if refusal is not None and (found != DECODED or not vcpu.vm.has_device(trap.gpa, size)):
        return _refuse(vcpu, trap, *refusal)
    hart.kvm_mmio_open = 1
    if int(hart.kvm_mmio_access) & ACCESS_NOTHING:  # devices have no cache
        return _done(vcpu)
    vcpu.kvm_run.mmio = MmioAccess(trap.gpa, size, store, int(hart.call(stored_data)) if store else 0)
    if _in_kernel(vcpu, vcpu.kvm_run.mmio):
        vcpu.stats.count("mmio_exit_kernel")
        return _done(vcpu)
    vcpu.stats.count("mmio_exit_user")
    vcpu.kvm_run.exit_reason = Exit.MMIO
    vcpu.hop("mmio", "vmm")
    return 0


def _done(vcpu: Vcpu) -> int:
    mmio_return(vcpu)
    vcpu.hop("mmio", "emulated")
    return 1


def _refuse(vcpu: Vcpu, trap: CpuTrap, how: Refusal, errno: int) -> int:
    """What the policy says of an access that cannot be done."""
    if how is Refusal.KILL:
        return -errno
    access_fault(vcpu, trap)
    vcpu.hop("kvm-redirect", "guest")
    return 1


def mmio_return(vcpu: Vcpu) -> None:
    """Write the value of a load and step over the instruction, once."""
    if vcpu.hart.kvm_mmio_open != 0:
        vcpu.hart.call(finish_access, vcpu.kvm_run.mmio.data)


def _in_kernel(vcpu: Vcpu, access: MmioAccess) -> bool:
    device = vcpu.vm.io_bus.find(access.phys_addr, access.length)
    if device is None:
        return False
    base, target = device
    offset = access.phys_addr - base
    if access.is_write:
        target.store(vcpu.hart, offset, access.length, access.data)
    else:
        access.data = target.load(vcpu.hart, offset, access.length)
    return True

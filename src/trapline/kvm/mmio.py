"""MMIO: decode the access that faulted outside the slots, with KVM's limits (vcpu_insn.c)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trapline.kvm.context import CpuTrap, MmioAccess
from trapline.kvm.numbers import MASK64, Exit
from trapline.kvm.unpriv import fetch_failed, fetch_guest
from trapline.policies import CauseRule

if TYPE_CHECKING:
    from trapline.kvm.vcpu import Vcpu


@dataclass(frozen=True, slots=True)
class MmioDecode:
    """A decoded access: what is needed when the VMM has answered."""

    name: str
    register: int  # rd of a load, rs2 of a store
    length: int
    signed: bool
    store: bool
    insn_length: int


def decode(vcpu: Vcpu, bits: int, insn_length: int, *, store: bool) -> MmioDecode | None:
    """Decode an access that the policy's decoder knows; None for any other.

    The instruction must go with the fault: a load for a load fault, a store for a store fault.
    """
    found = vcpu.decoder.decode(bits)
    if found is None:
        return None
    name = found.spelling.name
    if name not in vcpu.policy.mmio.instructions:
        return None
    access = found.instruction.access
    if access is None or access.is_store is not store:
        return None
    # KVM tests bits 11:7 of these as if they were rd.
    zero_bits = name in ("c.swsp", "c.sdsp") and bits >> 7 & 31 == 0
    if zero_bits and vcpu.policy.has_bug("mmio-refuses-sp-store-with-zero-bits"):
        return None
    register = int(found.operands["rs2" if store else "rd"])
    return MmioDecode(name, register, access.size, access.signed, store, insn_length)


def mmio_access(vcpu: Vcpu, trap: CpuTrap, rule: CauseRule) -> int:
    """Decode a load or store outside the slots; in-kernel devices first, then KVM_EXIT_MMIO."""
    store = trap.scause == 23
    if trap.htinst & 1:
        # A transformed instruction: bit 1 tells its length, a compressed one was expanded.
        bits, insn_length = trap.htinst | 3, 4 if trap.htinst & 2 else 2
    else:
        fetched = fetch_guest(vcpu)
        if isinstance(fetched, CpuTrap):
            return fetch_failed(vcpu, fetched, "mmio")
        bits, insn_length = fetched, 4 if fetched & 3 == 3 else 2
    decoded = decode(vcpu, bits, insn_length, store=store)
    if decoded is None:
        return -vcpu.policy.mmio.unsupported_errno
    if trap.gpa & (decoded.length - 1):
        return -vcpu.policy.mmio.misaligned_errno
    data = int(vcpu.hart.x[decoded.register]) & (1 << 8 * decoded.length) - 1 if store else 0
    vcpu.mmio_decode = decoded
    vcpu.kvm_run.mmio = MmioAccess(trap.gpa, decoded.length, store, data)
    if _in_kernel(vcpu, vcpu.kvm_run.mmio):
        vcpu.stats.count("mmio_exit_kernel")
        mmio_return(vcpu)
        vcpu.hop("mmio", "emulated")
        return 1
    vcpu.stats.count("mmio_exit_user")
    vcpu.kvm_run.exit_reason = Exit.MMIO
    vcpu.hop("mmio", "vmm")
    return 0


def mmio_return(vcpu: Vcpu) -> None:
    """Write the value of a load and step over the instruction, once."""
    decoded = vcpu.mmio_decode
    if decoded is None:
        return
    vcpu.mmio_decode = None
    if not decoded.store:
        bits = 8 * decoded.length
        value = vcpu.kvm_run.mmio.data & (1 << bits) - 1
        if decoded.signed and value >> (bits - 1):
            value = value - (1 << bits) & MASK64
        vcpu.hart.x[decoded.register] = value
    vcpu.hart.guest_sepc = int(vcpu.hart.guest_sepc) + decoded.insn_length


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

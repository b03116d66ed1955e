"""MMIO: decode the access that faulted outside the slots, with the policy's limits (KVM's: vcpu_insn.c)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from trapline.kvm.context import CpuTrap, MmioAccess
from trapline.kvm.numbers import MASK64, Exit
from trapline.kvm.redirect import access_fault
from trapline.kvm.unpriv import fetch_failed, fetch_guest
from trapline.lang.facts import Kind
from trapline.policies import CauseRule, Implicit, Refusal
from trapline.privilege.csr import csr_read
from trapline.privilege.csr_numbers import VSSTATUS
from trapline.privilege.csr_status import set_vsstatus
from trapline.privilege.fields import MSTATUS_FS
from trapline.privilege.translation import PSEUDO_READ_PTE, PSEUDO_WRITE_PTE

if TYPE_CHECKING:
    from trapline.kvm.vcpu import Vcpu


@dataclass(frozen=True, slots=True)
class MmioDecode:
    """A decoded access: what is needed when the VMM has answered."""

    name: str
    register: Annotated[int, Meta(ge=0, lt=32)]  # rd of a load, rs2 of a store; of the floating-point ones if `fp`
    length: Annotated[int, Meta(ge=1, le=64)]
    signed: bool
    store: bool
    insn_length: Annotated[int, Meta(ge=2, le=4)]
    fp: bool = False
    nothing: bool = False  # a cache-block operation: devices have no cache


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
    if access is not None and access.kind is Kind.MANAGE:
        return MmioDecode(name, 0, 1, False, store, insn_length, nothing=True)
    if access is None or access.is_store is not store:
        return None
    # KVM tests bits 11:7 of these as if they were rd.
    zero_bits = name in ("c.swsp", "c.sdsp") and bits >> 7 & 31 == 0
    if zero_bits and vcpu.policy.has_bug("mmio-refuses-sp-store-with-zero-bits"):
        return None
    register = int(found.operands["rs2" if store else "rd"])
    fp = found.instruction.is_float("rs2" if store else "rd")
    return MmioDecode(name, register, access.size, access.signed, store, insn_length, fp)


def mmio_access(vcpu: Vcpu, trap: CpuTrap, rule: CauseRule) -> int:
    """Decode a load or store outside the slots; in-kernel devices first, then KVM_EXIT_MMIO."""
    store = trap.scause == 23
    mmio = vcpu.policy.mmio
    if trap.htinst in (PSEUDO_READ_PTE, PSEUDO_WRITE_PTE) and mmio.implicit is not Implicit.ACCESS:
        return _refuse(vcpu, trap, Refusal(mmio.implicit.value), rule.without_slot_errno)
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
        return _refuse(vcpu, trap, mmio.unsupported, mmio.unsupported_errno)
    if trap.gpa & (decoded.length - 1):
        return _refuse(vcpu, trap, mmio.misaligned, mmio.misaligned_errno)
    if rule.without_device is not None and not vcpu.vm.has_device(trap.gpa, decoded.length):
        return _refuse(vcpu, trap, rule.without_device, rule.without_slot_errno)
    vcpu.mmio_decode = decoded
    if decoded.nothing:
        mmio_return(vcpu)
        vcpu.hop("mmio", "emulated")
        return 1
    registers = vcpu.hart.f if decoded.fp else vcpu.hart.x
    data = int(registers[decoded.register]) & (1 << 8 * decoded.length) - 1 if store else 0
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


def _refuse(vcpu: Vcpu, trap: CpuTrap, how: Refusal, errno: int) -> int:
    """What the policy says of an access that cannot be done."""
    if how is Refusal.KILL:
        return -errno
    access_fault(vcpu, trap)
    vcpu.hop("kvm-redirect", "guest")
    return 1


def mmio_return(vcpu: Vcpu) -> None:
    """Write the value of a load and step over the instruction, once."""
    decoded = vcpu.mmio_decode
    if decoded is None:
        return
    vcpu.mmio_decode = None
    if not decoded.store:
        bits = 8 * decoded.length
        value = vcpu.kvm_run.mmio.data & (1 << bits) - 1
        if decoded.fp:
            _load_fp(vcpu, decoded.register, value, bits)
        elif decoded.signed and value >> (bits - 1):
            vcpu.hart.x[decoded.register] = value - (1 << bits) & MASK64
        else:
            vcpu.hart.x[decoded.register] = value
    vcpu.hart.guest_sepc = int(vcpu.hart.guest_sepc) + decoded.insn_length


def _load_fp(vcpu: Vcpu, register: int, value: int, bits: int) -> None:
    """Write a loaded floating-point value, NaN-boxed; the guest's own kernel must see that FS is Dirty."""
    hart = vcpu.hart
    hart.f[register] = value | MASK64 << bits & MASK64
    hart.guest_sstatus = int(hart.guest_sstatus) | MSTATUS_FS
    hart.call(set_vsstatus, int(hart.call(csr_read, VSSTATUS)) | MSTATUS_FS)


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

"""Virtual instructions that need more than hosted exits have: CSR accesses (vcpu_insn.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trapline.kvm.aia.aia import ILLEGAL, TO_USER
from trapline.kvm.exits.redirect import inject
from trapline.kvm.uapi.context import CpuTrap, CsrAccess
from trapline.kvm.uapi.numbers import Exit
from trapline.kvm.unpriv import fetch_failed, fetch_guest
from trapline.lang.values import MASK64
from trapline.policies import CauseRule
from trapline.privilege.causes import ILLEGAL_INST

if TYPE_CHECKING:
    from trapline.kvm.vcpu import Vcpu

CYCLE, INSTRET = 0xC00, 0xC02


def virtual_instruction(vcpu: Vcpu, trap: CpuTrap, rule: CauseRule) -> int:
    """What hosted exits leave: the instruction in stval reads or writes a CSR, or cannot be fetched."""
    insn = trap.stval
    if insn == 0:
        fetched = fetch_guest(vcpu)
        if isinstance(fetched, CpuTrap):
            return fetch_failed(vcpu, fetched, "kvm-emulate")
        insn = fetched
    return csr_instruction(vcpu, insn, rule)


def truly_illegal(vcpu: Vcpu, insn: int) -> int:
    """The guest gets an illegal instruction exception with the bits in stval."""
    inject(vcpu, CpuTrap(ILLEGAL_INST, int(vcpu.hart.guest_sepc), insn))
    vcpu.hop("kvm-emulate", "guest")
    return 1


def csr_instruction(vcpu: Vcpu, insn: int, cause: CauseRule) -> int:
    """A CSR instruction that trapped: emulated here, by the VMM, or illegal, as the policy says."""
    number = insn >> 20
    new_value, mask = _operands(vcpu, insn)
    rule = vcpu.policy.csr_rule(number)
    if rule is None or (rule.requires and not vcpu.guest_has(rule.requires)):
        return truly_illegal(vcpu, insn)
    if rule.emulate == "kill":
        return -cause.errno
    vcpu.csr_insn = insn
    vcpu.kvm_run.riscv_csr = CsrAccess(number, new_value, mask)
    if rule.emulate == "aia":
        return _aia(vcpu, insn, number, new_value, mask)
    if rule.emulate == "user":
        return _to_user(vcpu)
    value = read_counter(vcpu, number) if rule.emulate == "counter" and not mask else None
    if value is None:
        vcpu.csr_insn = None
        return truly_illegal(vcpu, insn)
    return _emulated(vcpu, value)


def _to_user(vcpu: Vcpu) -> int:
    vcpu.stats.count("csr_exit_user")
    vcpu.kvm_run.exit_reason = Exit.RISCV_CSR
    vcpu.hop("kvm-emulate", "vmm")
    return 0


def _emulated(vcpu: Vcpu, value: int) -> int:
    vcpu.kvm_run.riscv_csr.ret_value = value
    vcpu.stats.count("csr_exit_kernel")
    csr_return(vcpu)
    vcpu.hop("kvm-emulate", "emulated")
    return 1


def _aia(vcpu: Vcpu, insn: int, number: int, new_value: int, mask: int) -> int:
    """sireg and stopei: by KVM, else by the VMM."""
    value = vcpu.aia.rmw(number, new_value, mask)
    if value == ILLEGAL:
        vcpu.csr_insn = None
        return truly_illegal(vcpu, insn)
    return _to_user(vcpu) if value == TO_USER else _emulated(vcpu, value)


def csr_return(vcpu: Vcpu) -> None:
    """Write the CSR's value to rd and step over the instruction, once."""
    insn = vcpu.csr_insn
    if insn is None:
        return
    vcpu.csr_insn = None
    vcpu.hart.x[insn >> 7 & 31] = vcpu.kvm_run.riscv_csr.ret_value
    vcpu.hart.guest_sepc = int(vcpu.hart.guest_sepc) + 4


def read_counter(vcpu: Vcpu, number: int) -> int | None:
    """A counter of the guest's PMU; None if nothing is counted there. Without a PMU cycle and instret are 0."""
    as_hardware = vcpu.policy.has_feature("counters-as-hardware")
    if as_hardware and vcpu.guest_mode() == "VU" and not int(vcpu.hart.scounteren) >> number - CYCLE & 1:
        return None
    if vcpu.sbi.counters is not None:
        value = vcpu.sbi.counters.read(number - CYCLE)
        return 0 if value is None and as_hardware else value
    return 0 if number in (CYCLE, INSTRET) else None


def _operands(vcpu: Vcpu, insn: int) -> tuple[int, int]:
    """Return (new value, mask of bits to write): a read-modify-write in KVM's form."""
    funct3, field = insn >> 12 & 7, insn >> 15 & 31
    operand = field if funct3 & 4 else int(vcpu.hart.x[field])
    if funct3 & 3 == 1:
        return operand, MASK64
    return (MASK64 if funct3 & 3 == 2 else 0), operand

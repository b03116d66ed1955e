"""The exit handler: look the cause up in the policy and do what it says (vcpu_exit.c).

Every handler returns as KVM's do: above 0 to re-enter the guest, 0 to leave KVM_RUN with
kvm_run.exit_reason set, below 0 for KVM_RUN to fail with that errno.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from trapline.dataclass import replace
from trapline.kvm.exits.mmio import mmio_access
from trapline.kvm.exits.redirect import inject
from trapline.kvm.exits.sbi_fwft import ENVCFG_LPE, ENVCFG_SSE
from trapline.kvm.exits.vcpu_insn import virtual_instruction
from trapline.kvm.exits.vcpu_sbi import sbi_ecall
from trapline.kvm.uapi.context import CpuTrap
from trapline.kvm.uapi.numbers import EFAULT, Exit
from trapline.kvm.uapi.slots import SlotKind
from trapline.policies import Action, CauseRule, Condition, Implicit
from trapline.policies.causes import number
from trapline.privilege.causes import STORE_GUEST_PAGE_FAULT
from trapline.privilege.fields import HSTATUS_SPV
from trapline.privilege.pte import PTE_V
from trapline.privilege.translation import PSEUDO_WRITE_PTE

if TYPE_CHECKING:
    from trapline.kvm.vcpu import Vcpu


def vcpu_exit(vcpu: Vcpu, trap: CpuTrap) -> int:
    """Handle one return from guest mode."""
    if trap.is_interrupt:
        vcpu.hop("hardware", "resumed")
        return 1
    vcpu.kvm_run.exit_reason = Exit.UNKNOWN
    rule = vcpu.policy.rule(trap.scause)
    ret = _apply(vcpu, trap, rule)
    if ret < 0:
        vcpu.hop("kill", "killed")
        vcpu.kill(trap, rule, ret, log_lines(vcpu, trap, ret))
    return ret


def _apply(vcpu: Vcpu, trap: CpuTrap, rule: CauseRule) -> int:
    if rule.spv and not int(vcpu.hart.guest_hstatus) & HSTATUS_SPV:
        return -rule.errno
    action = action_of(vcpu, rule)
    return -rule.errno if action is None else ACTIONS[action](vcpu, trap, rule)


def action_of(vcpu: Vcpu, rule: CauseRule) -> Action | None:
    """What the rule says now; None where its condition does not hold, so that KVM_RUN fails."""
    if rule.condition is not None and not CONDITIONS[rule.condition](vcpu):
        return None
    return rule.if_debug if vcpu.guest_debug and rule.if_debug is not None else rule.action


def redirect(vcpu: Vcpu, trap: CpuTrap, rule: CauseRule) -> int:
    """The guest gets what the policy makes of a guest page fault outside the slots."""
    inject(vcpu, trap)
    vcpu.hop("kvm-redirect", "guest")
    return 1


def page_fault(vcpu: Vcpu, trap: CpuTrap, rule: CauseRule) -> int:
    """A guest page fault: map the page of its slot, or do what the policy says outside the slots."""
    slot = vcpu.vm.slots.find(trap.gpa)
    refuses_tables = vcpu.policy.mmio.implicit is not Implicit.ACCESS
    write = trap.scause == STORE_GUEST_PAGE_FAULT or (refuses_tables and trap.htinst == PSEUDO_WRITE_PTE)
    if slot is not None and slot.kind is SlotKind.NONE:
        return -EFAULT  # the host's own page fault fails
    if slot is not None and (slot.writable or not write or _may_read_only(vcpu, trap.gpa)):
        write = write and slot.writable
        vcpu.vm.map_page(slot, trap.gpa, write=write)
        vcpu.hop("gstage-map", "resumed")
        return 1
    outside = rule.without_slot
    if outside is None or outside is Action.KILL:
        return -rule.without_slot_errno
    seen = trap
    if rule.without_slot_as:
        seen = replace(trap, scause=number(rule.without_slot_as), htval=0, htinst=0)
    return ACTIONS[outside](vcpu, seen, rule)


def _may_read_only(vcpu: Vcpu, gpa: int) -> bool:
    """Whether a store's fault is no reason yet to refuse a store: a walk and cache blocks fault like one, and read."""
    return vcpu.policy.has_feature("read-only-maps-first") and not vcpu.vm.gstage.find(gpa)[2] & PTE_V


def debug_exit(vcpu: Vcpu, trap: CpuTrap, rule: CauseRule) -> int:
    """KVM_EXIT_DEBUG."""
    vcpu.kvm_run.exit_reason = Exit.DEBUG
    vcpu.hop("debug", "vmm")
    return 0


def unknown_exit(vcpu: Vcpu, trap: CpuTrap, rule: CauseRule) -> int:
    """Give the trap to the VMM, which learns nothing but that there was one."""
    vcpu.hop("exit", "vmm")
    return 0


def kill(vcpu: Vcpu, trap: CpuTrap, rule: CauseRule) -> int:
    """KVM_RUN fails."""
    return -rule.errno


ACTIONS: dict[Action, Callable[[Vcpu, CpuTrap, CauseRule], int]] = {
    Action.REDIRECT: redirect,
    Action.MAP: page_fault,
    Action.MMIO: mmio_access,
    Action.SBI: sbi_ecall,
    Action.EMULATE: virtual_instruction,
    Action.DEBUG: debug_exit,
    Action.EXIT: unknown_exit,
    Action.KILL: kill,
}

CONDITIONS: dict[Condition, Callable[[Vcpu], bool]] = {
    Condition.CFI: lambda vcpu: bool(vcpu.config.henvcfg & (ENVCFG_LPE | ENVCFG_SSE)),
}


def log_lines(vcpu: Vcpu, trap: CpuTrap, ret: int) -> tuple[str, str, str]:
    """Return the three lines that KVM logs when an exit fails."""
    hart = vcpu.hart
    return (
        f"VCPU exit error {ret}",
        f"SEPC={hart.guest_sepc:#x} SSTATUS={hart.guest_sstatus:#x} HSTATUS={hart.guest_hstatus:#x}",
        f"SCAUSE={trap.scause:#x} STVAL={trap.stval:#x} HTVAL={trap.htval:#x} HTINST={trap.htinst:#x}",
    )

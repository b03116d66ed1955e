"""What native exits must know of policy, firmware and VMM, written into the hart before it runs; and what they did.

The compiled part is kvm.native_exit. It is used unless a hook wants to see each trap (Vm.on_trap), the guest
is being debugged, or Vm.native_exits is off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trapline.engine.decode_table import number_of
from trapline.firmware.cost import ACCESS, AMO, ATOMIC, ILLEGAL, ILLEGAL_TO_VS, PLAIN, cost_of, is_known
from trapline.firmware.exit_log import KINDS, NO_GPA, native_exit, ring_entries
from trapline.firmware.redirect import flags_of
from trapline.isa.decode import expansion
from trapline.isa.lookup import plain_access, plain_accesses
from trapline.kvm.actions import compiled
from trapline.kvm.cost import estimate
from trapline.kvm.map_native import SLOTS
from trapline.kvm.native_exit import (
    BY_FUNCTION,
    BY_PAGE_FAULT,
    BY_PYTHON,
    BY_REDIRECT,
    BY_SBI,
    BY_WFI,
    COST_EMULATED,
    COUNTS_EVENTS,
    ELSE_MMIO,
    HAS_EVENT,
    KEEPS_PRIVILEGE,
    SERVES_MMIO,
    STAT_SHIFT,
)
from trapline.kvm.sbi_native import SERVES_IPI, SERVES_RFENCE, SERVES_TIME
from trapline.kvm.slots import SlotKind
from trapline.kvm.trace import TrapRecord
from trapline.lang.functions import INSTRUCTIONS
from trapline.policies import Action, Policy

if TYPE_CHECKING:
    from trapline.kvm.vcpu import Vcpu
    from trapline.kvm.vm import Vm

_GUEST_PAGE_FAULTS = (20, 21, 23)
_EXITS_AT_A_TIME = 1 << 16
_SP_STORES = ("c.swsp", "c.sdsp")
_SERVED = {"TIME": SERVES_TIME, "IPI": SERVES_IPI, "RFENCE": SERVES_RFENCE}


def prepare(vcpu: Vcpu) -> None:
    """Before KVM_RUN: may exits stay in native code, and how does it handle them."""
    hart, vm = vcpu.hart, vcpu.vm
    hooked = vm.on_trap is not None or vcpu.guest_debug or vcpu.sbi.awaits_overflow()
    wanted = vm.native_exits and not hooked and vm.engine.handles_exits
    if wanted and vcpu.native_policy is not vcpu.policy:
        vcpu.stats.fold(hart)
        wanted = _write_policy(vcpu, vcpu.policy)
        vcpu.native_policy = vcpu.policy if wanted else None
    hart.kvm_native = int(wanted)
    hart.kvm_exits_left = _EXITS_AT_A_TIME
    if wanted:
        refresh_flags(vcpu)
        _write_slots(vcpu)


def _write_slots(vcpu: Vcpu) -> None:
    """The slots whose pages native code may map: RAM of the guest's alone, whose writes nobody logs."""
    level = vcpu.vm.largest_level
    plain = [s for s in vcpu.vm.slots if s.kind is SlotKind.RAM and s.dirty is None and s.region is not None]
    words = [word for s in plain[:SLOTS] for word in (s.gpa, s.end, s.hpa, level)]
    lost = bool(words) and vcpu.hart.kvm_slots[1] != words[1]  # restored from a snapshot
    if words != vcpu.native_slots or lost:
        vcpu.native_slots = words
        for n, word in enumerate(words + [0] * (len(vcpu.hart.kvm_slots) - len(words))):
            vcpu.hart.kvm_slots[n] = word


def refresh_flags(vcpu: Vcpu) -> None:
    """What may change from one exit to the next: SBI extensions, counted events, who serves MMIO."""
    flags = 0
    if vcpu.sbi.awaits_overflow():
        vcpu.hart.kvm_native = 0
    if any(v.sbi.counts_events() for v in vcpu.vm.vcpus):
        flags |= COUNTS_EVENTS
    else:
        for rule in vcpu.policy.sbi:
            if rule.name in _SERVED and rule.mode == "kernel" and vcpu.sbi.enabled.get(rule.name):
                flags |= _SERVED[rule.name]
    if vcpu.vmm_waits and not vcpu.vm.io_bus and not vcpu.sbi.steal.reports:
        flags |= SERVES_MMIO
    vcpu.hart.kvm_flags = flags


def _write_policy(vcpu: Vcpu, policy: Policy) -> bool:
    """Write the policy's part; False if it does not fit."""
    hart, vm = vcpu.hart, vcpu.vm
    names = {name: n for n, name in enumerate(vcpu.stats.kvm)}
    if len(names) > len(hart.kvm_stat):
        return False
    for cause in range(64):
        counters = [names[n] + 1 for n in policy.rule(cause).counters if n in names]
        hart.kvm_action[cause] = _action(vm, policy, cause, names) if len(counters) <= 8 else BY_PYTHON
        hart.kvm_function[cause] = compiled(vm.actions[cause]) if cause in vm.actions else 0
        hart.kvm_counters[cause] = sum(n << 8 * at for at, n in enumerate(counters[:8]))
    hart.kvm_exits_stat = names.get("exits", -1) + 1
    known = [0] * len(hart.kvm_mmio_known)
    for instruction in INSTRUCTIONS:
        target = expansion(instruction.expands)[0] if instruction.expands else instruction
        special = instruction.name in _SP_STORES and policy.has_bug("mmio-refuses-sp-store-with-zero-bits")
        if instruction.name in policy.mmio.instructions and plain_access(target) is not None and not special:
            known[number_of(instruction) >> 6] |= 1 << (number_of(instruction) & 63)
    for n, word in enumerate(known):
        hart.kvm_mmio_known[n] = word
    for n, kind in KINDS.items():
        cost = estimate(kind.how[-1], kind.end, policy.release) if "HS" in kind.through else None
        hart.exit_cost[n] = cost.hs + cost.user if cost else 0
    hart.fw_flags = flags_of(vm.firmware.model)
    measured = vm.firmware.model.measured_on
    for n, event in enumerate((ILLEGAL, ATOMIC, ACCESS, PLAIN, ILLEGAL_TO_VS, AMO)):
        hart.fw_cost[n] = cost_of(event, measured).instructions
    for n, event in enumerate(i.name for i in plain_accesses()):
        hart.fw_cost[COST_EMULATED + n] = cost_of(event, measured).instructions if is_known(event) else 0
    hart.kvm_peer_count = len(vm.vcpus)
    for n, other in enumerate(vm.vcpus):
        hart.kvm_peers[n] = other.hart.address
    for n, (first, end) in enumerate(vm.mmio_windows):
        hart.kvm_windows[2 * n], hart.kvm_windows[2 * n + 1] = first, end
    return True


def _action(vm: Vm, policy: Policy, cause: int, names: dict[str, int]) -> int:
    rule = policy.rule(cause)
    if not rule.spv or rule.condition is not None:
        return BY_PYTHON
    flags = HAS_EVENT if rule.firmware_event else 0
    flags |= KEEPS_PRIVILEGE if policy.has_bug("redirect-keeps-privilege") else 0
    if cause in vm.actions:
        return BY_FUNCTION | flags
    if rule.action is Action.REDIRECT:
        return BY_REDIRECT | flags
    if rule.action is Action.SBI and cause == 10:
        return BY_SBI | flags
    if rule.action is Action.EMULATE and not policy.has_feature("wfi-of-user-is-illegal") and "wfi_exit_stat" in names:
        return BY_WFI | flags | names["wfi_exit_stat"] << STAT_SHIFT
    if rule.action is Action.MAP:
        mmio = rule.without_slot is Action.MMIO and not rule.without_slot_as
        flags |= ELSE_MMIO | (names.get("mmio_exit_user", 63) & 63) << STAT_SHIFT if mmio else 0
        return BY_PAGE_FAULT | flags
    return BY_PYTHON


# --- what native code did ---
def collect(vcpu: Vcpu) -> None:
    """Note the exits that native code has handled since the last time among the VM's last traps."""
    at = int(vcpu.hart.exit_ring_at)
    if at != vcpu.native_seen:
        vcpu.vm.note_native(vcpu.id, ring_entries(vcpu.hart, vcpu.native_seen))
        vcpu.native_seen = at
        for level in range(len(vcpu.vm.gstage.leaves)):
            vcpu.vm.gstage.leaves[level] += int(vcpu.hart.kvm_leaves[level])
            vcpu.hart.kvm_leaves[level] = 0


def record_of(vcpu_id: int, words: tuple[int, ...], version: str) -> TrapRecord:
    """Return the record of an exit from its words in the ring."""
    instret, index, epc, tval, gpa, firmware = words
    exit_ = native_exit(index)
    kind = KINDS[exit_.kind]
    cost = estimate(kind.how[-1], kind.end, version) if "HS" in kind.through else None
    return TrapRecord(
        instret=instret,
        vcpu=vcpu_id,
        cause=exit_.cause,
        origin=exit_.path[0],
        path=exit_.path,
        how=kind.how,
        end=kind.end,
        epc=epc,
        tval=tval,
        gpa=gpa if gpa != NO_GPA else None,
        raised=exit_.cause,
        m_instructions=firmware,
        hs_instructions=cost.hs if cost else 0,
        user_instructions=cost.user if cost else 0,
    )

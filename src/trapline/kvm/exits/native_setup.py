"""What hosted exits must know of policy, firmware and VMM, written into the hart before it runs; and what they did.

The exits are handled by kvm.native_exit, in native code or under CPython. Where somebody wants to see each of them
(Vm.on_trap) or counts what each does (an armed counter), KVM_RUN's loop comes round after each exit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trapline.engine.decode_table import numbers_of
from trapline.firmware.cost import cost_of, firmware_events
from trapline.firmware.exit_log import KINDS, NO_GPA, native_exit, ring_entries
from trapline.kvm.actions import compiled
from trapline.kvm.exits.kept_answers import forget_answers
from trapline.kvm.exits.map_native import SLOTS
from trapline.kvm.exits.native_exit import (
    BY_FUNCTION,
    BY_PAGE_FAULT,
    BY_PYTHON,
    BY_REDIRECT,
    BY_SBI,
    BY_VIRTUAL,
    ELSE_MMIO,
    EVENT_SHIFT,
    KEEPS_PRIVILEGE,
    NEEDS_SPV,
    STAT_SHIFT,
    WRS_SHIFT,
)
from trapline.kvm.exits.outside import held_words, outside_word
from trapline.kvm.exits.vcpu_exit import action_of
from trapline.kvm.flags import (
    CHECKS_ADDRESS,
    DECODES_IMPLICIT,
    FENCE_RANGE_WRAPS,
    OVERFLOW_WAKES,
    READS_AS_THE_GUEST,
    REFUSES_NO_HART,
    REFUSES_SP_ZERO,
    REFUSES_UNKNOWN,
    SERVES_HSM_STATUS,
    SERVES_IPI,
    SERVES_MMIO,
    SERVES_RFENCE,
    SERVES_TIME,
    SERVES_WRS,
    STATUS_OF_CALLER,
    WFI_OF_USER_IS_ILLEGAL,
)
from trapline.kvm.interrupts import converts_overflow
from trapline.kvm.nested.bugs import BITS
from trapline.kvm.nested.nacl import FEATURES, SERVED
from trapline.kvm.report.cost import estimate
from trapline.kvm.report.trace import TrapRecord
from trapline.kvm.uapi.numbers import MpState
from trapline.kvm.uapi.slots import SlotKind
from trapline.lang.state.words import EXIT_RING, LAYOUT, SBI_RULES
from trapline.policies import Action, Implicit, Policy
from trapline.privilege.causes import ECALL_VS, GUEST_PAGE_FAULTS, INST_GUEST_PAGE_FAULT
from trapline.sbi.numbers import FirmwareEvent

if TYPE_CHECKING:
    from trapline.kvm.vcpu import Vcpu
    from trapline.kvm.vm import Vm

# Of the rules' firmware_event: what the guest's PMU counts.
FIRMWARE_EVENTS = {
    "misaligned-load": FirmwareEvent.MISALIGNED_LOAD,
    "misaligned-store": FirmwareEvent.MISALIGNED_STORE,
    "access-load": FirmwareEvent.ACCESS_LOAD,
    "access-store": FirmwareEvent.ACCESS_STORE,
    "illegal-insn": FirmwareEvent.ILLEGAL_INSN,
}
_EVENTS = LAYOUT.fields["kvm_events"].index
_COUNTED = slice(_EVENTS, _EVENTS + len(FIRMWARE_EVENTS))
_RING_AT = LAYOUT.fields["exit_ring_at"].index
_LEAVES = LAYOUT.fields["kvm_leaves"].index
_EXITS_AT_A_TIME = 1 << 16
_SERVED = {"TIME": SERVES_TIME, "IPI": SERVES_IPI, "RFENCE": SERVES_RFENCE}


def prepare(vcpu: Vcpu) -> None:
    """Before KVM_RUN: how exits are to be handled, and how many of them before its loop looks around."""
    hart, vm = vcpu.hart, vcpu.vm
    refresh_actions(vcpu)
    hart.kvm_native = int(vm.engine.compiles)
    refresh_flags(vcpu)
    _write_slots(vcpu)


def refresh_actions(vcpu: Vcpu) -> None:
    """What is done with each cause, if what it follows from is not what it was."""
    now = vcpu.policy, vcpu.guest_debug, vcpu.config.henvcfg
    if vcpu.native_policy != now:
        vcpu.stats.fold(vcpu.hart)
        _write_policy(vcpu, vcpu.policy)
        vcpu.native_policy = now


def allow_exits(vcpu: Vcpu) -> None:
    """After how many exits KVM_RUN's loop is to come round."""
    vm, most = vcpu.vm, _EXITS_AT_A_TIME
    if vm.told_of_traps is not None:
        most = EXIT_RING * 3 // 4 if vm.told_late else 1
    vcpu.hart.kvm_exits_left = 1 if vcpu.sbi.awaits_overflow() else most


def _write_slots(vcpu: Vcpu) -> None:
    """The slots whose pages a hosted exit may map, RAM of the guest's alone that nobody logs; and what lies outside."""
    level = vcpu.vm.largest_level
    plain = [s for s in vcpu.vm.slots if s.kind is SlotKind.RAM and s.dirty is None and s.region is not None]
    words = [word for s in plain[:SLOTS] for word in (s.gpa, s.end, s.hpa, level)]
    words += [0] * (len(vcpu.hart.kvm_slots) - len(words))
    lost = vcpu.hart.kvm_slots[1] != words[1]  # restored from a snapshot
    known = [*words, *held_words(vcpu)]
    if known != vcpu.native_slots or lost:
        vcpu.native_slots = known.copy()
        for field in (vcpu.hart.kvm_slots, vcpu.hart.kvm_held):
            for n in range(len(field)):
                field[n] = known.pop(0)


def refresh_flags(vcpu: Vcpu) -> None:
    """What may change from one exit to the next: SBI extensions, whose calls nobody counts, and who serves MMIO."""
    vm, sbi = vcpu.vm, vcpu.sbi
    forget_answers(vcpu)
    counted = any(v.sbi.counts_events() for v in vm.vcpus)
    note_stopped(vm)
    given = vcpu.vmm_waits, bool(vm.io_bus), sbi.steal.reports, counted, sbi.v01_left_out, len(vm.vcpus)
    now = (vcpu.policy, *given, *sbi.enabled.values())
    if now != vcpu.native_flags[0] or vcpu.hart.kvm_flags != vcpu.native_flags[1]:
        vcpu.hart.kvm_flags = _flags(vcpu, counted)
        vcpu.native_flags = now, int(vcpu.hart.kvm_flags)


def _flags(vcpu: Vcpu, counted: bool) -> int:
    """The word of flags; SBI extensions that are there are written with it."""
    flags = 0
    placed = all(v.id == n for n, v in enumerate(vcpu.vm.vcpus))  # a hosted exit takes a hart id for a place
    if placed and not counted:
        for rule in vcpu.policy.sbi:
            if rule.name in _SERVED and rule.mode == "kernel" and vcpu.sbi.enabled.get(rule.name):
                flags |= _SERVED[rule.name]
    if vcpu.vmm_waits and not vcpu.vm.io_bus and not vcpu.sbi.steal.reports:
        flags |= SERVES_MMIO
    by_policy, hsm = _flags_of(vcpu.policy)
    for bit, holds in (
        (SERVES_HSM_STATUS, placed and hsm and bool(vcpu.sbi.enabled.get("HSM"))),
        (REFUSES_UNKNOWN, _write_sbi(vcpu)),
        (OVERFLOW_WAKES, converts_overflow(vcpu)),
    ):
        flags |= bit if holds else 0
    return flags | by_policy


_KNOWN: list[tuple[Policy, tuple[int, bool]]] = []  # the policy that was asked last, and what was found


def _flags_of(policy: Policy) -> tuple[int, bool]:
    """What follows from a policy alone, and whether its kernel serves HSM."""
    if not _KNOWN or _KNOWN[0][0] is not policy:
        flags = 0
        for bit, holds in (
            (STATUS_OF_CALLER, policy.has_bug("hsm-status-of-the-caller")),
            (REFUSES_NO_HART, not policy.has_bug("hsm-status-error-lost")),
            (FENCE_RANGE_WRAPS, policy.has_bug("fence-range-wraps")),
            (DECODES_IMPLICIT, policy.mmio.implicit is Implicit.ACCESS),
            (REFUSES_SP_ZERO, policy.has_bug("mmio-refuses-sp-store-with-zero-bits")),
            (WFI_OF_USER_IS_ILLEGAL, policy.has_feature("wfi-of-user-is-illegal")),
            (SERVES_WRS, policy.has_feature("wrs")),
            (READS_AS_THE_GUEST, policy.has_feature("reads-as-the-guest")),
            (CHECKS_ADDRESS, policy.has_feature("mmio-checks-address")),
        ):
            flags |= bit if holds else 0
        hsm = any(r.name == "HSM" and r.mode == "kernel" for r in policy.sbi)
        _KNOWN[:] = [(policy, (flags, hsm))]
    return _KNOWN[0][1]


def note_stopped(vm: Vm) -> None:
    """Which vCPUs are off, for HSM status."""
    for vcpu in vm.vcpus:
        vcpu.hart.kvm_stopped = int(vcpu.mp_state is MpState.STOPPED)


def _write_sbi(vcpu: Vcpu) -> bool:
    """Write the identifiers of the SBI extensions that are there; return whether there is room for all of them."""
    rules = vcpu.sbi.enabled_rules()
    if len(rules) > SBI_RULES:
        return False
    if rules != vcpu.sbi.native_rules:
        vcpu.sbi.native_rules = rules
        ranges = [(rule.first, rule.last) for rule in rules] + [(1, 0)] * (SBI_RULES - len(rules))
        for n, (first, last) in enumerate(ranges):
            vcpu.hart.kvm_sbi[2 * n], vcpu.hart.kvm_sbi[2 * n + 1] = first, last
    return bool(rules)


def _write_policy(vcpu: Vcpu, policy: Policy) -> None:
    """Write the policy's part."""
    hart, vm = vcpu.hart, vcpu.vm
    names = {name: n for n, name in enumerate(vcpu.stats.kvm)}
    if len(names) > len(hart.kvm_stat):
        raise ValueError(f"policy {policy.name}: {len(names)} counters, at most {len(hart.kvm_stat)} are possible")
    for cause in range(64):
        rule = policy.rule(cause)
        counters = {names[n] for n in rule.counters if n in names}
        event = FIRMWARE_EVENTS[rule.firmware_event] + 1 if rule.firmware_event else 0
        hart.kvm_action[cause] = _action(vcpu, policy, cause, names) | event << EVENT_SHIFT
        hart.kvm_function[cause] = _function(vm, cause)
        hart.kvm_counters[cause] = sum(1 << n for n in counters)
    for cause in GUEST_PAGE_FAULTS:
        hart.kvm_outside[cause - INST_GUEST_PAGE_FAULT] = 0 if vm.nested else outside_word(policy, cause)
    hart.kvm_exits_stat = names.get("exits", -1) + 1
    hart.kvm_nacl = sum(FEATURES[name] for name in vm.nacl) | SERVED if vm.nacl and vm.nested else 0
    hart.kvm_nested_bugs = sum(bit for name, bit in BITS.items() if policy.has_bug(name))
    known = [0] * len(hart.kvm_mmio_known)
    for name in policy.mmio.instructions:
        for number in numbers_of(name):
            known[number >> 6] |= 1 << (number & 63)
    for n, word in enumerate(known):
        hart.kvm_mmio_known[n] = word
    for n, kind in KINDS.items():
        cost = estimate(kind.how[-1], kind.end, policy.release) if "HS" in kind.through else None
        hart.exit_cost[n] = cost.hs + cost.user if cost else 0
    vm.firmware.write_model(hart)
    hart.kvm_peer_count = len(vm.vcpus)
    for n, other in enumerate(vm.vcpus):
        hart.kvm_peers[n] = other.hart.address
    for n, (first, end, device) in enumerate(vm.mmio_windows):
        hart.kvm_windows[2 * n], hart.kvm_windows[2 * n + 1] = first, end
        hart.kvm_window_io[n], hart.kvm_window_load[n], hart.kvm_window_store[n], _ = vm.engine.registers_of(device)


def _function(vm: Vm, cause: int) -> int:
    """What call_action gets for a cause: the address of the compiled action, or the cause itself under CPython."""
    if cause not in vm.actions:
        return 0
    return compiled(vm.actions[cause]) if vm.engine.compiles else cause


def _action(vcpu: Vcpu, policy: Policy, cause: int, names: dict[str, int]) -> int:
    vm, rule = vcpu.vm, policy.rule(cause)
    action = action_of(vcpu, rule)
    flags = NEEDS_SPV if rule.spv else 0
    flags |= KEEPS_PRIVILEGE if policy.has_bug("redirect-keeps-privilege") else 0
    if action is None:
        return BY_PYTHON
    if cause in vm.actions:
        return BY_FUNCTION | flags
    if action is Action.REDIRECT:
        return BY_REDIRECT | flags
    if action is Action.SBI and cause == ECALL_VS:
        return BY_SBI | flags
    if action is Action.EMULATE:
        stats = ("wfi_exit_stat", STAT_SHIFT), ("wrs_exit_stat", WRS_SHIFT)
        return BY_VIRTUAL | flags | sum((names.get(name, 63) & 63) << shift for name, shift in stats)
    if action is Action.MAP:
        mmio = rule.without_slot is Action.MMIO and not rule.without_slot_as
        flags |= ELSE_MMIO | (names.get("mmio_exit_user", 63) & 63) << STAT_SHIFT if mmio else 0
        return BY_PAGE_FAULT | flags
    return BY_PYTHON


# --- what hosted exits did ---
def collect(vcpu: Vcpu) -> None:
    """Note the exits that were handled since the last time among the VM's last traps, and tell who watches."""
    mem = vcpu.hart.mem
    at, events = mem[_RING_AT], mem[_COUNTED].tolist()
    if any(events):
        for event, n in enumerate(events):
            if n:
                vcpu.hart.kvm_events[event] = 0
                vcpu.count_firmware_event(FirmwareEvent(event), n)
    if at != vcpu.native_seen:
        vcpu.vm.note_native(vcpu.id, ring_entries(vcpu.hart, vcpu.native_seen))
        vcpu.native_seen = at
        leaves = vcpu.vm.gstage.leaves
        for level, mapped in enumerate(vcpu.hart.mem[_LEAVES : _LEAVES + len(leaves)].tolist()):
            if mapped:
                leaves[level] += mapped
                vcpu.hart.kvm_leaves[level] = 0


def check_last(vm: Vm) -> None:
    """ValueError if an exit among the VM's last traps, which come from a file, is none that the subset handles."""
    for record in vm._last:
        if isinstance(record, tuple):
            words = record[1]
            index, event, raised = (words[1], *words[5:]) if len(words) == 7 else (-1, 0, 0)
            if index >> 8 not in KINDS or not 0 <= event <= len(firmware_events()) or not 0 <= raised < 64:
                raise ValueError(f"last traps: {words} is no exit")


def record_of(vm: Vm, vcpu_id: int, words: tuple[int, ...]) -> TrapRecord:
    """Return the record of an exit from its words in the ring."""
    instret, index, epc, tval, gpa, event, raised = words
    price = cost_of(firmware_events()[event - 1], vm.firmware.model.measured_on) if event else None
    exit_ = native_exit(index)
    kind = KINDS[exit_.kind]
    cost = estimate(kind.how[-1], kind.end, vm.policy.release) if "HS" in kind.through else None
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
        raised=raised,
        m_instructions=price.instructions if price else 0,
        m_source=price.source if price else "",
        hs_instructions=cost.hs if cost else 0,
        user_instructions=cost.user if cost else 0,
    )

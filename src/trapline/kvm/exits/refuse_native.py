"""Accesses outside of all slots that the policy answers with an access fault, in native code.

Where something is stands in hart.kvm_held, pairs of first and last + 1: slots, then devices. hart.kvm_outside says by
cause what becomes of an access outside of the slots: a bit for each answer of the decoder (kvm.exits.mmio_access) for
which the guest gets a fault, FETCH for a fetch, and from FAULT_SHIFT the cause that it gets. 0: Python decides.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from trapline.kvm.exits.mmio_access import DECODED, IMPLICIT, MISALIGNED, UNSUPPORTED
from trapline.lang.functions import cold
from trapline.lang.state import Hart
from trapline.lang.values import U64
from trapline.policies import Action, Implicit, Policy, Refusal
from trapline.policies.causes import number
from trapline.privilege.causes import ACCESS_FAULTS, GUEST_PAGE_FAULTS, INST_GUEST_PAGE_FAULT

if TYPE_CHECKING:
    from trapline.kvm.vcpu import Vcpu

HELD, SLOTS_HELD = 16, 8  # ranges
LONGEST = 64  # bytes of an access: a cache block
NOWHERE = 1 << 63, 1 << 63  # no address of a guest
FETCH, FAULT_SHIFT = 1 << 7, 8


@cold
def is_held(hart: Hart, gpa: U64, devices: U64) -> bool:
    """Whether a slot, or with `devices` a device, may be within an access's reach."""
    held = False
    for i in range(HELD):
        if i < SLOTS_HELD or devices != 0:
            if gpa + LONGEST > hart.kvm_held[i * 2] and gpa < hart.kvm_held[i * 2 + 1] + LONGEST:
                held = True
    return held


def outside_words(vcpu: Vcpu) -> list[int]:
    """Return kvm_held and kvm_outside as they are to be now."""
    vm = vcpu.vm
    slots = [(s.gpa, s.end) for s in vm.slots]
    devices = [*(vm.devices or ()), *((first, end) for first, end, _ in vm.mmio_windows)]
    fits = len(slots) <= SLOTS_HELD and not vm.nested
    known = vm.devices is not None and len(devices) <= HELD - SLOTS_HELD and not vm.io_bus
    answers = [_answer(vcpu.policy, cause, known) if fits else 0 for cause in range(GUEST_PAGE_FAULTS[0], 24)]
    held = []
    for ranges, room in ((slots, SLOTS_HELD), (devices, HELD - SLOTS_HELD)):
        held += [*ranges, *[NOWHERE] * room][:room]
    return [word for pair in held for word in pair] + answers


def _answer(policy: Policy, cause: int, devices: bool) -> int:
    rule = policy.rule(cause)
    if cause not in GUEST_PAGE_FAULTS or rule.action is not Action.MAP:
        return 0
    if cause == INST_GUEST_PAGE_FAULT:
        redirects = rule.without_slot is Action.REDIRECT and bool(rule.without_slot_as)
        return FETCH | number(rule.without_slot_as) << FAULT_SHIFT if redirects else 0
    if rule.without_slot is not Action.MMIO or rule.without_slot_as:
        return 0
    mmio = policy.mmio
    refused = {
        DECODED: devices and rule.without_device is Refusal.REDIRECT,
        IMPLICIT: mmio.implicit is Implicit.REDIRECT,
        UNSUPPORTED: mmio.unsupported is Refusal.REDIRECT,
        MISALIGNED: mmio.misaligned is Refusal.REDIRECT,
    }
    return _bits(found for found, holds in refused.items() if holds) | _fault_of(cause) << FAULT_SHIFT


def _bits(numbers: Iterable[int]) -> int:
    return sum(1 << int(n) for n in numbers)


def _fault_of(cause: int) -> int:
    return dict(zip(GUEST_PAGE_FAULTS, ACCESS_FAULTS, strict=True))[cause]

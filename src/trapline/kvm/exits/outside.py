"""Accesses outside of all slots: what the policy says of those that no device serves, and the words of hosted exits.

A hosted exit gives the guest an access fault by itself where it is sure that nothing is there. Where something is
stands in hart.kvm_held, pairs of first and last + 1: slots, then devices. hart.kvm_outside says by cause what becomes
of an access outside of the slots: a bit for each answer of the decoder (kvm.exits.mmio_access) for which the guest gets
a fault, FETCH for a fetch, and from FAULT_SHIFT the cause that it gets. The rest is left to Python (kvm.exits.mmio).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trapline.kvm.exits.mmio_access import DECODED, IMPLICIT, MISALIGNED, UNSUPPORTED
from trapline.kvm.exits.redirect import ACCESS_FAULT_OF
from trapline.lang.functions import cold
from trapline.lang.state import Hart
from trapline.lang.values import U64
from trapline.policies import Action, CauseRule, Implicit, Policy, Refusal
from trapline.policies.causes import number
from trapline.policies.schema import Mmio
from trapline.privilege.causes import INST_GUEST_PAGE_FAULT

if TYPE_CHECKING:
    from trapline.kvm.vcpu import Vcpu

HELD, SLOTS_HELD = 16, 8  # ranges
LONGEST = 64  # bytes of an access: a cache block
NOWHERE, ANYWHERE = (1 << 63, 1 << 63), (0, 1 << 63)  # of a guest's addresses
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


def refusals(rule: CauseRule, mmio: Mmio) -> dict[int, tuple[Refusal, int]]:
    """What becomes of an access, by the decoder's answer (DECODED: where no device is), and the errno if it kills."""
    found = {
        MISALIGNED: (mmio.misaligned, mmio.misaligned_errno),
        UNSUPPORTED: (mmio.unsupported, mmio.unsupported_errno),
    }
    if mmio.implicit is not Implicit.ACCESS:
        found[IMPLICIT] = Refusal(mmio.implicit.value), rule.without_slot_errno
    if rule.without_device is not None:
        found[DECODED] = rule.without_device, rule.without_slot_errno
    return found


def held_words(vcpu: Vcpu) -> list[int]:
    """Return kvm_held as it is to be now: anywhere, where there are too many to name or nobody knows."""
    vm = vcpu.vm
    slots = [(s.gpa, s.end) for s in vm.slots]
    devices = [*(vm.devices or ()), *((first, end) for first, end, _ in vm.mmio_windows)]
    if vm.devices is None or vm.io_bus:
        devices = [ANYWHERE]
    held = []
    for ranges, room in ((slots, SLOTS_HELD), (devices, HELD - SLOTS_HELD)):
        held += [*ranges, *[NOWHERE] * room][:room] if len(ranges) <= room else [ANYWHERE] * room
    return [word for pair in held for word in pair]


def outside_word(policy: Policy, cause: int) -> int:
    """Return what a hosted exit does for a guest page fault outside of the slots; 0 if nothing."""
    rule = policy.rule(cause)
    if rule.action is not Action.MAP:
        return 0
    if cause == INST_GUEST_PAGE_FAULT:
        redirects = rule.without_slot is Action.REDIRECT and bool(rule.without_slot_as)
        return FETCH | number(rule.without_slot_as) << FAULT_SHIFT if redirects else 0
    if rule.without_slot is not Action.MMIO or rule.without_slot_as:
        return 0
    redirected = [found for found, (how, _) in refusals(rule, policy.mmio).items() if how is Refusal.REDIRECT]
    return sum(1 << found for found in redirected) | ACCESS_FAULT_OF[cause] << FAULT_SHIFT

"""Snapshots of a VM: its harts, memory, slots, G-stage table, vCPUs and firmware; and a new policy for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from trapline.firmware.firmware import Firmware
from trapline.firmware.models import FirmwareModel
from trapline.isa.decode import Decoder
from trapline.kvm.actions import actions_of
from trapline.kvm.sbi_fwft import guest_features
from trapline.kvm.slots import SlotKind
from trapline.machine.plain_state import Loader, Saver
from trapline.machine.snapshot import fill, made_with, read, write
from trapline.machine.snapshot_file import SnapshotError
from trapline.policies import Policy, load_policy
from trapline.policies.schema import CauseRule

if TYPE_CHECKING:
    from trapline.engine.api import Engine
    from trapline.kvm.vcpu import Vcpu
    from trapline.kvm.vm import Vm

# Configuration, not state: a restored VM has its own.
KEPT: tuple[type, ...] = (Policy, CauseRule, FirmwareModel, Decoder)


def about(vm: Vm) -> dict[str, Any]:
    """Return what has to be known before the VM can be built again."""
    firmware = vm.firmware
    return {
        "policy": msgspec.json.encode(vm.policy).decode(),
        "policy_name": vm.policy.name,
        "firmware": Saver().save(firmware.model, "firmware"),
        "firmware_name": firmware.model.name,
        "host_fwft": firmware.host_fwft,
        "instructions": [int(v.hart.instret) for v in vm.vcpus],
        "aia": None if vm.aia is None else vm.aia.arrangement(),
        "slots": [
            [s.slot, s.gpa, s.size, s.kind.value, str(s.file) if s.file else None]
            for s in sorted(vm.slots, key=lambda s: s.hpa)
        ],
    }


def arguments(head: dict[str, Any], path: str | Path) -> dict[str, Any]:
    """Return the arguments that build the saved VM or guest again, under the saved policy and firmware."""
    known = head["about"]
    given = made_with(head, path)
    given["policy"] = msgspec.json.decode(known["policy"], type=Policy)
    model = Loader().load(known["firmware"], None, "firmware")
    given["firmware"] = Firmware(model, host_fwft=known["host_fwft"])
    return given


def match_slots(vm: Vm, head: dict[str, Any], path: str | Path) -> None:
    """Give the VM the slots of the saved one; those that it has already must be the same."""
    wanted = [(n, gpa, size, SlotKind(kind), file) for n, gpa, size, kind, file in head["about"]["slots"]]
    for slot in list(vm.slots):
        if not any((slot.slot, slot.gpa, slot.size, slot.kind) == w[:4] for w in wanted):
            vm.remove_memory(slot)
    for n, gpa, size, kind, file in wanted:
        if vm.slots.number(n) is None:
            try:
                vm.add_memory(gpa, size, kind, file=Path(file) if file else None, slot=n)
            except (OSError, ValueError) as error:
                raise SnapshotError(f"{path}: {error}") from None


def snapshot_vm(vm: Vm, path: str | Path) -> int:
    """`Vm.snapshot`."""
    vm.fold_native()
    harts = [v.hart for v in vm.vcpus]
    kept = (*KEPT, type(vm.engine))
    return write(path, "vm", vm.made_with, harts, vm.regions, {"vm": vm}, kept=kept, about=about(vm))


def restore_vm(cls: type[Vm], path: str | Path, engine: str | Engine, policy: Policy | str | Path | None) -> Vm:
    """`Vm.restore`."""
    head, payload = read(path, "vm")
    vm = cls(**arguments(head, path), engine=engine)
    if head["about"]["aia"] is not None:
        device = vm.create_aia()
        for group, attribute, value in head["about"]["aia"]:
            device.set_attr(group, attribute, value)
    match_slots(vm, head, path)
    fill(head, payload, path, [v.hart for v in vm.vcpus], vm.regions, {"vm": vm})
    if policy is not None:
        change_policy(vm, policy)
    return vm


def change_policy(vm: Vm, policy: Policy | str | Path) -> None:
    """Let the VM go on under another policy, as if its host kernel had been replaced between two exits.

    What the guest was told at its boot stays: its ISA extensions, its timer. Everything else is the new
    policy's from the next entry on: delegation, exits, counters, SBI, known bugs.
    """
    new = policy if isinstance(policy, Policy) else load_policy(policy)
    for vcpu in vm.vcpus:
        vcpu.put()
    vm.policy = new
    vm.actions = actions_of(new)
    vm.require_mapping()
    vm.choose_backing(str(vm.made_with.get("backing", "auto")))
    for vcpu in vm.vcpus:
        _change_vcpu(vcpu, new)
    vm.notes = vm.policy_notes(vm.vcpus[0].hart)


def _change_vcpu(vcpu: Vcpu, new: Policy) -> None:
    vcpu.policy = new
    vcpu.guest_debug = False
    vcpu.config.hedeleg, vcpu.config.hideleg = new.hedeleg, new.hideleg
    vcpu.stats.fold(vcpu.hart)
    vcpu.stats.kvm = {c.name: vcpu.stats.kvm.get(c.name, 0) for c in new.counters}
    sbi = vcpu.sbi
    old = {number: feature.read() for number, feature in sbi.features.items()}
    sbi.features = guest_features(vcpu)
    for number, feature in sbi.features.items():
        if old.get(number):
            feature.write(1)
    before = sbi.enabled
    sbi.enabled = {rule.name: before.get(rule.name, rule.enabled) for rule in new.sbi if sbi.can_offer(rule.name)}
    sbi.refresh_profile()

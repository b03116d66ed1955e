"""Snapshots of a VM: its harts, memory, slots, G-stage table, vCPUs and firmware; and a new policy for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from trapline.firmware.cost import PLAIN, cost_of
from trapline.firmware.firmware import Firmware
from trapline.firmware.models import FirmwareModel
from trapline.isa.decode import Decoder
from trapline.kvm.actions import actions_of
from trapline.kvm.exits.native_setup import check_last
from trapline.kvm.exits.sbi_fwft import guest_features
from trapline.kvm.spec import VmSpec
from trapline.kvm.uapi.slots import MemorySlot, SlotKind
from trapline.machine.host_files import refuse, shown
from trapline.policies import Policy, load_policy
from trapline.policies.schema import CauseRule
from trapline.privilege.derived import update_derived
from trapline.session.state.plain_state import Saver, typed
from trapline.session.state.plain_types import U64
from trapline.session.state.snapshot import SpecT, blamed_on, fill, read, saved_spec, write

if TYPE_CHECKING:
    from trapline.engine.api import Engine
    from trapline.kvm.vcpu import Vcpu
    from trapline.kvm.vm import Vm
    from trapline.lang.state import Hart

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
            [s.slot, s.gpa, s.size, s.kind.value, str(s.file) if s.file else None, s.hpa]
            for s in sorted(vm.slots, key=lambda s: s.hpa)
        ],
    }


def saved_with(
    head: dict[str, Any], path: str | Path, kind: type[SpecT], *, own_policy: bool, trust: bool
) -> tuple[SpecT, Policy, Firmware]:
    """Return what builds the saved VM or guest again, under the saved policy and firmware.

    A policy's own functions are Python files of this host: they are refused unless `trust` is given, and left out
    where the VM goes on under another policy.
    """
    spec = saved_spec(head, path, kind)
    with blamed_on(path):
        known = head["about"]
        policy = msgspec.json.decode(known["policy"], type=Policy)
        functions = [rule.function for rule in policy.causes.values() if rule.function]
        if functions and own_policy and not trust:
            raise refuse([f"--policy FILE.toml with a function in {shown(each)}" for each in functions], path)
        if functions and not own_policy:
            rules = {cause: msgspec.structs.replace(rule, function="") for cause, rule in policy.causes.items()}
            policy = msgspec.structs.replace(policy, causes=rules)
        model = typed(known["firmware"], FirmwareModel, "firmware")
        cost_of(PLAIN, model.measured_on)
        return spec, policy, Firmware(model, host_fwft=bool(known["host_fwft"]))


def match_slots(vm: Vm, head: dict[str, Any]) -> None:
    """Give the VM the slots of the saved one, at the same host physical addresses; ValueError says what is wrong.

    What a file behind a slot held is in the snapshot: the file is not opened.
    """
    rows = typed(head["about"]["slots"], list[tuple[U64, U64, U64, SlotKind, str | None, U64]], "slots")
    wanted = {(n, gpa, size, kind, hpa): Path(file) if file else None for n, gpa, size, kind, file, hpa in rows}
    for slot in list(vm.slots):
        if (slot.slot, slot.gpa, slot.size, slot.kind, slot.hpa) not in wanted:
            vm.remove_memory(slot)
    for (n, gpa, size, kind, hpa), file in wanted.items():
        if vm.slots.number(n) is None:
            vm.restore_memory(MemorySlot(n, gpa, size, kind, hpa, file))


def harts_of(vm: Vm) -> list[Hart]:
    """The harts of a VM, and behind them those that guest hypervisors see."""
    nested = [v.nested for v in vm.vcpus if v.nested is not None]
    for each in nested:
        each.follow_memory()
    return [*(v.hart for v in vm.vcpus), *(n.hart for n in nested)]


def settle(vm: Vm) -> None:
    """Before a snapshot: take over what hosted exits counted; shadow tables are not saved, so nobody runs on one."""
    vm.fold_native()
    for vcpu in vm.vcpus:
        if vcpu.hart.kvm_world != 0:
            vcpu.put()
        if vcpu.nested is not None:
            vcpu.nested.hart.call(update_derived)


def snapshot_vm(vm: Vm, path: str | Path) -> int:
    """`Vm.snapshot`."""
    settle(vm)
    return write(path, "vm", vm.spec, harts_of(vm), vm.regions, {"vm": vm}, kept=kept(vm), about=about(vm))


def kept(vm: Vm) -> tuple[type, ...]:
    """What is configuration, not state."""
    return (*KEPT, type(vm.engine))


def restore_vm(
    cls: type[Vm], path: str | Path, engine: str | Engine, policy: Policy | str | Path | None, trust_files: bool
) -> Vm:
    """`Vm.restore`."""
    head, payload = read(path, "vm")
    spec, own, firmware = saved_with(head, path, VmSpec, own_policy=policy is None, trust=trust_files)
    with blamed_on(path):
        vm = cls(own, firmware=firmware, engine=engine, spec=spec)
        rows = typed(head["about"]["aia"], list[tuple[U64, U64, U64]] | None, "aia")
        if rows is not None:
            device = vm.create_aia()
            for group, attribute, value in rows:
                if device.set_attr(group, attribute, value):
                    raise ValueError(f"aia: KVM refuses attribute {attribute} of group {group}")
        match_slots(vm, head)
        fill(head, payload, path, harts_of(vm), vm.regions, {"vm": vm}, kept=kept(vm))
        check_last(vm)
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
    vm.choose_backing(vm.spec.backing)
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
    old = {number: feature.read() for number, feature in sbi.features.items() if feature.supported}
    sbi.features = guest_features(vcpu)
    for number, feature in sbi.features.items():
        if old.get(number) and feature.supported:
            feature.write(1)
    before = sbi.enabled
    sbi.enabled = {rule.name: before.get(rule.name, rule.enabled) for rule in new.sbi if sbi.can_offer(rule.name)}
    sbi.refresh_profile()

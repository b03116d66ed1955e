"""Snapshots of a guest with its user space: the VM, the devices, what the VMM has not yet answered."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trapline.dataclass import replace
from trapline.firmware.firmware import Firmware
from trapline.kvm.exits.native_setup import check_last
from trapline.kvm.snapshot import about, change_policy, harts_of, kept, match_slots, saved_with, settle
from trapline.kvm.uapi.slots import SlotKind
from trapline.machine.host_files import restored
from trapline.machine.virtio.options import VirtioOptions
from trapline.policies import Policy
from trapline.session.state.snapshot import fill, read, write
from trapline.vmm.spec import GuestSpec

if TYPE_CHECKING:
    from trapline.engine.api import Engine
    from trapline.session.terminal.console import Console
    from trapline.vmm.guest import Guest


def snapshot_guest(guest: Guest, path: str | Path) -> int:
    """`Guest.snapshot`."""
    vm = guest.vm
    settle(vm)
    harts = harts_of(vm)
    return write(path, "run", guest.spec, harts, vm.regions, {"guest": guest}, kept=_kept(guest), about=about(vm))


def _kept(guest: Guest) -> tuple[type, ...]:
    return (*kept(guest.vm), type(guest.console))


def restore_guest(
    cls: type[Guest],
    path: str | Path,
    engine: str | Engine,
    console: Console | None,
    policy: Policy | str | Path | None,
    virtio: VirtioOptions,
    trust_files: bool,
) -> Guest:
    """`Guest.restore`."""
    head, payload = read(path, "run")
    spec, own, firmware = saved_with(head, path, GuestSpec, own_policy=policy is None, trust=trust_files)
    # What files behind slots held is in the snapshot.
    spec = replace(spec, memslots=[replace(s, kind=_without_file(s.kind)) for s in spec.memslots])

    def make(spec: GuestSpec, trial: bool) -> Guest:
        if trial:
            return cls(own, firmware=Firmware(firmware.model), spec=spec, engine="reference")
        return cls(own, firmware=firmware, spec=spec, engine=engine, console=console)

    def give(guest: Guest, without: tuple[type, ...]) -> None:
        vm = guest.vm
        match_slots(vm, head)
        fill(head, payload, path, harts_of(vm), vm.regions, {"guest": guest}, kept=_kept(guest), without=without)
        check_last(vm)

    guest = restored(spec, virtio, trust_files, path, make, give)
    if policy is not None:
        change_policy(guest.vm, policy)
    return guest


def _without_file(kind: SlotKind) -> SlotKind:
    return SlotKind.RAM if kind is SlotKind.FILE else kind

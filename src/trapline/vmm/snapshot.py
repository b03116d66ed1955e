"""Snapshots of a guest with its user space: the VM, the devices, what the VMM has not yet answered."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trapline.kvm.snapshot import KEPT, about, arguments, change_policy, match_slots
from trapline.machine.snapshot import fill, read, write

if TYPE_CHECKING:
    from trapline.engine.api import Engine
    from trapline.machine.console import Console
    from trapline.policies import Policy
    from trapline.vmm.guest import Guest


def snapshot_guest(guest: Guest, path: str | Path) -> int:
    """`Guest.snapshot`."""
    vm = guest.vm
    vm.fold_native()
    harts = [v.hart for v in vm.vcpus]
    kept = (*KEPT, type(vm.engine))
    return write(path, "run", guest.made_with, harts, vm.regions, {"guest": guest}, kept=kept, about=about(vm))


def restore_guest(
    cls: type[Guest],
    path: str | Path,
    engine: str | Engine,
    console: Console | None,
    policy: Policy | str | Path | None,
) -> Guest:
    """`Guest.restore`."""
    head, payload = read(path, "run")
    guest = cls(**arguments(head, path), engine=engine, console=console)
    match_slots(guest.vm, head, path)
    fill(head, payload, path, [v.hart for v in guest.vm.vcpus], guest.vm.regions, {"guest": guest})
    if policy is not None:
        change_policy(guest.vm, policy)
    return guest

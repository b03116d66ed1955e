"""Snapshots of a guest with its user space: the VM, the devices, what the VMM has not yet answered."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trapline.firmware.firmware import Firmware
from trapline.kvm.exits.native_setup import check_last
from trapline.kvm.snapshot import about, change_policy, harts_of, kept, match_slots, saved_with, settle
from trapline.kvm.uapi.slots import SlotKind
from trapline.machine.host_files import host_files, uses_host, without_host
from trapline.machine.virtio.bus import VirtioBus
from trapline.machine.virtio.options import VirtioOptions
from trapline.policies import Policy
from trapline.session.state.snapshot import blamed_on, fill, read, write
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
    devices = host_files(spec.virtio, virtio, trust_files, path)
    if uses_host(devices):
        # Nothing of the host is opened for a file that is not good.
        bare = replace(spec, virtio=without_host(devices))
        alone = Firmware(firmware.model)
        _restored(cls, bare, own, alone, "reference", None, head, payload, path, without=(VirtioBus,))
    guest = _restored(cls, replace(spec, virtio=devices), own, firmware, engine, console, head, payload, path)
    if policy is not None:
        change_policy(guest.vm, policy)
    return guest


def _restored(
    cls: type[Guest],
    spec: GuestSpec,
    policy: Policy,
    firmware: Firmware,
    engine: str | Engine,
    console: Console | None,
    head: dict[str, Any],
    payload: memoryview,
    path: str | Path,
    without: Iterable[type] = (),
) -> Guest:
    with blamed_on(path):
        # What files behind slots held is in the snapshot.
        slots = [replace(s, kind=SlotKind.RAM) if s.kind is SlotKind.FILE else s for s in spec.memslots]
        spec = replace(spec, memslots=slots)
        guest = cls(policy, firmware=firmware, spec=spec, engine=engine, console=console)
        vm = guest.vm
        try:
            match_slots(vm, head)
            harts = harts_of(vm)
            fill(head, payload, path, harts, vm.regions, {"guest": guest}, kept=_kept(guest), without=without)
            check_last(vm)
        except BaseException:
            guest.close()
            raise
    return guest

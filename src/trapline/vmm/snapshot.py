"""Snapshots of a guest with its user space: the VM, the devices, what the VMM has not yet answered."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trapline.firmware.firmware import Firmware
from trapline.kvm.exits.native_setup import check_last
from trapline.kvm.snapshot import about, arguments, change_policy, harts_of, kept, match_slots, settle
from trapline.kvm.uapi.slots import SlotKind
from trapline.machine.host_files import host_files, uses_host, without_host
from trapline.machine.snapshot import blamed_on, fill, read, write
from trapline.machine.virtio.bus import VirtioBus
from trapline.machine.virtio.options import NO_VIRTIO, VirtioOptions

if TYPE_CHECKING:
    from trapline.engine.api import Engine
    from trapline.machine.console import Console
    from trapline.policies import Policy
    from trapline.vmm.guest import Guest


def snapshot_guest(guest: Guest, path: str | Path) -> int:
    """`Guest.snapshot`."""
    vm = guest.vm
    settle(vm)
    harts = harts_of(vm)
    return write(path, "run", guest.made_with, harts, vm.regions, {"guest": guest}, kept=_kept(guest), about=about(vm))


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
    given = arguments(head, path, cls.__init__, own_policy=policy is None, trust=trust_files)
    devices = host_files(given.get("virtio", NO_VIRTIO), virtio, trust_files, path)
    if uses_host(devices):
        # Nothing of the host is opened for a file that is not good.
        bare = {**given, "virtio": without_host(devices), "firmware": Firmware(given["firmware"].model)}
        _restored(cls, bare, "reference", None, head, payload, path, without=(VirtioBus,))
    guest = _restored(cls, {**given, "virtio": devices}, engine, console, head, payload, path)
    if policy is not None:
        change_policy(guest.vm, policy)
    return guest


def _restored(
    cls: type[Guest],
    given: dict[str, Any],
    engine: str | Engine,
    console: Console | None,
    head: dict[str, Any],
    payload: memoryview,
    path: str | Path,
    without: Iterable[type] = (),
) -> Guest:
    with blamed_on(path):
        # What files behind slots held is in the snapshot.
        slots = [replace(s, kind=SlotKind.RAM) if s.kind is SlotKind.FILE else s for s in given.get("memslots", ())]
        guest = cls(**{**given, "memslots": slots}, engine=engine, console=console)
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

"""Snapshots of a board."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trapline.dataclass import replace
from trapline.machine.host_files import host_files, uses_host, without_host
from trapline.machine.spec import MachineSpec
from trapline.machine.virtio.bus import VirtioBus
from trapline.machine.virtio.options import VirtioOptions
from trapline.privilege.protection import KIND_RAM
from trapline.session.state.plain_state import typed
from trapline.session.state.plain_types import U64
from trapline.session.state.snapshot import blamed_on, fill, read, saved_spec, write

if TYPE_CHECKING:
    from trapline.engine.api import Engine
    from trapline.machine.machine import Machine


def _parts(machine: Machine) -> dict[str, Any]:
    """Return everything on a board that may have state; the order is that of the file."""
    return {"machine": machine, "devices": {r.name: r.device for r in machine.regions if r.device is not None}}


def snapshot_board(machine: Machine, path: str | Path) -> int:
    """`Machine.snapshot`."""
    from trapline.session.terminal.console import Console

    htif = machine.htif
    about = {
        "instructions": [int(h.instret) for h in machine.harts],
        "ram": sum(r.size for r in machine.regions if r.kind == KIND_RAM),
        "htif": None if htif is None else [htif.tohost, htif.fromhost],
    }
    kept = (Console, type(machine.engine))
    return write(path, "boot", machine.spec, machine.harts, machine.regions, _parts(machine), kept=kept, about=about)


def restore_board(
    cls: type[Machine], path: str | Path, engine: str | Engine, console: Any, virtio: VirtioOptions, trust_files: bool
) -> Machine:
    """`Machine.restore`."""

    head, payload = read(path, "boot")
    spec = saved_spec(head, path, MachineSpec)
    devices = host_files(spec.virtio, virtio, trust_files, path)
    if uses_host(devices):
        # Nothing of the host is opened for a file that is not good.
        bare = replace(spec, virtio=without_host(devices))
        _restored(cls, bare, "reference", None, head, payload, path, without=(VirtioBus,))
    return _restored(cls, replace(spec, virtio=devices), engine, console, head, payload, path)


def _restored(
    cls: type[Machine],
    spec: MachineSpec,
    engine: str | Engine,
    console: Any,
    head: dict[str, Any],
    payload: memoryview,
    path: str | Path,
    without: Iterable[type] = (),
) -> Machine:
    from trapline.session.terminal.console import Console

    with blamed_on(path):
        machine = cls(spec, engine=engine, console=console)
        try:
            htif = typed(head["about"]["htif"], tuple[U64, U64 | None] | None, "htif")
            if htif is not None:
                machine.serve_htif(*htif)
            kept = (Console, type(machine.engine))
            fill(head, payload, path, machine.harts, machine.regions, _parts(machine), kept=kept, without=without)
        except BaseException:
            machine.close()
            raise
    return machine

"""Snapshots of a board."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from trapline.machine.host_files import restored
from trapline.machine.spec import MachineSpec
from trapline.machine.virtio.options import VirtioOptions
from trapline.privilege.protection import KIND_RAM
from trapline.session.state.plain_state import typed
from trapline.session.state.plain_types import U64
from trapline.session.state.snapshot import fill, read, saved_spec, write

if TYPE_CHECKING:
    from trapline.engine.api import Engine
    from trapline.machine.machine import Machine


def _parts(machine: Machine) -> dict[str, Any]:
    """Return everything on a board that may have state; the order is that of the file."""
    return {"machine": machine, "devices": {r.name: r.device for r in machine.regions if r.device is not None}}


def _kept(machine: Machine) -> tuple[type, ...]:
    return type(machine.console), type(machine.engine)


def snapshot_board(machine: Machine, path: str | Path) -> int:
    """`Machine.snapshot`."""
    htif = machine.htif
    about = {
        "instructions": [int(h.instret) for h in machine.harts],
        "ram": sum(r.size for r in machine.regions if r.kind == KIND_RAM),
        "htif": None if htif is None else [htif.tohost, htif.fromhost],
    }
    kept = _kept(machine)
    return write(path, "boot", machine.spec, machine.harts, machine.regions, _parts(machine), kept=kept, about=about)


def restore_board(
    cls: type[Machine], path: str | Path, engine: str | Engine, console: Any, virtio: VirtioOptions, trust_files: bool
) -> Machine:
    """`Machine.restore`."""
    head, payload = read(path, "boot")

    def make(spec: MachineSpec, trial: bool) -> Machine:
        return cls(spec, engine="reference" if trial else engine, console=None if trial else console)

    def give(machine: Machine, without: tuple[type, ...]) -> None:
        htif = typed(head["about"]["htif"], tuple[U64, U64 | None] | None, "htif")
        if htif is not None:
            machine.serve_htif(*htif)
        kept = _kept(machine)
        fill(head, payload, path, machine.harts, machine.regions, _parts(machine), kept=kept, without=without)

    return restored(saved_spec(head, path, MachineSpec), virtio, trust_files, path, make, give)

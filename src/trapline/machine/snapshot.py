"""Snapshots of harts, memory and objects: what the board and the VM share, and the board's own.

A restored machine goes on as the saved one would have, on either engine: everything that decides what
happens next is in the file. Caches (translations, decoded code) are not; the hardware that they model
may drop them at any time, and taking a snapshot drops the translations of the machine that goes on, too.
"""

from __future__ import annotations

import hashlib
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trapline.lang.state import LAYOUT, Hart
from trapline.machine import snapshot_file
from trapline.machine.plain_state import Loader, Saver, StateError
from trapline.machine.regions import Regions
from trapline.machine.snapshot_file import SnapshotError
from trapline.privilege.protection import KIND_RAM

if TYPE_CHECKING:
    from trapline.engine.api import Engine
    from trapline.machine.machine import Machine

SAVED = tuple(f for f in LAYOUT.fields.values() if not f.host)


def layout_digest() -> str:
    """Return what identifies the layout of a saved hart."""
    return hashlib.sha256(repr([(f.name, f.count) for f in SAVED]).encode()).hexdigest()[:16]


def save_hart(hart: Hart) -> str:
    """Return all words of a hart that mean something outside this process."""
    raw = b"".join(bytes(hart.mem[f.index : f.index + f.count]) for f in SAVED)
    return b64encode(zlib.compress(raw, 1)).decode()


def load_hart(hart: Hart, text: str) -> None:
    """Give a hart of the same layout its saved words; its translations are forgotten."""
    words = memoryview(zlib.decompress(b64decode(text))).cast("Q")
    at = 0
    for f in SAVED:
        hart.mem[f.index : f.index + f.count] = words[at : at + f.count]
        at += f.count
    hart.on_flush_translations()


def write(
    path: str | Path,
    kind: str,
    made_with: dict[str, Any],
    harts: Sequence[Hart],
    regions: Regions,
    state: dict[str, Any],
    *,
    kept: Iterable[type] = (),
    about: dict[str, Any] | None = None,
) -> int:
    """Write a snapshot; `state` is saved as `plain_state` does, `about` as it is. Return the file's size."""
    saver = Saver(kept)
    try:
        head = {
            "kind": kind,
            "trapline": _version(),
            "layout": layout_digest(),
            "made_with": saver.save(made_with, "made_with"),
            "state": {name: saver.save(part, name) for name, part in state.items()},
            "about": about or {},
        }
    except StateError as error:
        raise SnapshotError(f"cannot make a snapshot: {error}") from None
    for hart in harts:
        hart.on_flush_translations()
    head["harts"] = [save_hart(hart) for hart in harts]
    head["memory"], payload = snapshot_file.pack(_memory(regions).items())
    return snapshot_file.write(path, head, payload)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("trapline")
    except PackageNotFoundError:
        return "not installed"


def _memory(regions: Regions) -> dict[str, memoryview]:
    return {f"{n} {r.name} {r.base:#x}": r.backing.view for n, r in enumerate(regions) if r.backing is not None}


def read(path: str | Path, kind: str) -> tuple[dict[str, Any], memoryview]:
    """Return head and payload of a snapshot of this kind that this version can restore."""
    head, payload = snapshot_file.read(path)
    if head["kind"] != kind:
        raise SnapshotError(f"{path}: a snapshot of `trapline {head['kind']}`: restore it with that command")
    if head["layout"] != layout_digest():
        raise SnapshotError(f"{path}: made by another version of trapline ({head['trapline']}): make a new one")
    return head, payload


def made_with(head: dict[str, Any], path: str | Path) -> dict[str, Any]:
    """Return the arguments that the saved machine was made with."""
    try:
        return dict(Loader().load(head["made_with"], None, "made_with"))
    except StateError as error:
        raise SnapshotError(f"{path}: {error}") from None


def fill(
    head: dict[str, Any],
    payload: memoryview,
    path: str | Path,
    harts: Sequence[Hart],
    regions: Regions,
    state: dict[str, Any],
) -> None:
    """Give a machine that was made with the same arguments what the snapshot holds."""
    memory = _memory(regions)
    for region in regions:
        # Whoever built the machine has loaded nothing into it; only a file behind a slot is not zero.
        if region.backing is not None and region.backing.from_file:
            region.backing.view[:] = bytes(region.size)
    if len(head["harts"]) != len(harts):
        raise SnapshotError(f"{path}: holds {len(head['harts'])} harts, the machine has {len(harts)}")
    snapshot_file.unpack(head["memory"], payload, memory, str(path))
    try:
        for name, part in state.items():
            Loader().load(head["state"][name], part, name)
    except (OSError, ValueError) as error:
        raise SnapshotError(f"{path}: {error}") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise SnapshotError(f"{path}: does not fit this version of trapline: {error}") from None
    for hart, text in zip(harts, head["harts"], strict=True):
        load_hart(hart, text)


def _parts(machine: Machine) -> dict[str, Any]:
    """Return everything on a board that may have state; the order is that of the file."""
    return {"machine": machine, "devices": {r.name: r.device for r in machine.regions if r.device is not None}}


def snapshot_board(machine: Machine, path: str | Path) -> int:
    """`Machine.snapshot`."""
    from trapline.machine.console import Console

    htif = machine.htif
    about = {
        "instructions": [int(h.instret) for h in machine.harts],
        "ram": sum(r.size for r in machine.regions if r.kind == KIND_RAM),
        "htif": None if htif is None else [htif.tohost, htif.fromhost],
    }
    kept = (Console, type(machine.engine))
    return write(
        path, "boot", machine.made_with, machine.harts, machine.regions, _parts(machine), kept=kept, about=about
    )


def restore_board(cls: type[Machine], path: str | Path, engine: str | Engine, console: Any) -> Machine:
    """`Machine.restore`."""
    head, payload = read(path, "boot")
    machine = cls(**made_with(head, path), engine=engine, console=console)
    if head["about"]["htif"] is not None:
        machine.serve_htif(*head["about"]["htif"])
    fill(head, payload, path, machine.harts, machine.regions, _parts(machine))
    return machine

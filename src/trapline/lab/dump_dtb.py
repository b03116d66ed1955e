"""`--dump-dtb FILE`: the device tree that a board or a guest would start with; nothing runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from trapline.lab.boot import BootOptions, make_machine
from trapline.lab.errors import UsageError
from trapline.lab.guest_run import RunOptions, make_guest
from trapline.lab.output import require_writable, written
from trapline.lab.snapshots import SnapshotOptions

OPTION = "--dump-dtb"
_ENGINE = "reference"  # nothing runs: no native code is made for it


def dump_board_tree(options: BootOptions, path: str) -> None:
    """Write a board's tree, flattened (Devicetree specification, chapter 5).

    Without a program it is the empty board's. UsageError: the input is wrong, or the file cannot be written.
    """
    _check(options.snapshots, path)
    _write(make_machine(replace(options, engine=_ENGINE), tree_alone=True).tree, path)


def dump_guest_tree(options: RunOptions, path: str) -> None:
    """Write a guest's tree, as `dump_board_tree` does a board's."""
    _check(options.snapshots, path)
    _write(make_guest(replace(options, engine=_ENGINE), tree_alone=True).tree, path)


def _check(snapshots: SnapshotOptions, path: str) -> None:
    if snapshots.restore is not None:
        remedy = "name the program instead, with the options that the snapshot was made with"
        raise UsageError("a snapshot's device tree is in its memory", OPTION, remedy)
    require_writable(path, OPTION)


def _write(tree: bytes, path: str) -> None:
    with written(path, OPTION):
        Path(path).write_bytes(tree)

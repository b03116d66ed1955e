"""What a restored machine would open of the host: named on the command line, or vouched for, or refused.

A snapshot may come from anybody. Of its own accord it opens no disk image, shares no folder, reaches no network and
writes no file: it says which it was made with, and whoever restores it says which there shall be now.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from trapline.dataclass import replace
from trapline.machine.virtio.bus import VirtioBus
from trapline.machine.virtio.options import NO_VIRTIO, VirtioOptions
from trapline.session.state.snapshot import blamed_on
from trapline.session.state.snapshot_file import SnapshotError

TRUST = "--trust-snapshot-files"


def shown(text: str) -> str:
    """A word of a file as a shell takes it; what cannot be printed is escaped."""
    return shlex.quote(text) if text.isprintable() else repr(text)


def refuse(wanted: list[str], path: str | Path) -> SnapshotError:
    """The error that lists what a snapshot wants of the host, as options."""
    return SnapshotError(
        f"{path}: it was made with {' '.join(wanted)}: name here what it shall have of this host, "
        f"or give {TRUST} if you trust whoever made it"
    )


def host_files(saved: VirtioOptions, given: VirtioOptions, trust: bool, path: str | Path) -> VirtioOptions:
    """Return the devices of a saved machine with what they use of this host.

    `given` names it, by kind of option; `trust` takes the rest as it was. SnapshotError lists what nobody named,
    and says where as many are needed as the machine has.
    """
    wanted: list[str] = []
    chosen: dict[str, tuple[str, ...]] = {}
    for kind, old, new in (
        ("drive", saved.drive, given.drive),
        ("net", _card(saved), _card(given)),
        ("share", saved.share, given.share),
    ):
        options = [f"--{kind} {shown(text)}" for text in old]
        if new and len(new) != len(old):
            was = f"made with {' '.join(options)}" if old else "made without"
            raise SnapshotError(f"{path}: {len(new)} of --{kind}, but the machine was {was}")
        chosen[kind] = new or old
        wanted += options if not new and not trust else []
    if wanted:
        raise refuse(wanted, path)
    net = chosen["net"][0] if chosen["net"] else NO_VIRTIO.net
    return replace(saved, drive=chosen["drive"], net=net, share=chosen["share"])


class Closable(Protocol):
    """What holds files and sockets of this host."""

    def close(self) -> object:
        """Give them back."""


Made = TypeVar("Made", bound=Closable)


def restored(
    spec: Any,
    given: VirtioOptions,
    trust: bool,
    path: str | Path,
    make: Callable[[Any, bool], Made],
    fill: Callable[[Made, tuple[type, ...]], None],
) -> Made:
    """Return the machine of a snapshot, made of its specification by `make(spec, trial)` and `fill`ed.

    `fill` leaves out objects of the types that it is given. Nothing of the host is opened for a file that is not
    good: where devices use something of it, one that uses nothing is made and filled before, on trial.
    """
    devices = host_files(spec.virtio, given, trust, path)

    def made(virtio: VirtioOptions, trial: bool, *without: type) -> Made:
        with blamed_on(path):
            found = make(replace(spec, virtio=virtio), trial)
            try:
                fill(found, without)
            except BaseException:
                found.close()
                raise
        return found

    if devices.drive or devices.share or _card(devices):
        made(replace(devices, drive=(), net=NO_VIRTIO.net, share=()), True, VirtioBus)
    return made(devices, False)


def _card(options: VirtioOptions) -> tuple[str, ...]:
    return () if options.net == NO_VIRTIO.net else (options.net,)

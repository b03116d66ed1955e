"""`--share DIR[:TAG][,ro]`: reading it, and opening the folder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from trapline.machine.virtio.p9.device import P9Device
from trapline.machine.virtio.p9.files import Share
from trapline.machine.virtio.words import split_words

DEFAULT_TAG = "share"
_TAG = re.compile(r"[A-Za-z0-9_.-]{1,63}")
_USAGE = "write DIR[:TAG][,ro]"


@dataclass(frozen=True, slots=True)
class ShareArgument:
    """A folder that the user shares."""

    folder: Path
    tag: str = DEFAULT_TAG
    read_only: bool = False


def parse_share(text: str, number: int = 0) -> ShareArgument:
    """Read the option; without a TAG the first folder is `share`, the next `share1`."""
    name, *words = split_words(text)
    for word in words:
        if word not in ("ro", "rw"):
            raise ValueError(f"share {text!r}: {word!r} is not known ({_USAGE})")
    tag = f"{DEFAULT_TAG}{number or ''}"
    folder, colon, last = name.rpartition(":")
    if colon and not Path(name).is_dir():
        name, tag = folder, last
        if not _TAG.fullmatch(tag):
            raise ValueError(f"share {text!r}: the tag {tag!r} must be 1 to 63 letters, digits, '_', '.' or '-'")
    if not name:
        raise ValueError(f"share {text!r} names no folder: {_USAGE}")
    return ShareArgument(Path(name), tag, "ro" in words)


def open_share(argument: ShareArgument, descriptors: int | None = None) -> P9Device:
    """Open the folder, whose guest may hold so many descriptors; ValueError says in one line what is wrong with it."""
    try:
        share = Share(str(argument.folder), read_only=argument.read_only, descriptors=descriptors)
    except OSError as error:
        raise ValueError(f"{argument.folder}: cannot share this folder: {error.strerror or error}") from None
    return P9Device(share, argument.tag)

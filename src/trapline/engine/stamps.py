"""Small things that a start would compute again, kept with what they were made from: which files, as they were then.

A stamp of a file is what its writing changes. Files that were written just now are not trusted to show another change.
"""

from __future__ import annotations

import marshal
import os
import sys
import time
import zlib
from collections.abc import Iterable
from typing import Any

Stamp = tuple[str, int, int, int]
SETTLED = 2_000_000_000  # ns after which another change of a file shows in its times


# What marshal writes is for one version of Python; the number is that of what trapline keeps this way.
_FORM = f"1 {sys.hexversion:x} ".encode()


def stamp(path: str) -> Stamp | None:
    """When a file or folder was last changed, its size and its number; None if it is not there."""
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return path, max(found.st_mtime_ns, found.st_ctime_ns), found.st_size, found.st_ino


def stamps(paths: Iterable[str], settled: int = SETTLED) -> list[Stamp] | None:
    """The stamps of files; None if one is not there, or was changed so lately that it may change unseen."""
    found = [stamp(path) for path in paths]
    latest = time.time_ns() - settled
    return None if any(one is None or one[1] > latest for one in found) else found  # type: ignore[return-value]


def unchanged(known: Iterable[Stamp]) -> bool:
    """Whether all these files are as they were."""
    return all(stamp(one[0]) == one for one in known)


def library(name: str) -> list[str]:
    """The files and folders that show another version of a package being installed; none if it is not in a folder."""
    for folder in sys.path:
        here = f"{folder}{os.sep}{name}{os.sep}__init__.py"
        if folder and os.path.exists(here):  # noqa: PTH110
            return [here, folder]
    return []


def packed(value: Any) -> bytes:
    """The bytes of plain values, with a check sum, for this Python."""
    data = _FORM + marshal.dumps(value)
    return zlib.crc32(data).to_bytes(4, "little") + data


def unpacked(data: bytes | None) -> Any:
    """What was packed; None if it is not whole, or another Python's."""
    if data is None or len(data) < 5 or zlib.crc32(data[4:]).to_bytes(4, "little") != data[:4]:
        return None
    return marshal.loads(data[4 + len(_FORM) :]) if data[4:].startswith(_FORM) else None

"""The names of compiled code for `perf`: lines of address, size and name in the file where perf looks for them.

Written where TRAPLINE_PERF_MAP is set.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def add(names: Iterable[tuple[int, int, str]]) -> None:
    """Append (address, size in bytes, name) of code of this process."""
    if os.environ.get("TRAPLINE_PERF_MAP"):
        import tempfile

        with (Path(tempfile.gettempdir()) / f"perf-{os.getpid()}.map").open("a") as out:
            out.writelines(f"{address:x} {size:x} {name}\n" for address, size, name in names)


def add_image(symbols: dict[str, int], base: int, size: int) -> None:
    """Append the functions of an image: each ends where the next begins."""
    ordered = sorted((offset, name) for name, offset in symbols.items())
    ends = [offset for offset, _ in ordered[1:]] + [size]
    add((base + at, end - at, name) for (at, name), end in zip(ordered, ends, strict=True))

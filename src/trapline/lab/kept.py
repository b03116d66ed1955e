"""What trapline keeps between runs in its cache directory."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from trapline.engine.cache import image_key
from trapline.engine.kept_files import cache_directory, cache_trouble
from trapline.lab.errors import UsageError

KINDS = {
    "engine": ("native-*.bin",),
    "regions": ("regions-*.sqlite", "regions-*.sqlite-wal", "regions-*.sqlite-shm"),
    "templates": ("templates-*.json",),
    "start": ("tables-*.bin", "key-*.bin", "command-line-*.bin", "code-*.bin"),
}


@dataclass(frozen=True, slots=True)
class Kind:
    """Files of one kind: how many, their bytes, and how many fit the program as it is now."""

    name: str
    files: int
    size: int
    current: int


@dataclass(frozen=True, slots=True)
class Kept:
    """The cache directory, what it holds, and the regions that the program as it is now can use."""

    directory: Path
    kinds: tuple[Kind, ...]
    regions: int
    instructions: int
    trouble: str = ""  # why the directory is not used

    def as_data(self) -> dict[str, object]:
        """Return the result as JSON takes it."""
        kinds = {k.name: {"files": k.files, "bytes": k.size, "current": k.current} for k in self.kinds}
        return {
            "directory": str(self.directory), "kinds": kinds, "regions": self.regions,
            "instructions": self.instructions, "trouble": self.trouble or None,
        }  # fmt: skip


def folder() -> Path:
    """The cache directory; UsageError if there can be none."""
    try:
        return cache_directory()
    except OSError as error:
        raise UsageError(str(error.strerror)) from None


def files_of(kind: str) -> list[Path]:
    """The files of a kind."""
    return [path for pattern in KINDS[kind] for path in sorted(folder().glob(pattern))]


def regions_of(path: Path) -> tuple[int, int]:
    """How many regions a file has, and how many instructions they hold."""
    if not path.exists():
        return 0, 0
    with contextlib.suppress(sqlite3.Error):
        file = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            count, total = file.execute("select count(*), coalesce(sum(instructions), 0) from regions").fetchone()
        finally:
            file.close()
        return int(count), int(total)
    return 0, 0


def kept() -> Kept:
    """Look at the cache directory."""
    key, kinds = image_key(), []
    for name in KINDS:
        found = files_of(name)
        current = sum(key in path.name and not path.name.endswith(("-wal", "-shm")) for path in found)
        main = [path for path in found if not path.name.endswith(("-wal", "-shm"))]
        kinds.append(Kind(name, len(main), sum(path.stat().st_size for path in found), current))
    regions, instructions = regions_of(folder() / f"regions-{key}.sqlite")
    return Kept(folder(), tuple(kinds), regions, instructions, cache_trouble())


def clear() -> Kept:
    """Remove the files of every kind; return what was there."""
    there = kept()
    for name in KINDS:
        for path in files_of(name):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise UsageError(f"{error.strerror}", str(path)) from None
    return there

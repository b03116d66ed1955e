"""Compiled regions on disk: found by the guest's bytes, the semantics and the host, so that none can be stale.

One SQLite file for each native image (`cache.image_key`: sources, compiler, host). SQLite makes it safe for several
processes at once and for one that is killed while it writes. A file that is damaged is thrown away.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trapline.engine.cache import cache_directory, image_key
from trapline.engine.jit.source import ANY, Modes, Source, Where, pack, unpack

if TYPE_CHECKING:
    from trapline.engine.code import CodePage, Covered
    from trapline.engine.jit.source import Pages

LIMIT = 128 << 20  # bytes of all regions of a file
WINDOW = 16  # bytes at an entry by which a region is found
FILES = 4
BUSY_SECONDS = 5.0

SCHEMA = """
create table if not exists regions (
    key blob primary key, isa text not null, window blob not null, covered blob not null, code blob not null,
    instructions integer not null, used integer not null);
create index if not exists by_isa on regions (isa);
"""


@dataclass(frozen=True, slots=True)
class Kept:
    """A region that the file has: its row, the bytes that it was made from, and how many instructions it holds."""

    row: int
    where: tuple[Where, ...]
    modes: Modes
    entries: tuple[int, ...]
    covered: Covered
    digest: bytes
    instructions: int


def window_of(page: CodePage, head: int) -> bytes:
    """What a region is looked up by: a place in the page where it is entered, and the first bytes there."""
    return head.to_bytes(2, "little") + bytes(page.snapshot[head : head + WINDOW]).ljust(WINDOW, b"\0")


def path_of(key: str | None = None) -> Path:
    """The file for the native image of now."""
    return cache_directory() / f"regions-{key or image_key()}.sqlite"


class RegionStore:
    """The regions of one ISA in one file. Every method may be called from the thread that made it, and no other."""

    def __init__(self, isa: str, path: Path | None = None) -> None:
        self.isa = hashlib.sha256(isa.encode()).hexdigest()[:16]
        self.path = path or path_of()
        self.index: dict[bytes, list[Kept]] = {}
        self._rows: list[tuple[object, ...]] = []
        self._used: set[int] = set()
        self._file: sqlite3.Connection | None = None
        with contextlib.suppress(sqlite3.Error, OSError):
            self._open_in_time()

    def _open_in_time(self) -> None:
        """Open the file. SQLite does not wait by itself where another process just makes it: try again then."""
        end = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                self._open()
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                    raise
                time.sleep(0.01)
            except sqlite3.DatabaseError:
                self.discard()
                self._open()
                return

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = sqlite3.connect(self.path, timeout=BUSY_SECONDS)
        file.executescript("pragma journal_mode=wal; pragma synchronous=off;" + SCHEMA)
        rows = file.execute("select rowid, window, covered, key, instructions from regions where isa = ?", (self.isa,))
        for row, windows, covered, key, instructions in rows:
            kept = Kept(row, *unpack(covered), key[:16], instructions)
            for at in range(0, len(windows), 2 + WINDOW):
                self.index.setdefault(windows[at : at + 2 + WINDOW], []).append(kept)
        self._file = file

    def discard(self) -> None:
        """Throw a damaged file away."""
        if self._file is not None:
            with contextlib.suppress(sqlite3.Error):
                self._file.close()
        self._file = None
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)

    def find(self, pages: Pages, head: int) -> tuple[Source, bytes, int] | None:
        """The largest kept region whose bytes lie around a head: what it is made of, its code, its instructions."""
        best: tuple[Kept, Source] | None = None
        for kept in self.index.get(window_of(pages.found[0], head), ()):
            if best is None or kept.instructions > best[0].instructions:
                source = self._source(pages, kept)
                if source is not None and source.digest() == kept.digest:
                    best = kept, source
        if best is None or self._file is None:
            return None
        try:
            row = self._file.execute("select code from regions where rowid = ?", (best[0].row,)).fetchone()
        except sqlite3.Error:
            return None
        if row is None:
            return None
        data = zlib.decompress(row[0])
        if hashlib.blake2b(data[16:], digest_size=16).digest() != data[:16]:
            return None
        self._used.add(best[0].row)
        return best[1], data[16:], best[0].instructions

    @staticmethod
    def _source(pages: Pages, kept: Kept) -> Source | None:
        if any(mode not in (ANY, pages.mode(family)) for family, mode in enumerate(kept.modes)):
            return None
        found, epochs = [], []
        for where in kept.where:
            page = pages.at(*where)
            if page is None:
                return None
            found.append(page)
            epochs.append(page.epoch)
        return Source(tuple(found), tuple(epochs), kept.where, kept.modes, kept.entries, kept.covered)

    def add(self, source: Source, code: bytes, instructions: int) -> None:
        """Remember a region; `flush` writes it."""
        digest = source.digest()
        if digest is None:
            return
        windows = b"".join(window_of(source.pages[0], head) for head in source.entries)
        key = digest + hashlib.blake2b(self.isa.encode(), digest_size=8).digest()
        data = zlib.compress(hashlib.blake2b(code, digest_size=16).digest() + code, 1)
        self._rows.append((key, self.isa, windows, pack(source), data, instructions, int(time.time())))

    def flush(self) -> None:
        """Write what was added and which regions were of use."""
        if self._file is None or not (self._rows or self._used):
            return
        try:
            with self._file:
                self._file.executemany("insert or ignore into regions values (?, ?, ?, ?, ?, ?, ?)", self._rows)
                now = int(time.time())
                self._file.executemany("update regions set used = ? where rowid = ?", [(now, r) for r in self._used])
                self._bound()
        except sqlite3.OperationalError:
            return  # others write all the time, or the disk is full: once more at the next flush
        except sqlite3.DatabaseError:
            self._file = None
        self._rows.clear()
        self._used.clear()

    def _bound(self) -> None:
        assert self._file is not None
        (size,) = self._file.execute("select coalesce(sum(length(code)), 0) from regions").fetchone()
        if size <= LIMIT:
            return
        for row, length in self._file.execute("select rowid, length(code) from regions order by used").fetchall():
            self._file.execute("delete from regions where rowid = ?", (row,))
            size -= length
            if size <= LIMIT * 3 // 4:
                return

    def close(self) -> None:
        """Write what is left, and remove files of older images."""
        self.flush()
        if self._file is not None:
            self._file.close()
            self._file = None
            remove_old(self.path)


def remove_old(keep: Path) -> None:
    """Keep the newest few files of a folder."""
    others = sorted(
        (p for p in keep.parent.glob("regions-*.sqlite") if p != keep), key=lambda p: p.stat().st_mtime, reverse=True
    )
    for path in others[FILES - 1 :]:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)

"""Compiled regions on disk: found by the guest's bytes, the semantics and the host, so that none can be stale.

One SQLite file for each native image (`cache.image_key`: sources, compiler, host). SQLite makes it safe for several
processes at once and for one that is killed while it writes. A row that is not what was written is thrown away, and so
is a file that is damaged or has other tables; both are made anew.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from trapline.dataclass import dataclass
from trapline.digest import blake2b, sha256
from trapline.engine import owned
from trapline.engine.cache import image_key
from trapline.engine.jit.source import ANY, PAGE, SMALL_BIT, WINDOW, Source, Where, pack, unpack, window_in, window_of
from trapline.engine.kept_files import kept_file

if TYPE_CHECKING:
    from trapline.engine.code import Covered
    from trapline.engine.jit.source import Pages

LIMIT = 128 << 20  # bytes of all regions of a file
FILES = 4
MOST_FRESH = 64 << 20  # bytes of code that one process keeps for its other pages
WANTED = 2000  # places that are remembered as hot
BUSY_SECONDS = 5.0
SUFFIXES = ("", "-wal", "-shm")  # of the files that SQLite makes
PASSING = frozenset(
    {
        *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY),
        *(sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN),
        *(sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH),
    }
)

SCHEMA = """
create table if not exists regions (
    key blob primary key, isa text not null, window blob not null, covered blob not null, code blob not null,
    instructions integer not null, used integer not null, digest blob not null);
create index if not exists by_isa on regions (isa);
create table if not exists wanted (
    window blob not null, isa text not null, samples integer not null, primary key (window, isa));
"""


@dataclass(frozen=True, slots=True)
class Kept:
    """A region that the file has: its key, the bytes that it was made from, and how many instructions it holds.

    `fresh` is the place of its code among those of this process, -1 if the file has it.
    """

    key: bytes
    fresh: int
    where: tuple[Where, ...]
    mode: int
    entries: tuple[int, ...]
    covered: Covered
    digest: bytes
    instructions: int


@dataclass(frozen=True, slots=True)
class Identity:
    """What a region is kept under: the digest of its bytes, and the windows by which it is looked up."""

    digest: bytes
    windows: bytes


def row_digest(key: bytes, isa: str, windows: bytes, covered: bytes, instructions: int) -> bytes:
    """Digest of what a row says, but for the code, which has its own."""
    return blake2b(repr((key, isa, windows, covered, instructions)).encode(), digest_size=16).digest()


def wrapped(key: bytes, code: bytes) -> bytes:
    """Code as it is kept, with the digest of what it is and whose."""
    return zlib.compress(blake2b(key + code, digest_size=16).digest() + code, 1)


def unwrapped(key: bytes, data: object) -> bytes | None:
    """What `wrapped` wrapped for the same key; None for all else."""
    if not isinstance(data, bytes):
        return None
    with contextlib.suppress(zlib.error):
        whole = zlib.decompress(data)
        if blake2b(key + whole[16:], digest_size=16).digest() == whole[:16]:
            return whole[16:]
    return None


def identify(source: Source, data: bytes, hot: int) -> Identity:
    """The identity of what is made from these bytes for a hot place, with the whole first page as it was."""
    places = sorted({hot, *source.entries})
    return Identity(source.digest(), b"".join(window_in(data[place : place + WINDOW], place) for place in places))


MEMORY = Path(":memory:")


def path_of(key: str | None = None) -> Path:
    """The file for the native image of now; MEMORY, which is forgotten, if the cache is not to be used."""
    return kept_file(f"regions-{key or image_key()}.sqlite") or MEMORY


class RegionStore:
    """The regions of one ISA in one file. One thread uses it at a time; another may go on with it."""

    def __init__(self, isa: str, path: Path | None = None, *, limit: int = LIMIT) -> None:
        self.isa = sha256(isa.encode()).hexdigest()[:16]
        self.path, self._limit = path or path_of(), limit
        self.index: dict[bytes, list[Kept]] = {}
        self.wanted: dict[bytes, int] = {}  # by windows of places, samples in earlier runs, which ended too soon
        self._want: dict[bytes, int] = {}
        self._met: set[bytes] = set()
        self._rows: list[tuple[object, ...]] = []
        self._bytes = 0  # of code of this process
        self._fresh: list[bytes] = []  # code of this process, by -1 - row of its index entry
        self._used: set[bytes] = set()
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
            except sqlite3.DatabaseError as error:
                if not is_passing(error):
                    self.discard()
                    self._open()
                    return
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                    raise
                time.sleep(0.01)

    def _open(self) -> None:
        if self.path != MEMORY:
            owned.make(self.path.parent)
            if any(_of_others(Path(f"{self.path}{suffix}")) for suffix in SUFFIXES):
                self.discard()
        self._file = file = sqlite3.connect(self.path, timeout=BUSY_SECONDS, check_same_thread=False)
        file.executescript("pragma journal_mode=wal; pragma synchronous=off;" + SCHEMA)
        rows = file.execute(
            "select rowid, key, window, covered, instructions, digest from regions where isa = ?", (self.isa,)
        ).fetchall()
        bad = [(row[0],) for row in rows if not self._take(*row[1:])]
        if bad:
            with file:
                file.executemany("delete from regions where rowid = ?", bad)
        places = file.execute("select window, samples from wanted where isa = ?", (self.isa,))
        self.wanted = {window: samples for window, samples in places if isinstance(samples, int)}

    def _take(self, key: bytes, windows: bytes, covered: bytes, instructions: int, digest: object) -> bool:
        """Let a row's region be found, if the row is what was written."""
        if row_digest(key, self.isa, windows, covered, instructions) != digest:
            return False
        self._enter(Kept(key, -1, *unpack(covered), key[:16], instructions), windows)
        return True

    def want(self, window: bytes, samples: int) -> None:
        """This place was so hot, and there was no time to compile it, or not heat enough in one run."""
        self._want[window] = samples

    def met(self, window: bytes) -> None:
        """This place has what it can have."""
        if window in self.wanted:
            del self.wanted[window]
            self._met.add(window)

    def _enter(self, kept: Kept, windows: bytes) -> None:
        """Let a region be found."""
        for at in range(0, len(windows), 2 + WINDOW):
            self.index.setdefault(windows[at : at + 2 + WINDOW], []).append(kept)

    def discard(self) -> None:
        """Throw a damaged file away, and what is known of it."""
        if self._file is not None:
            with contextlib.suppress(sqlite3.Error):
                self._file.close()
        self._file = None
        for window, found in list(self.index.items()):
            self.index[window] = [kept for kept in found if kept.fresh >= 0]
        for suffix in SUFFIXES:
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)

    def has(self, window: bytes) -> bool:
        """Whether there is a region that begins like this."""
        return window in self.index

    def find(self, pages: Pages, head: int, *, whole: bool = False) -> tuple[Source, bytes, bytes] | None:
        """The largest kept region whose bytes lie around a head: what it is made of, its code, the bytes' digest.

        `whole`: none of those that are small.
        """
        around = self.index.get(window_of(pages.found[0], head), [])
        around = [kept for kept in around if not kept.mode & SMALL_BIT] if whole else around
        for kept in sorted(around, key=lambda kept: (-kept.instructions, kept.mode & SMALL_BIT)):
            source = self._source(pages, kept)
            if source is not None and source.digest() == kept.digest:
                code = self._code(kept)
                if code is not None:
                    return source, code, kept.digest
                around.remove(kept)
        return None

    def _code(self, kept: Kept) -> bytes | None:
        """The code of a region; a row without it goes."""
        if kept.fresh >= 0:
            return self._fresh[kept.fresh]
        if self._file is None:
            return None
        with contextlib.suppress(sqlite3.Error):
            found = self._file.execute("select code from regions where key = ?", (kept.key,)).fetchone()
            code = unwrapped(kept.key, found[0]) if found else None
            if code is not None:
                self._used.add(kept.key)
                return code
            with self._file:
                self._file.execute("delete from regions where key = ?", (kept.key,))
        return None

    @staticmethod
    def _source(pages: Pages, kept: Kept) -> Source | None:
        if kept.mode & ~SMALL_BIT not in (ANY, pages.mode(0), pages.mode_with_hosted()):
            return None
        found = []
        for where in kept.where:
            page = pages.at(*where)
            if page is None:
                return None
            found.append(page)
        content = tuple(found[s >> 12].content(s & PAGE - 1, e - (s >> 12 << 12)) for s, e in kept.covered)
        return Source(tuple(found), kept.where, kept.mode, kept.entries, kept.covered, content)

    def add(self, source: Source, identity: Identity, code: bytes, instructions: int) -> None:
        """Remember a region; `flush` writes it. Code that writes itself makes ever more: of these only the first."""
        if self._bytes + len(code) > MOST_FRESH:
            return
        self._bytes += len(code)
        key = identity.digest + blake2b(self.isa.encode(), digest_size=8).digest()
        where, mode, entries = source.where, source.mode, source.entries
        kept = Kept(key, len(self._fresh), where, mode, entries, source.covered, identity.digest, instructions)
        self._fresh.append(code)
        self._enter(kept, identity.windows)
        covered, now = pack(source), int(time.time())
        digest = row_digest(key, self.isa, identity.windows, covered, instructions)
        row = key, self.isa, identity.windows, covered, wrapped(key, code), instructions, now, digest
        self._rows.append(row)

    def flush(self) -> None:
        """Write what was added and which regions were of use."""
        if self._file is None or not (self._rows or self._used or self._want or self._met):
            return
        try:
            self._write()
        except sqlite3.DatabaseError as error:
            if is_passing(error):
                return  # others write all the time, or the disk is full: once more at the next flush
            with contextlib.suppress(sqlite3.Error, OSError):
                self.discard()
                self._open_in_time()
                self._write()
        for written in (self._rows, self._used, self._want, self._met):
            written.clear()

    def _write(self) -> None:
        assert self._file is not None
        with self._file:
            self._file.executemany("insert or replace into regions values (?, ?, ?, ?, ?, ?, ?, ?)", self._rows)
            now = int(time.time())
            self._file.executemany("update regions set used = ? where key = ?", [(now, key) for key in self._used])
            self._file.executemany(
                "insert into wanted values (?, ?, ?) on conflict do update set samples = samples + excluded.samples",
                [(window, self.isa, samples) for window, samples in self._want.items()],
            )
            self._file.executemany(
                "delete from wanted where window = ? and isa = ?", [(w, self.isa) for w in self._met]
            )
            self._bound()

    def _bound(self) -> None:
        assert self._file is not None
        self._file.execute("delete from wanted where (select count(*) from wanted) > ?", (WANTED,))
        (size,) = self._file.execute("select coalesce(sum(length(code)), 0) from regions").fetchone()
        if size <= self._limit:
            return
        for row, length in self._file.execute("select rowid, length(code) from regions order by used").fetchall():
            self._file.execute("delete from regions where rowid = ?", (row,))
            size -= length
            if size <= self._limit * 3 // 4:
                return

    def close(self) -> None:
        """Write what is left, and remove files of older images."""
        self.flush()
        if self._file is not None:
            self._file.close()
            self._file = None
            if self.path != MEMORY:
                remove_old(self.path)


def is_passing(error: sqlite3.DatabaseError) -> bool:
    """Whether the file is not to blame: others hold it, the disk is full, it may not be written."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF in PASSING


def _of_others(path: Path) -> bool:
    """Whether there is what somebody else may have written, whose regions would run here, or what is no file."""
    try:
        return bool(owned.of(path, path.stat())) or not path.is_file()
    except FileNotFoundError:
        return False


def _written(path: Path) -> float:
    """When a file was written; another process may remove it at the same time."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def remove_old(keep: Path) -> None:
    """Keep the newest few files of a folder."""
    others = sorted((p for p in keep.parent.glob("regions-*.sqlite") if p != keep), key=_written, reverse=True)
    for path in others[FILES - 1 :]:
        for suffix in SUFFIXES:
            Path(f"{path}{suffix}").unlink(missing_ok=True)

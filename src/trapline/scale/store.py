"""The results of a sweep in a directory: Parquet partitions, each written whole or not there.

`DIR/records/*.parquet` hold a row for each record (scale.unit.Record). One process at a time writes (flock, which
ends with the process). A unit's digest stands in one row: those that could not be run are taken out before
they are tried again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from trapline.lab.errors import UsageError
from trapline.scale.unit import Record, TrapCount

PART_RECORDS = 2_000  # a partition is written when it has so many
# Or so many seconds after the one before: short sweeps lose little when they are killed, long ones write few files.
LEAST_SECONDS, MOST_SECONDS, SHARE = 1.0, 60.0, 0.02
_RECORDS, _LOCK, _NEW = "records", ".lock", ".new"


def polars() -> Any:
    """Return polars; UsageError if it is not there."""
    try:
        import polars
    except ImportError:
        raise UsageError("sweep needs polars", remedy="pip install 'trapline[sweep]'") from None
    return polars


class Store:
    """The directory of a sweep."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.records = self.root / _RECORDS
        self._pl = polars()
        self._part: list[Record] = []
        self._began = self._flushed = time.monotonic()
        self._number = 0

    # --- reading ---
    def frame(self) -> Any:
        """Return the records as a LazyFrame; UsageError if there are none."""
        parts = self._parts()
        if not parts:
            raise UsageError(
                f"no records in {str(self.root)!r}", remedy="trapline sweep SPEC.toml --out DIR makes them"
            )
        return self._pl.scan_parquet(parts, schema=schema(self._pl))

    def has_records(self) -> bool:
        """Whether there is anything to read."""
        return bool(self._parts())

    def _parts(self) -> list[Path]:
        return sorted(self.records.glob("*.parquet")) if self.records.is_dir() else []

    def finished(self) -> set[bytes]:
        """Return the digests of the units that need not be run again."""
        found: set[bytes] = set()
        for part in self._parts():
            column = self._read(part, ["digest", "error"]).filter(self._pl.col("error") == "")["digest"]
            found.update(bytes.fromhex(digest) for digest in column)
        return found

    def _read(self, part: Path, columns: list[str] | None = None) -> Any:
        try:
            return self._pl.read_parquet(part, columns=columns)
        except (OSError, self._pl.exceptions.PolarsError) as error:
            what = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UsageError(
                f"cannot read {str(part)!r}: {what}", remedy="remove it, and the sweep runs it again"
            ) from None

    # --- writing ---
    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the directory in the block; behind it everything is written. UsageError if another sweep has it."""
        try:
            self.records.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.root / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise UsageError(f"cannot write to {str(self.root)!r}: {error.strerror}", "--out") from None
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise UsageError(f"another sweep writes to {str(self.root)!r}", "--out") from None
            for left in self.records.glob(f"*{_NEW}"):
                left.unlink()
            self._number = max((int(p.stem) for p in self._parts() if p.stem.isdigit()), default=-1) + 1
            try:
                yield
            finally:
                self.flush()
        finally:
            os.close(lock)

    def add(self, record: Record) -> None:
        """Take a record; it is on the disk at once, or with those of the next seconds."""
        now = time.monotonic()
        self._part.append(record)
        wait = min(max(SHARE * (now - self._began), LEAST_SECONDS), MOST_SECONDS)
        if len(self._part) >= PART_RECORDS or now - self._flushed >= wait:
            self.flush()

    def forget_failed(self) -> None:
        """Take out what could not be run: it is tried again."""
        for part in self._parts():
            frame = self._read(part)
            kept = frame.filter(self._pl.col("error") == "")
            if len(kept) == 0:
                part.unlink()
            elif len(kept) < len(frame):
                self._write(kept, part.name)

    def flush(self) -> None:
        """Write what is not on the disk yet."""
        if self._part:
            self._write(self.frame_of(self._part), f"{self._number:08}.parquet")
            self._part, self._number, self._flushed = [], self._number + 1, time.monotonic()

    def frame_of(self, records: Sequence[Record]) -> Any:
        """Return records as a DataFrame."""
        return self._pl.DataFrame([msgspec.to_builtins(r) for r in records], schema=schema(self._pl))

    def _write(self, frame: Any, name: str) -> None:
        new = self.records / f"{name}{_NEW}"
        try:
            frame.write_parquet(new)
            with new.open("rb") as file:
                os.fsync(file.fileno())
            new.replace(self.records / name)
        except OSError as error:
            raise UsageError(f"cannot write to {str(self.root)!r}: {error.strerror or error}", "--out") from None


def schema(pl: Any) -> dict[str, Any]:
    """Return the columns: those of Record, in its order."""
    route = pl.Struct([pl.Field(name, kind) for name, kind in _columns(pl, TrapCount).items()])
    return _columns(pl, Record) | {"routes": pl.List(route)}


def _columns(pl: Any, struct: type[msgspec.Struct]) -> dict[str, Any]:
    kinds = {str: pl.String, bool: pl.Boolean, float: pl.Float64, int: pl.Int64}
    return {f.encode_name: kinds.get(f.type, pl.String) for f in msgspec.structs.fields(struct)} | {
        name: pl.UInt64 for name in ("cause",) if struct is TrapCount
    }

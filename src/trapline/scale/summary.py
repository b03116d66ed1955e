"""What the records of a sweep say, by group: outcomes, traps, instructions, estimated cost."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trapline.lab.errors import UsageError, suggest
from trapline.scale.store import polars
from trapline.scale.unit import Record

BY = ("policy", "firmware", "workload")
AXES = ("policy", "firmware", "host_fwft", "misaligned", "workload", "options", "seed", "outcome")


@dataclass(frozen=True, slots=True)
class Group:
    """All units that agree in some columns."""

    key: tuple[Any, ...]
    units: int
    outcomes: dict[str, int]
    traps: int
    instret: int  # of the guests
    hosted: int  # instructions of HS and M, estimated
    seconds: float


@dataclass(frozen=True, slots=True)
class Summary:
    """The groups of a sweep."""

    by: tuple[str, ...]
    groups: tuple[Group, ...]

    def as_data(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"by": list(self.by), "groups": [self._row(g) for g in self.groups]}

    def _row(self, group: Group) -> dict[str, Any]:
        return {
            **dict(zip(self.by, group.key, strict=True)), "units": group.units, "outcomes": group.outcomes,
            "traps": group.traps, "instret": group.instret, "hosted": group.hosted,
            "seconds": round(group.seconds, 3),
        }  # fmt: skip


def grouped_by(words: Sequence[str]) -> tuple[str, ...]:
    """Return checked names of columns to group by; words may have commas."""
    names = tuple(dict.fromkeys(name for word in words for name in word.replace("-", "_").split(",") if name)) or BY
    for name in names:
        if name not in AXES:
            near = suggest(name, AXES)
            known = f"known: {', '.join(AXES)}"
            raise UsageError(f"unknown column {name!r}", "--by", f"{near}; {known}" if near else known)
    return names


def summary(frame: Any, by: Sequence[str] = BY) -> Summary:
    """Return the groups of the records of a LazyFrame."""
    pl = polars()
    rows = (
        frame.with_columns(pl.col("outcome").alias("_outcome"))
        .group_by(*by, "_outcome")
        .agg(
            pl.len().alias("units"),
            pl.col("traps").sum(),
            pl.col("instret").sum(),
            (pl.col("hs") + pl.col("m")).sum().alias("hosted"),
            pl.col("seconds").sum(),
        )
        .collect()
    )
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in sorted(rows.iter_rows(named=True), key=lambda r: [_natural(r[n]) for n in (*by, "_outcome")]):
        groups.setdefault(tuple(row[name] for name in by), []).append(row)
    return Summary(tuple(by), tuple(_group(key, parts) for key, parts in groups.items()))


def _natural(value: Any) -> Any:
    """Return a key that puts linux-6.2 before linux-6.10."""
    parts = re.split(r"([0-9]+)", value) if isinstance(value, str) else [value]
    return [(1, int(p), "") if n % 2 else (0, 0, p) if isinstance(p, str) else (1, p, "") for n, p in enumerate(parts)]


def _group(key: tuple[Any, ...], rows: list[dict[str, Any]]) -> Group:
    total = {name: sum(row[name] for row in rows) for name in ("units", "traps", "instret", "hosted", "seconds")}
    return Group(key, outcomes={row["_outcome"]: row["units"] for row in rows}, **total)


def bad_records(frame: Any, most: int) -> list[dict[str, Any]]:
    """Return up to `most` records of runs that did not end well, as plain data without their routes."""
    pl = polars()
    columns = [f for f in Record.__struct_fields__ if f != "routes"]
    found = frame.filter(pl.col("exit_status") != 0).select(columns).head(most).collect()
    return list(found.iter_rows(named=True))

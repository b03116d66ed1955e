"""What the records of a sweep say, by group: outcomes, traps, instructions, estimated cost."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trapline.lab.errors import UsageError
from trapline.lang.given import suggest
from trapline.scale.store import Store, polars
from trapline.scale.unit import Record

BY = ("policy", "firmware", "workload")
MOST_BAD = 100  # runs that did not end well are named one by one up to here
LEVELS = ("VU", "VS", "HS", "M")
AXES = ("policy", "firmware", "host_fwft", "misaligned", "workload", "options", "seed", "outcome")


@dataclass(frozen=True, slots=True)
class Group:
    """All units that agree in some columns."""

    key: tuple[Any, ...]
    units: int
    outcomes: dict[str, int]
    traps: int
    instret: int  # of the guests
    levels: dict[str, int]  # instructions by mode; those of HS and M are estimated
    seconds: float

    @property
    def hosted(self) -> int:
        """Instructions of HS and M."""
        return self.levels["HS"] + self.levels["M"]


@dataclass(frozen=True, slots=True)
class Summary:
    """The groups of a sweep."""

    by: tuple[str, ...]
    groups: tuple[Group, ...]

    def as_data(self) -> dict[str, Any]:
        return {"by": list(self.by), "groups": [self._row(g) for g in self.groups]}

    def _row(self, group: Group) -> dict[str, Any]:
        return {
            **dict(zip(self.by, group.key, strict=True)), "units": group.units, "outcomes": group.outcomes,
            "traps": group.traps, "instret": group.instret, "hosted": group.hosted,
            "instructions": group.levels, "seconds": round(group.seconds, 3),
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
            pl.col("traps", "instret", "seconds", *(level.lower() for level in LEVELS)).sum(),
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
    total = {name: sum(row[name] for row in rows) for name in ("units", "traps", "instret", "seconds")}
    levels = {level: sum(row[level.lower()] for row in rows) for level in LEVELS}
    return Group(key, outcomes={row["_outcome"]: row["units"] for row in rows}, levels=levels, **total)


def bad_records(frame: Any, most: int) -> list[dict[str, Any]]:
    """Return up to `most` records of runs that did not end well, as plain data without their routes."""
    pl = polars()
    columns = [f for f in Record.__struct_fields__ if f != "routes"]
    found = frame.filter(pl.col("exit_status") != 0).select(columns).head(most).collect()
    return list(found.iter_rows(named=True))


def all_routes(frame: Any) -> list[dict[str, Any]]:
    """Return what all traps of a sweep did, as `run --json` says it of one run: the most frequent first."""
    pl = polars()
    same = ("cause", "name", "from", "path", "how", "end", "errno")
    rows = (
        frame.select(pl.col("routes"))
        .explode("routes")
        .drop_nulls()
        .unnest("routes")
        .group_by(*same)
        .agg(pl.col("count", "instructions").sum())
        .sort("count", *same, descending=[True, *[False] * len(same)])
        .collect()
    )
    return [
        {
            **row, "path": row["path"].split(" > "), "how": [row["how"]] if row["how"] else [],
            "errno": row["errno"] or None, "instructions": {"total": row["instructions"]},
        }
        for row in rows.iter_rows(named=True)
    ]  # fmt: skip


def folder_data(store: Store) -> dict[str, Any]:
    """Return what the records of a directory say, in the form of `sweep --json`."""
    frame = store.frame()
    return {
        "directory": str(store.root),
        **summary(frame).as_data(),
        "ended_badly": bad_records(frame, MOST_BAD),
        "routes": all_routes(frame),
    }

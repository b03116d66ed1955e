"""Comparing what was seen on both sides, field by field; accepted differences stand in a list with their reason."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from trapline.conform.seen import Seen
from trapline.lab.errors import UsageError
from trapline.named_files import read_input
from trapline.plain import plain
from trapline.privilege.causes import cause_name

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Accepted:
    """Differences that are not errors: in which fields of which events, and who says so."""

    events: tuple[str, ...]  # empty: all
    fields: tuple[str, ...]  # empty: all
    reason: str
    source: str
    bit: int | None = None  # only where the values of both sides are the same without this bit
    bug: str = ""  # only under a policy with this bug

    def covers(self, event: str, field: str) -> bool:
        """Return whether this entry is about a field of an event."""
        return (not self.events or event in self.events) and (not self.fields or field in self.fields)

    def explains(self, field: str, real: str, hosted: str) -> bool:
        """Return whether two values may differ so."""
        if self.bit is None:
            return True
        return _without_bit(real, self.bit) == _without_bit(hosted, self.bit)


@dataclass(frozen=True, slots=True)
class Difference:
    """One field in which the two sides differ."""

    event: str
    mode: str
    field: str
    real: str
    hosted: str
    accepted: Accepted | None = None

    def as_data(self) -> dict[str, Any]:
        reason = plain(self.accepted, "reason source") if self.accepted else None
        return {**plain(self, "event from=mode field real hosted"), "accepted": reason}


@dataclass(frozen=True, slots=True)
class Row:
    """One event from one mode on both sides."""

    real: Seen
    hosted: Seen
    differences: tuple[Difference, ...]

    @property
    def failed(self) -> bool:
        """Whether a difference is not accepted."""
        return any(d.accepted is None for d in self.differences)

    def as_data(self) -> dict[str, Any]:
        outcomes = {"real": self.real.outcome(), "hosted": self.hosted.outcome()}
        return {**plain(self.real, "event from=mode kernel_log=kernel"), **outcomes, **plain(self, "differences")}


@dataclass(frozen=True, slots=True)
class AcceptedLine:
    """Lines of a guest's console that may differ: an expression for the whole line."""

    pattern: re.Pattern[str]
    reason: str
    source: str


def load_accepted_lines(path: str | Path | None = None) -> tuple[AcceptedLine, ...]:
    """Read what may differ between consoles from the same list; UsageError says what is wrong with it."""
    return _entries(path, "line", _line)


def load_nested(bugs: Collection[str], path: str | Path | None = None) -> tuple[Accepted, ...]:
    """Read how a guest's guest may differ from a flat one under a host with these bugs; as load_accepted."""
    return tuple(a for a in _entries(path, "nested", _nested) if a.bug in bugs)


def load_accepted(path: str | Path | None = None) -> tuple[Accepted, ...]:
    """Read the list of accepted differences: the package's own, or a file; UsageError says what is wrong with it."""
    return _entries(path, "difference", _entry)


def _entries(path: str | Path | None, kind: str, read: Callable[[Mapping[str, Any]], T]) -> tuple[T, ...]:
    try:
        if path is None:
            text = resources.files("trapline.conform").joinpath("accepted.toml").read_text()
        else:
            text = read_input(path).decode("utf-8")
        return tuple(_at(kind, n, e, read) for n, e in enumerate(tomllib.loads(text).get(kind, []), 1))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from None
    except (ValueError, TypeError, AttributeError, re.error) as error:
        raise UsageError(f"{path or 'accepted.toml'}: {error}") from None


def _at(kind: str, number: int, entry: Mapping[str, Any], read: Callable[[Mapping[str, Any]], T]) -> T:
    try:
        return read(entry)
    except (ValueError, re.error) as error:
        raise ValueError(f"{kind} {number}: {error}") from None


def _require(entry: Mapping[str, Any], needed: set[str], more: set[str]) -> None:
    unknown, missing = set(entry) - needed - more, needed - set(entry)
    if unknown or missing:
        raise ValueError(
            ", ".join([f"no {k!r}" for k in sorted(missing)] + [f"unknown key {k!r}" for k in sorted(unknown)])
        )


def _entry(entry: Mapping[str, Any]) -> Accepted:
    _require(entry, {"fields", "reason", "source"}, {"events"})
    return Accepted(tuple(entry.get("events", ())), tuple(entry["fields"]), entry["reason"], entry["source"])


def _nested(entry: Mapping[str, Any]) -> Accepted:
    _require(entry, {"bug", "reason", "source"}, {"events", "fields", "bit"})
    where = tuple(entry.get("events", ())), tuple(entry.get("fields", ()))
    return Accepted(*where, entry["reason"], entry["source"], entry.get("bit"), entry["bug"])


def _line(entry: Mapping[str, Any]) -> AcceptedLine:
    _require(entry, {"pattern", "reason", "source"}, set())
    return AcceptedLine(re.compile(entry["pattern"]), entry["reason"], entry["source"])


def _without_bit(text: str, bit: int) -> str:
    return re.sub(r"0x[0-9a-f]+|[0-9]+", lambda word: hex(int(word[0], 0) & ~(1 << bit)), text)


def compare(real: Seen, hosted: Seen, accepted: tuple[Accepted, ...] = ()) -> Row:
    """Compare one event."""
    found = []
    for field, left, right in _fields(real, hosted):
        if left != right:
            who = next((a for a in accepted if a.covers(real.event, field) and a.explains(field, left, right)), None)
            found.append(Difference(real.event, real.mode, field, left, right, who))
    return Row(real, hosted, tuple(found))


def _fields(real: Seen, hosted: Seen) -> list[tuple[str, str, str]]:
    """Return what is compared: of an event that never ended, when it was given up says nothing."""
    if real.end == hosted.end == "hung":
        rows = [
            ("outcome", real.outcome(), hosted.outcome()),
            ("kernel log", "\n".join(real.kernel), "\n".join(hosted.kernel)),
        ]
        return [*rows, *([("hardware traps", _kinds(real), _kinds(hosted))] if real.traps is not None else [])]
    return _all_fields(real, hosted)


def _all_fields(real: Seen, hosted: Seen) -> list[tuple[str, str, str]]:
    whole: list[tuple[str, Callable[[Seen], str]]] = [
        ("outcome", Seen.outcome),
        ("errno", lambda s: str(s.errno)),
        ("exit reason", lambda s: str(s.exit_reason)),
        ("exits", lambda s: "; ".join(" ".join(f"{k}={v:#x}" for k, v in sorted(e.items())) for e in s.exits)),
        ("guest log", lambda s: "; ".join(" ".join(f"{word:#x}" for word in record) for record in s.log)),
        ("kernel log", lambda s: "\n".join(s.kernel)),
    ]
    rows = [(name, text(real), text(hosted)) for name, text in whole]
    if real.traps is not None and hosted.traps is not None:
        rows.append(("hardware traps", _traps(real), _traps(hosted)))
    for kind in ("registers", "csrs", "stats", "levels"):
        left, right = getattr(real, kind), getattr(hosted, kind)
        if kind == "levels" and not (left and right):
            continue
        label = {"registers": "register", "csrs": "csr", "stats": "counter", "levels": "level"}[kind]
        names = dict.fromkeys([*left, *right])
        rows += [(f"{label} {n}", f"{left.get(n, 0):#x}", f"{right.get(n, 0):#x}") for n in names]
    return rows


def _kinds(seen: Seen) -> str:
    return ", ".join(f"{cause_name(c)} {origin} to {to}" for c, origin, to in sorted(seen.traps or {}))


def _traps(seen: Seen) -> str:
    traps = sorted((seen.traps or {}).items())
    return ", ".join(f"{n} x {cause_name(c)} {origin} to {to}" for (c, origin, to), n in traps)

"""Version numbers of a policy family, and the ranges in which a rule holds.

A release is a series ("6.12") or a point release of one ("6.12.35"); a series alone means its newest point release, as
distributions have it. What was changed in one series is often brought to older ones: `since` and `fixed` may name
several releases. A point release says when a change came to its own series; a series says that it and all later ones
have the change from their first release on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import TypeVar

from trapline.policies.schema import PolicyError, Ranged

R = TypeVar("R", bound=Ranged)

_VERSION = re.compile(r"([0-9]{1,4})(?:\.([0-9]{1,4})(?:\.([0-9]{1,4}))?)?")
Series = tuple[int, int]


@cache
def parse(version: str) -> Series:
    """Return the series of a version: (6, 12) of "6.12" and "6.12.35", (2026, 3) of "2026.03", (2025, 0) of "2025"."""
    return split(version)[0]


def split(version: str) -> tuple[Series, int | None]:
    """Return the series of a version and its point release, None if it names none; PolicyError if it is no version."""
    match = _VERSION.fullmatch(version)
    if match is None:
        raise PolicyError(f"not a version: {version[:40]!r} (expected something like '6.12', '6.12.35' or '2026.03')")
    return (int(match[1]), int(match[2] or 0)), int(match[3]) if match[3] else None


def split_key(version: str) -> tuple[Series, int]:
    """Order versions: a series before its point releases."""
    series, point = split(version)
    return series, -1 if point is None else point


def series_of(version: str) -> str:
    """Return the name of a version's series: "6.12" of "6.12.35"."""
    return ".".join(version.split(".")[:2])


def releases(named: str | Sequence[str]) -> tuple[str, ...]:
    """Return the releases that `since` names: none, one, or several."""
    return ((named,) if named else ()) if isinstance(named, str) else tuple(named)


def reached(changed: Sequence[str], version: str) -> bool:
    """Whether a change that came with the releases `changed` is in `version`."""
    series, point = split(version)
    known = [split(release) for release in changed]
    own = [at for where, at in known if where == series and at is not None]
    if own:
        return point is None or point >= min(own)
    return any(at is None and where <= series for where, at in known)


def _is_past(until: str, version: str) -> bool:
    """Whether `version` comes after `until`, which is the last release of a rule."""
    (last, last_point), (series, point) = split(until), split(version)
    if series != last or last_point is None:
        return series > last
    return point is None or point > last_point


def holds(rule: Ranged, version: str) -> bool:
    """Whether `rule` holds for `version`; a rule without range always does."""
    since = releases(rule.since)
    if not version:
        if since or rule.until or rule.fixed:
            raise PolicyError(f"{span(rule)} in a policy without versions")
        return True
    if since and not reached(since, version):
        return False
    return not (rule.until and _is_past(rule.until, version)) and not reached(rule.fixed, version)


def span(rule: Ranged) -> str:
    """Say in words when a rule holds."""
    parts = [("since", " or ".join(releases(rule.since))), ("until", rule.until), ("fixed in", ", ".join(rule.fixed))]
    return ", ".join(f"{word} {text}" for word, text in parts if text) or "always"


def holding(rules: Iterable[R], version: str) -> tuple[R, ...]:
    """Return the rules that hold for `version`, in order."""
    return tuple(r for r in rules if holds(r, version))


def the_one(what: str, rules: Iterable[R], version: str) -> R | None:
    """Return the single rule that holds, or None; two are an error."""
    found = holding(rules, version)
    if len(found) > 1:
        ranges = "; ".join(span(r) for r in found)
        raise PolicyError(f"{what}: {len(found)} rules hold for version {version!r} ({ranges})")
    return found[0] if found else None

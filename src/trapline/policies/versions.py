"""Version numbers of a policy family, and the ranges in which a rule holds."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeVar

from trapline.policies.schema import PolicyError, Ranged

R = TypeVar("R", bound=Ranged)


def parse(version: str) -> tuple[int, int]:
    """Return (major, minor) of a release "6.12", or (year, month) of a date "2026.03"; "2025" is before its months."""
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,4})?", version):
        raise PolicyError(f"not a version: {version[:40]!r} (expected something like '6.12', '2025' or '2026.03')")
    major, _, minor = version.partition(".")
    return int(major), int(minor or 0)


def holds(rule: Ranged, version: str) -> bool:
    """Whether `rule` holds for `version`; a rule without range always does."""
    if not version:
        if rule.since or rule.until:
            raise PolicyError(f"since {rule.since!r} / until {rule.until!r} in a policy without versions")
        return True
    now = parse(version)
    return (not rule.since or parse(rule.since) <= now) and (not rule.until or now <= parse(rule.until))


def holding(rules: Iterable[R], version: str) -> tuple[R, ...]:
    """Return the rules that hold for `version`, in order."""
    return tuple(r for r in rules if holds(r, version))


def the_one(what: str, rules: Iterable[R], version: str) -> R | None:
    """Return the single rule that holds, or None; two are an error."""
    found = holding(rules, version)
    if len(found) > 1:
        ranges = ", ".join(f"{r.since or '...'} to {r.until or '...'}" for r in found)
        raise PolicyError(f"{what}: {len(found)} rules hold for version {version!r} ({ranges})")
    return found[0] if found else None

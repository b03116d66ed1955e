"""`trapline policies`: the presets, one of them, or the difference of two, as data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trapline.lab.settings import policy_of
from trapline.policies import Difference, Policy, diff, policy_names


def presets() -> list[Policy]:
    """Return all presets, oldest Linux first."""
    return [policy_of(name) for name in policy_names()]


def difference(left: str | Path | Policy, right: str | Path | Policy) -> list[Difference]:
    """Return what two policies say differently."""
    return diff(policy_of(left), policy_of(right))


def difference_data(left: Policy, right: Policy) -> dict[str, Any]:
    """Return the JSON form of a difference."""
    found = [{"what": d.what, left.name: d.left, right.name: d.right} for d in diff(left, right)]
    return {"left": left.name, "right": right.name, "differences": found}

"""`trapline policies`: the presets, one of them, or the difference of two, as data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trapline.lab.errors import UsageError
from trapline.lab.settings import policy_of
from trapline.policies import Difference, Policy, diff, policy_names, predecessor


def presets() -> list[Policy]:
    """Return all presets, oldest Linux first."""
    return [policy_of(name) for name in policy_names()]


def difference(left: str | Path | Policy, right: str | Path | Policy) -> list[Difference]:
    """Return what two policies say differently."""
    return diff(policy_of(left), policy_of(right))


@dataclass(frozen=True, slots=True)
class Changes:
    """What a version of a hypervisor changed; `before` is the version before it."""

    policy: Policy
    before: Policy
    found: list[Difference]

    def as_data(self) -> dict[str, Any]:
        rows = [{"what": d.what, "before": d.left, "now": d.right, "source": d.source} for d in self.found]
        return {"policy": self.policy.name, "before": self.before.name, "changes": rows}


def changes(name: str | Path | Policy | None = None) -> list[Changes]:
    """Return what a version changed, or each version of each hypervisor that changed something."""
    chosen = [p for p in presets() if p.version and p.family in p.name] if name is None else [policy_of(name)]
    pairs = [(policy, predecessor(policy)) for policy in chosen]
    found = [Changes(policy, before, diff(before, policy)) for policy, before in pairs if before is not None]
    if name is not None and not found:
        raise UsageError(f"policy {chosen[0].name!r} stands on no other", remedy="trapline policies diff A B")
    return [c for c in found if c.found or name is not None]


def difference_data(left: Policy, right: Policy) -> dict[str, Any]:
    """Return the JSON form of a difference."""
    found = [{"what": d.what, left.name: d.left, right.name: d.right} for d in diff(left, right)]
    return {"left": left.name, "right": right.name, "differences": found}

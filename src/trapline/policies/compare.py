"""Policies as tables: what `trapline policies show` and `diff` print."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trapline.policies import causes
from trapline.policies.schema import Action, CauseRule, Policy


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that two policies say differently; None where one says nothing."""

    what: str
    left: str | None
    right: str | None


def describe(rule: CauseRule) -> str:
    """Say in a few words what a rule does with a trap that reaches HS-mode."""
    text = _action(rule.action, rule.errno)
    if rule.without_slot is not None:
        outside = _action(rule.without_slot, rule.without_slot_errno)
        if rule.without_slot_as:
            outside += f" as {rule.without_slot_as}"
        text += f", without slot {outside}"
    if rule.without_device is not None:
        text += f", without device {rule.without_device.value}"
    if rule.condition is not None:
        text += f" if {rule.condition.value}"
    if rule.counters:
        text += f", counts {' '.join(rule.counters)}"
    return text


def show(policy: Policy) -> list[tuple[str, str, str, str]]:
    """Return rows of (cause, hedeleg, in HS-mode, source), one for each cause."""
    rows = []
    for cause in sorted(set(causes.NAMES) | set(policy.causes)):
        rule = policy.rule(cause)
        rows.append((causes.name(cause), "delegated" if policy.delegates(cause) else "", describe(rule), rule.source))
    return rows


def diff(left: Policy, right: Policy) -> list[Difference]:
    """Return what differs: the masks, each cause, counters, bugs, CSRs, SBI, features, tracepoints."""
    a, b = _facts(left), _facts(right)
    return [Difference(k, a.get(k), b.get(k)) for k in dict.fromkeys([*a, *b]) if a.get(k) != b.get(k)]


def _action(action: Action, errno: int) -> str:
    return f"kill -{errno}" if action is Action.KILL else action.value


def _facts(policy: Policy) -> dict[str, str]:
    facts = {name: f"{getattr(policy, name):#x}" for name in ("hedeleg", "hideleg", "hcounteren", "sbi_version")}
    for cause in sorted(set(causes.NAMES) | set(policy.causes)):
        where = "delegated, else " if policy.delegates(cause) else ""
        facts[f"cause {causes.name(cause)}"] = where + describe(policy.rule(cause))
    facts["default"] = describe(policy.default)
    named: dict[str, tuple[Any, ...]] = {
        "counter": policy.counters,
        "bug": policy.bugs,
        "csr": policy.csrs,
        "sbi": policy.sbi,
        "fwft": policy.fwft,
        "feature": policy.features,
        "tracepoint": policy.tracepoints,
    }
    for kind, entries in named.items():
        facts |= {f"{kind} {e.name}": getattr(e, "mode", getattr(e, "emulate", "yes")) for e in entries}
    facts["mmio instructions"] = " ".join(policy.mmio.instructions)
    facts |= {f"mmio {n}": str(getattr(policy.mmio, n)) for n in ("unsupported", "misaligned", "implicit")}
    return facts

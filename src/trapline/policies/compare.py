"""Policies as tables: what `trapline policies show` and `diff` print."""

from __future__ import annotations

from typing import Any

from trapline.dataclass import dataclass
from trapline.policies import causes
from trapline.policies.schema import Action, CauseRule, Policy

_DECODES = "mmio instructions"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that two policies say differently; None where one says nothing. `source` is the right one's."""

    what: str
    left: str | None
    right: str | None
    source: str = ""


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
    known = {n: p.mmio.instructions for n, p in (("a", left), ("b", right))}
    a[_DECODES] = " ".join(n for n in known["a"] if n not in known["b"])
    b[_DECODES] = " ".join(n for n in known["b"] if n not in known["a"])
    old, new = _sources(left), _sources(right)
    return [
        Difference(k, a.get(k), b.get(k), new.get(k) or old.get(k, ""))
        for k in dict.fromkeys([*a, *b])
        if a.get(k) != b.get(k)
    ]


def _action(action: Action, errno: int) -> str:
    return f"kill -{errno}" if action is Action.KILL else action.value


def _facts(policy: Policy) -> dict[str, str]:
    facts = {name: f"{getattr(policy, name):#x}" for name in ("hedeleg", "hideleg", "hcounteren", "sbi_version")}
    for cause in sorted(set(causes.NAMES) | set(policy.causes)):
        where = "delegated, else " if policy.delegates(cause) else ""
        facts[f"cause {causes.name(cause)}"] = where + describe(policy.rule(cause))
    facts["default"] = describe(policy.default)
    for kind, entries in _named(policy).items():
        facts |= {f"{kind} {e.name}": getattr(e, "mode", getattr(e, "emulate", "yes")) for e in entries}
    facts |= {f"mmio {n}": str(getattr(policy.mmio, n)) for n in ("unsupported", "misaligned", "implicit")}
    return facts


def _named(policy: Policy) -> dict[str, tuple[Any, ...]]:
    """Return what a policy has, by kind; each entry has a name and a source."""
    return {
        "counter": policy.counters,
        "bug": policy.bugs,
        "csr": policy.csrs,
        "sbi": policy.sbi,
        "fwft": policy.fwft,
        "feature": policy.features,
        "tracepoint": policy.tracepoints,
    }


def _sources(policy: Policy) -> dict[str, str]:
    """Return who says so, for the facts that have a source."""
    sources = {f"cause {causes.name(c)}": policy.rule(c).source for c in {*causes.NAMES, *policy.causes}}
    sources |= dict.fromkeys((_DECODES, "mmio unsupported", "mmio misaligned", "mmio implicit"), policy.mmio.source)
    sources["default"] = policy.default.source
    return sources | {f"{kind} {e.name}": e.source for kind, entries in _named(policy).items() for e in entries}

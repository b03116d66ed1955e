"""`trapline policies explain`: what the names in policies mean, made from the presets themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from trapline.lab.errors import UsageError
from trapline.lab.policies import presets
from trapline.lab.settings import policy_of
from trapline.lab.survival import ranges
from trapline.lang.given import suggest
from trapline.plain import plain
from trapline.policies import Policy
from trapline.policies.causes import NUMBERS
from trapline.policies.load import NESTED_PRESETS, policy_names
from trapline.policies.names import BugName, FeatureName
from trapline.policies.resolve import nested_bugs
from trapline.privilege.causes import cause_name

KINDS = {
    "bug": "something that a hypervisor does wrong",
    "feature": "something that not every hypervisor can do",
    "counter": "a statistics counter",
    "tracepoint": "a tracepoint",
    "fwft": "a firmware feature that a guest may set (SBI FWFT)",
}


@dataclass(slots=True)
class Term:
    """A name: what it means, who says so, and which presets have it."""

    kind: str
    name: str
    meaning: str = ""
    sources: list[str] = field(default_factory=list)
    presets: list[str] = field(default_factory=list)
    counts: dict[str, None] = field(default_factory=dict)  # of a counter: the causes whose rules move it

    def as_data(self) -> dict[str, Any]:
        return {**plain(self, "kind name meaning sources presets"), "causes": list(self.counts)}


def glossary() -> list[Term]:
    """Return every name of a bug, feature, counter, tracepoint or firmware feature that a policy can have."""
    terms: dict[tuple[str, str], Term] = {}
    for policy in _every():
        for kind, entry in _entries(policy):
            term = terms.setdefault((kind, entry.name), Term(kind, entry.name))
            term.meaning = getattr(entry, "note", "") or term.meaning
            if entry.source and entry.source not in term.sources:
                term.sources.append(entry.source)
            term.presets.append(policy.name)
        for cause, rule in policy.causes.items():
            for name in rule.counters:
                if ("counter", name) in terms:
                    terms["counter", name].counts[cause_name(cause)] = None
    for bug in nested_bugs():
        term = terms.setdefault(("bug", bug.name), Term("bug", bug.name))
        term.meaning, term.sources = bug.note, [bug.source]
    order = list(KINDS)
    return sorted(terms.values(), key=lambda t: (order.index(t.kind), t.name))


def explain(name: str) -> list[Term]:
    """Return what a name means, once for each kind that has it; UsageError names the nearest ones."""
    terms = glossary()
    found = [t for t in terms if t.name == name]
    if not found:
        known = list(dict.fromkeys((*(t.name for t in terms), *get_args(BugName), *get_args(FeatureName))))
        remedy = _elsewhere(name) or suggest(name, known) or "trapline policies explain lists them all"
        raise UsageError(f"no bug, feature or counter is called {name!r}", remedy=remedy)
    return found


def _elsewhere(name: str) -> str:
    """Say which command tells of a name that is a policy's or a cause's."""
    if name in policy_names():
        return f"it is a policy: trapline policies show {name}"
    if name in NUMBERS:
        return f"it is cause {NUMBERS[name]}: trapline policies show POLICY, trapline route --event {name}"
    return ""


def spans(names: Sequence[str]) -> str:
    """Return presets in few words: linux-5.16 to linux-6.2."""
    return ", ".join(ranges([p.name for p in _every()], names))


def _every() -> list[Policy]:
    """Return all presets, those with nested guests behind the others."""
    return [*presets(), *map(policy_of, NESTED_PRESETS)]


def _entries(policy: Policy) -> Iterator[tuple[str, Any]]:
    every = (
        ("bug", policy.bugs), ("feature", policy.features), ("counter", policy.counters),
        ("tracepoint", policy.tracepoints), ("fwft", policy.fwft),
    )  # fmt: skip
    for kind, entries in every:
        for entry in entries:
            yield kind, entry

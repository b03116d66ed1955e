"""Results for a CI server: JUnit's XML, a suite for each policy, a case for each thing that was asked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as Xml

from trapline.lab.errors import UsageError

if TYPE_CHECKING:
    from trapline.conform.conform import Comparison, Conformance
    from trapline.lab.audit.audit import Audit
    from trapline.lab.audit.checks import Finding
    from trapline.lab.nested.audit import NestedAudit

OPTION = "--junit"
_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, section 2.2


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that was asked: it holds, or `failure` says what happened."""

    group: str
    name: str
    failure: str = ""
    text: str = ""  # more about the failure, in lines


@dataclass(frozen=True, slots=True)
class Suite:
    """Cases under one name."""

    name: str
    cases: tuple[Case, ...]


def write_junit(path: str, suites: Sequence[Suite]) -> None:
    """Write the file; UsageError if it cannot be written."""
    root = Xml.Element("testsuites", _counts([case for suite in suites for case in suite.cases]))
    for suite in suites:
        below = Xml.SubElement(root, "testsuite", {"name": suite.name, **_counts(suite.cases)})
        for case in suite.cases:
            made = Xml.SubElement(below, "testcase", {"classname": _clean(case.group), "name": _clean(case.name)})
            if case.failure:
                Xml.SubElement(made, "failure", {"message": _clean(case.failure)}).text = _clean(case.text)
    Xml.indent(root)
    try:
        Path(path).write_bytes(Xml.tostring(root, "utf-8", xml_declaration=True) + b"\n")
    except OSError as error:
        raise UsageError(f"cannot write {path!r}: {error.strerror}", OPTION) from None


def audit_suites(result: Audit | NestedAudit, failures: Iterable[Finding] | None = None) -> list[Suite]:
    """Return a suite for each policy: each property, and each way in which it does not hold.

    `failures` are those that count; all of the audit's if it is None.
    """
    from trapline.lab.audit.audit import PROPERTIES as OF_GUESTS
    from trapline.lab.audit.audit import Audit
    from trapline.lab.nested.audit import PROPERTIES as OF_LEVELS

    properties = OF_GUESTS if isinstance(result, Audit) else OF_LEVELS
    counted: list[Finding] = list(result.failures if failures is None else failures)
    suites = []
    for policy in result.policies:
        cases = []
        for prop, what in properties.items():
            found = [f for f in counted if (f.policy, f.prop) == (policy, prop)]
            group = f"{policy}.{prop}"
            cases += [Case(group, _place(f), f.what, "\n".join((f.route, *f.code, *f.log))) for f in found]
            if not found:
                cases.append(Case(group, what))
        suites.append(Suite(f"audit {policy}", tuple(cases)))
    return suites


def conform_suites(result: Conformance) -> list[Suite]:
    """Return a suite for each kernel and policy: each event, and each sweep."""
    return [_comparison(c) for c in result.comparisons]


def _comparison(c: Comparison) -> Suite:
    name = f"conform {c.settings.policy.name} {c.release} {c.settings.firmware}"
    cases = [_event(c.settings.policy.name, row.as_data()) for row in c.rows]
    for row in c.sweeps:
        _, bad = row.items_that_differ
        failure = f"{bad} of {len(row.sweep.items)} items differ" if bad else ""
        cases.append(Case(f"{c.settings.policy.name}.sweep", row.sweep.name, failure))
    return Suite(name, tuple(cases))


def _event(policy: str, row: dict[str, Any]) -> Case:
    bad = [d for d in row["differences"] if d["accepted"] is None]
    lines = [f"{d['field']}: real {d['real'] or '-'}, hosted {d['hosted'] or '-'}" for d in bad]
    failure = f"real {row['real']}, hosted {row['hosted']}" if bad else ""
    return Case(f"{policy}.event", f"{row['event']} from {row['from']}", failure, "\n".join(lines))


def _place(f: Finding) -> str:
    fwft = ", host-fwft" if f.host_fwft else ""
    l1 = f.as_data().get("l1", "")
    return f"{f.event_id} from {f.from_} on {f.firmware}{fwft}{f', L1 {l1}' if l1 else ''}"


def _counts(cases: Sequence[Case]) -> dict[str, str]:
    return {"tests": str(len(cases)), "failures": str(sum(bool(c.failure) for c in cases))}


def _clean(text: str) -> str:
    """Return what XML can hold."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)

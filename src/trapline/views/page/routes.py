"""The sections of a matrix of routes and of an audit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import groupby
from typing import Any
from xml.etree.ElementTree import Element

from msgspec import convert

from trapline.lab.results import Audited, Found, Routed, Routes
from trapline.views.page.bars import Bar, bars
from trapline.views.page.elements import el
from trapline.views.page.parts import Rows, both, facts, folded, items, outcome
from trapline.views.page.picture import picture, svg_file
from trapline.views.page.ways import DEATHS, ways
from trapline.views.terminal import count, number


def routes_section(table: Routes) -> list[Element]:
    """Return the matrix: its picture, its costs, and every event."""
    drawn = ways((r, r.path, 1) for r in table.routes)
    dead = sum(r.end in DEATHS for r in table.routes)
    said = f"{count(len(table.routes), 'event')}, {dead} of them kill or hang the guest"
    made = [
        facts(
            f"policy {table.policy}, firmware {table.firmware}, host-fwft {'on' if table.host_fwft else 'off'}",
            f"misaligned {table.misaligned}" if table.misaligned else "",
            f"guest hypervisor {table.l1}" if table.l1 else "",
        ),
        el("p", said, class_="bad" if dead else None),
        both(
            lambda width: picture(drawn, f"Routes under {table.policy}", width), "Which way the event of each row took"
        ),
    ]
    for (cause, name), group in groupby(table.routes, key=lambda r: (r.cause, r.name)):
        rows = list(group)
        bad = sum(r.end in DEATHS for r in rows)
        summary = f"{cause} {name}: {count(len(rows), 'event')}{f', {bad} deadly' if bad else ''}"
        made.append(folded(summary, _events(rows)))
    if (notes := items(table.notes)) is not None:
        made.append(notes)
    return made


def routes_svg(data: Mapping[str, Any]) -> str:
    """Return the picture of a matrix of routes, in its JSON form, as a file of its own."""
    table = convert(data, Routes)
    drawn = ways((r, r.path, 1) for r in table.routes)
    nested = f", guest hypervisor {table.l1}" if table.l1 else ""
    fwft = ", host-fwft on" if table.host_fwft else ""
    said = f"policy {table.policy}{nested}, firmware {table.firmware}{fwft}"
    return svg_file(drawn, f"Who gets each trap: {said}, {count(len(table.routes), 'event')}")


def _events(rows: list[Routed]) -> Element:
    made = Rows("", ("event", ""), ("from", "w"), ("route", ""), ("outcome", "w"), ("instr.", "n"))
    for r in rows:
        made.row(r.event, r.from_, route(r), outcome(r.outcome()), cost(r))
    return made.element


def route(r: Routed) -> list[Element | str]:
    """Return the path, and what took the trap there where that was not hardware alone."""
    how = ", ".join(word for word in r.how if word != "hardware")
    return [" > ".join(r.path), el("span", f" {how}" if how else "", class_="faint")]


def cost(r: Routed) -> str:
    """Return the instructions of the round trip; "~" where hosted levels are estimated."""
    if r.end in DEATHS or len(r.path) < 2:
        return ""
    return f"{'~' if r.estimated else ''}{number(sum(r.instructions.values()))}"


def audit_section(audit: Audited) -> list[Element]:
    """Return an audit: what failed by property, and each finding with its code."""
    bad = [f for f in audit.findings if f.severity == "fail"]
    said = "passed" if audit.passed else f"{count(len(bad), 'failure')} in {number(audit.executed)} executed events"
    made = [
        facts(f"policies {', '.join(audit.policies)}", f"firmware {', '.join(audit.firmware)}"),
        el("p", said, class_="good" if audit.passed else "bad"),
    ]
    if audit.interrupted:
        made.append(el("p", "The audit was interrupted: this is not all of it.", class_="bad"))
    if bad:
        by_policy = {policy: Counter(f.name or "?" for f in bad if f.policy == policy) for policy in audit.policies}
        rows = [Bar(policy, {n: float(k) for n, k in found.items()}) for policy, found in by_policy.items()]
        made.append(both(lambda width: bars(rows, "Failures by policy", width), "Failures by policy"))
    for key, text in audit.properties.items():
        found = [f for f in audit.findings if f.property == key]
        if found:
            failures = sum(f.severity == "fail" for f in found)
            summary = f"{key}) {text}: {count(len(found), 'finding')}, {failures} of them failures"
            made.append(folded(summary, _findings(found)))
        else:
            made.append(el("p", f"{key}) {text}: nothing found", class_="good"))
    if audit.vu_alone:
        alone = Rows("What a user program raises, does its own kernel get it?", ("cause", ""), ("answer", ""))
        for a in audit.vu_alone:
            alone.row(f"{a.cause} {a.name}", a.answer)
        made.append(folded("What a guest can count on, by cause", alone.element))
    return made


def _findings(found: list[Found]) -> Element:
    made = Rows("", ("event", ""), ("from", "w"), ("under", ""), ("route", ""), ("what", ""), ("code", "m"))
    for f in found:
        fwft = ", host-fwft on" if f.host_fwft else ""
        what = [el("span", f.what, class_="bad" if f.severity == "fail" else None)]
        if f.condition:
            what.append(el("span", f" ({f.condition})", class_="faint"))
        made.row(f.event, f.from_, f"{f.policy}, {f.firmware}{fwft}", f.route, what, "\n".join(f.code))
    return made.element

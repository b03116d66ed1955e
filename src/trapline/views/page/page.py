"""The report: one page of HTML that needs neither a network nor a script."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from xml.etree.ElementTree import Element

from trapline.lab.results import Audited, Compared, Result, Routes, Run, Sweep
from trapline.views.page.elements import Child, el, html, shown
from trapline.views.page.parts import facts
from trapline.views.page.routes import audit_section, routes_section
from trapline.views.page.runs import run_name, run_section
from trapline.views.page.style import PAGE
from trapline.views.page.sweep import sweep_name, sweep_section, sweeps_together
from trapline.views.page.together import audits_together, names, routes_together, runs_together

HEAD = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{style}</style></head>
{body}</html>
"""


def page(results: Sequence[Result]) -> str:
    """Return the report of these results as a page."""
    sections: list[tuple[str, list[Element]]] = _together(results)
    for result in results:
        sections.append((_title(result), _content(result)))
    links = [el("li", el("a", title, href=f"#s{n}")) for n, (title, _) in enumerate(sections)]
    made: list[Child] = [
        el("a", "to the results", href="#results", class_="skip"),
        el("header", el("h1", "trapline report")),
        el("nav", el("ul", *links), aria_label="Results"),
        el("main", *[section(n, *s) for n, s in enumerate(sections)], id="results"),
    ]
    return document("trapline report", made)


def document(title: str, body: Sequence[Child]) -> str:
    """Return a page of its own: its style is inside, and nothing is fetched."""
    return HEAD.format(title=escape(shown(title)), style=PAGE, body=html(el("body", *body)))


def section(n: int, title: str, parts: Sequence[Child]) -> Element:
    """Return a part of the page with its title."""
    return el("section", el("h2", title, id=f"h{n}"), *parts, id=f"s{n}", aria_labelledby=f"h{n}")


def _title(result: Result) -> str:
    content = result.content
    if isinstance(content, Compared):
        return f"compare: {content.guest}"
    if isinstance(content, Run):
        what = content.guest or content.image or ""
        return f"run: {content.policy}, {what}" if content.policy else f"boot: {content.kernel or what}"
    if isinstance(content, Routes):
        return f"route: {content.policy}{f', guest hypervisor {content.l1}' if content.l1 else ''}"
    if isinstance(content, Sweep):
        return f"sweep: {sweep_name(content)}"
    l1 = f", guest hypervisor {', '.join(content.l1)}" if content.l1 else ""
    return f"audit: {', '.join(content.policies)}{l1}"


def _content(result: Result) -> list[Element]:
    content = result.content
    made = [facts(f"from {result.file}")] if result.file else []
    if isinstance(content, Compared):
        made += runs_together([(result.file, run) for run in content.runs])
        for run in content.runs:
            made += [el("h3", run_name(run)), *run_section(run)]
        return made
    if isinstance(content, Run):
        return made + run_section(content)
    if isinstance(content, Sweep):
        return made + sweep_section(content)
    return made + (routes_section(content) if isinstance(content, Routes) else audit_section(content))


def _together(results: Sequence[Result]) -> list[tuple[str, list[Element]]]:
    """Return what several results have in common, where they are of a kind."""
    contents = [(r.file, r.content) for r in results]
    guests: dict[str, list[tuple[str, Run]]] = {}
    for file, c in contents:
        for run in _runs(c):
            guests.setdefault(run.guest or run.image or "", []).append((file, run))
    audits = [(file, c) for file, c in contents if isinstance(c, Audited)]
    made = []
    for guest, runs in guests.items():
        if len({file for file, _ in runs}) > 1:
            made.append((f"{len(runs)} runs side by side: {guest}", runs_together(runs)))
    for nested in (False, True):
        tables = [(f, c) for f, c in contents if isinstance(c, Routes) and (c.l1 is not None) == nested]
        if len(tables) > 1:
            kind = "nested routes" if nested else "routes"
            made.append((f"{len(tables)} matrices of {kind} side by side", routes_together(tables)))
    if len(audits) > 1:
        made.append((f"{len(audits)} audits side by side", audits_together(audits)))
    for by in dict.fromkeys(c.by for _, c in contents if isinstance(c, Sweep)):
        sweeps = [(f, c) for f, c in contents if isinstance(c, Sweep) and c.by == by]
        if len(sweeps) > 1:
            titles = names([(sweep_name(sweep), file) for file, sweep in sweeps])
            made.append((f"{len(sweeps)} sweeps side by side", sweeps_together([s for _, s in sweeps], titles)))
    return made


def _runs(content: object) -> tuple[Run, ...]:
    if isinstance(content, Compared):
        return content.runs
    return (content,) if isinstance(content, Run) else ()

"""Several results side by side: what differs between them first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePath
from xml.etree.ElementTree import Element

from trapline.lab.results import Audited, Found, Routed, Routes, Run, Traps
from trapline.views.page.elements import Child, el
from trapline.views.page.parts import Cell, Rows, folded, outcome
from trapline.views.page.routes import route
from trapline.views.page.runs import levels, run_name
from trapline.views.run import cause_text
from trapline.views.terminal import count, number


def names(wanted: Sequence[tuple[str, str]]) -> list[str]:
    """Return names for (name, file): the file's is added to those that several have, then a number."""
    often = Counter(name for name, _ in wanted)
    told = [f"{name} ({PurePath(file).stem})" if often[name] > 1 else name for name, file in wanted]
    again = Counter(told)
    seen: Counter[str] = Counter()
    made = []
    for name in told:
        seen[name] += 1
        made.append(f"{name} {seen[name]}" if again[name] > 1 else name)
    return made


def runs_together(runs: Sequence[tuple[str, Run]]) -> list[Element]:
    """Return (file, run) side by side: how they ended, the routes that differ, the routes that do not."""
    titles = names([(run_name(run), file) for file, run in runs])
    only = [run for _, run in runs]
    keys = dict.fromkeys((t.cause, t.from_) for run in only for t in run.traps)
    found = [(key, [[t for t in run.traps if (t.cause, t.from_) == key] for run in only]) for key in keys]
    differing = [f for f in found if _differ(f[1], _same_route)]
    alike = [f for f in found if f not in differing]
    made = [_totals(titles, only), levels(only, "Instructions by level", titles)]
    made.append(_traps("Routes that differ", titles, differing, marked=True) if differing else _no("route"))
    if alike:
        table = _traps("", titles, alike, marked=False)
        made.append(folded(f"The same routes: {count(len(alike), 'cause and origin', 'causes and origins')}", table))
    return made


def _no(what: str) -> Element:
    return el("p", f"No {what} differs.", class_="good")


def _totals(titles: Sequence[str], runs: Sequence[Run]) -> Element:
    made = Rows("Totals", ("", ""), *[(title, "") for title in titles])
    ends = [f"{r.reason} -{r.death.errno}" if r.death and r.death.errno else r.reason for r in runs]
    made.row("ended", *[outcome(end) for end in ends], marked=len(set(ends)) > 1)
    traps = [sum(t.count for t in r.traps) for r in runs]
    made.row("traps", *[_beside(n, traps[0]) for n in traps])
    for level in dict.fromkeys(name for r in runs for name in r.instructions):
        values = [round(r.instructions.get(level, 0)) for r in runs]
        guessed = "~" if any(level in r.estimated for r in runs) else ""
        if any(values):
            made.row(f"instructions {level}", *[f"{guessed if v else ''}{_beside(v, values[0])}" for v in values])
    made.row("host time, s", *[f"{r.seconds:.2f}" for r in runs])
    return made.element


def _beside(value: int, first: int) -> str:
    """Return a number, with how it differs from the first one's in percent."""
    if not first or value == first:
        return number(value)
    return f"{number(value)} ({100 * (value - first) / first:+.1f} %)"


def _same_route(t: Traps) -> object:
    return t.way(), t.how, t.end, t.errno


def _differ(columns: Sequence[Iterable[Traps]], key: Callable[[Traps], object]) -> bool:
    sets = [{key(t) for t in column} for column in columns]
    return any(s != sets[0] for s in sets[1:])


def _traps(
    caption: str,
    titles: Sequence[str],
    found: Sequence[tuple[tuple[int, str], list[list[Traps]]]],
    *,
    marked: bool,
) -> Element:
    made = Rows(caption, ("trap", ""), *[(title, "") for title in titles])
    for (cause, origin), columns in found:
        made.row(f"{cause_text(cause)} from {origin}", *[_cell(rows) for rows in columns], marked=marked)
    return made.element


def _cell(rows: Sequence[Traps]) -> Cell:
    parts: list[Child] = []
    for t in rows:
        how = ", ".join(word for word in t.how if word != "hardware")
        line: list[Child] = [f"{number(t.count)} x {' > '.join(t.way())} ", el("span", how, class_="faint")]
        parts.append(el("div", *line, " ", outcome(t.outcome())))
    return parts or el("span", "no trap", class_="faint")


def routes_together(tables: Sequence[tuple[str, Routes]]) -> list[Element]:
    """Return (file, matrix) side by side: the events whose route or end differs."""
    titles = names([(table.policy, file) for file, table in tables])
    by_event = [{(r.event_id or r.event, r.from_): r for r in table.routes} for _, table in tables]
    keys = dict.fromkeys(key for events in by_event for key in events)
    made = Rows("Events that differ", ("event", ""), ("from", "w"), *[(title, "") for title in titles])
    same, cause = 0, -1
    for key in keys:
        rows = [events.get(key) for events in by_event]
        if len({(r.path, r.how, r.outcome()) if r else None for r in rows}) < 2:
            same += 1
            continue
        one = next(r for r in rows if r)
        if one.cause != cause:
            cause = one.cause
            made.group(cause_text(cause))
        made.row(one.event, one.from_, *[_routed(r) for r in rows])
    return [made.element if made else _no("event"), el("p", f"The same in all: {count(same, 'event')}.")]


def _routed(r: Routed | None) -> Cell:
    return el("span", "-", class_="faint") if r is None else [*route(r), " ", outcome(r.outcome())]


def audits_together(audits: Sequence[tuple[str, Audited]]) -> list[Element]:
    """Return (file, audit) side by side: the failures that not all have."""
    titles = names([(", ".join(audit.policies), file) for file, audit in audits])
    failures = [{_key(f): f for f in audit.findings if f.severity == "fail"} for _, audit in audits]
    made = Rows("Failures that not all have", ("failure", ""), ("from", "w"), *[(title, "") for title in titles])
    for key in dict.fromkeys(key for found in failures for key in found):
        has = [found.get(key) for found in failures]
        if not all(has):
            one = next(f for f in has if f)
            cells = [el("span", f.what, class_="bad") if f else el("span", "-", class_="faint") for f in has]
            under = f"{one.firmware}, host-fwft {'on' if one.host_fwft else 'off'}"
            made.row(f"{one.property}) {one.event}, {under}", one.from_, *cells)
    counted = ", ".join(f"{title}: {number(len(found))}" for title, found in zip(titles, failures, strict=True))
    return [el("p", f"Failures. {counted}"), made.element if made else _no("failure")]


def _key(f: Found) -> tuple[object, ...]:
    return f.property, f.firmware, f.host_fwft, f.event, f.from_, f.what

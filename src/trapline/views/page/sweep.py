"""The section of a sweep: its groups, what they executed, which way their traps took, and what did not end well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from xml.etree.ElementTree import Element

from trapline.lab.results import Sweep, SweptGroup, Traps
from trapline.views.page.bars import KNOWN, Bar, bars
from trapline.views.page.elements import el
from trapline.views.page.parts import Rows, both, facts, folded, outcome
from trapline.views.page.picture import picture
from trapline.views.page.ways import ways
from trapline.views.run import cause_text
from trapline.views.sweep import outcomes_text, run_text, word
from trapline.views.terminal import count, number

TOP = 24  # bars; the table has all groups
_OPEN = 40  # groups whose table is shown at once


def sweep_name(sweep: Sweep) -> str:
    """Return what a sweep is called beside others."""
    return sweep.directory or sweep.spec or "sweep"


def sweep_section(sweep: Sweep) -> list[Element]:
    """Return everything that is known of a sweep."""
    by = ", ".join(name.replace("_", "-") for name in sweep.by)
    groups = sweep.groups
    hosted = sum(g.hosted for g in groups)
    counted = [count(sum(g.units for g in groups), "run"), count(sum(g.traps for g in groups), "trap")]
    counted.append(f"{number(sum(g.instret for g in groups))} instructions of guests, ~{number(hosted)} of HS and M")
    made = [
        facts(sweep.spec, "interrupted" if sweep.interrupted else "", f"by {by}"),
        _ended(groups),
        facts(", ".join(counted)),
        folded(f"All {count(len(groups), 'group')}", _table(sweep), open_=len(groups) <= _OPEN),
        *_unwell(sweep),
    ]
    if sweep.routes:
        drawn = ways((t, t.way(), t.count) for t in sweep.routes)
        made.append(both(lambda width: picture(drawn, "Routes of all runs", width), "Which way the traps took"))
    made += _levels(groups, sweep.by)
    if sweep.routes:
        made.append(folded(f"All {count(len(sweep.routes), 'route')}", _routes(sweep.routes)))
    return made


def sweeps_together(sweeps: Sequence[Sweep], titles: Sequence[str]) -> list[Element]:
    """Return sweeps side by side: the groups whose outcomes differ, or that not all have."""
    by_key = [{_key(g, sweep.by): g for g in sweep.groups} for sweep in sweeps]
    made = Rows("Groups whose outcomes differ", ("group", ""), *[(title, "") for title in titles])
    for key in dict.fromkeys(key for found in by_key for key in found):
        cells = [_outcomes(found[key]) if key in found else "-" for found in by_key]
        if len(set(cells)) > 1:
            made.row(", ".join(key), *[outcome(cell) for cell in cells])
    return [made.element if made else el("p", "No group differs.", class_="good")]


def _ended(groups: Sequence[SweptGroup]) -> Element:
    all_, ends = sum(g.units for g in groups), Counter[str]()
    for group in groups:
        ends.update({end: n for end, n in group.outcomes.items() if end != "ok"})
    if not ends:
        return el("p", "Every run ended well.", class_="good")
    said = ", ".join(f"{end} {number(n)}" for end, n in ends.most_common())
    return el("p", f"{number(ends.total())} of {count(all_, 'run')} did not end well: {said}", class_="bad")


def _key(group: SweptGroup, by: Sequence[str]) -> tuple[str, ...]:
    return tuple(word(getattr(group, name)) for name in by)


def _outcomes(group: SweptGroup) -> str:
    return outcomes_text(group.outcomes)


def _table(sweep: Sweep) -> Element:
    made = Rows(
        "", *[(name.replace("_", "-"), "") for name in sweep.by], ("outcomes", ""), ("runs", "n"), ("traps", "n"),
        ("guest", "n"), ("M and HS", "n"),
    )  # fmt: skip
    for g in sweep.groups:
        ends = el("span", _outcomes(g), class_="bad" if g.unwell else None)
        made.row(*_key(g, sweep.by), ends, number(g.units), number(g.traps), number(g.instret), f"~{number(g.hosted)}")
    return made.element


def _levels(groups: Sequence[SweptGroup], by: Sequence[str]) -> list[Element]:
    """Return bars of what a run of each group executed on average."""
    rows = [
        Bar(", ".join(_key(g, by)), {n: g.instructions[n] / g.units for n in KNOWN if g.instructions.get(n)})
        for g in groups
        if g.units and any(g.instructions.values())
    ]
    if not rows:
        return []
    named = [n for n in KNOWN if any(n in row.parts for row in rows)]
    shown, title = sorted(rows, key=lambda row: -row.total)[:TOP], "Instructions of a run, on average"
    some = f", the {TOP} groups with the most" if len(rows) > TOP else ""
    return [both(lambda width: bars(shown, title, width, named), f"{title}{some} (HS and M estimated)")]


def _unwell(sweep: Sweep) -> list[Element]:
    if not sweep.ended_badly:
        return []
    made = Rows("", ("run", ""), ("how it ended", ""), ("runs it again", "m"))
    for run in sweep.ended_badly:
        name = f"{run.policy}, {run_text(run.workload, run.firmware, run.options, run.seed)}"
        made.row(name, el("span", run.error or run.message or run.outcome, class_="bad"), run.replay)
    number_of, known = sum(g.unwell for g in sweep.groups), len(sweep.ended_badly)
    title = f"The {number(known)} first of them" if number_of > known else "Runs that did not end well"
    return [folded(title, made.element, open_=True)]


def _routes(routes: Sequence[Traps]) -> Element:
    made = Rows("", ("cause", ""), ("from", "w"), ("route", ""), ("outcome", "w"), ("count", "n"), ("M and HS", "n"))
    for t in routes:
        total = t.instructions.get("total", 0)
        how = ", ".join(reason for reason in t.how if reason != "hardware")
        way: list[Element | str] = [" > ".join(t.way()), el("span", f" {how}" if how else "", class_="faint")]
        made.row(
            cause_text(t.cause),
            t.from_,
            way,
            outcome(t.outcome()),
            number(t.count),
            f"~{number(total)}" if total else "-",
        )
    return made.element

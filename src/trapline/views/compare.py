"""Policies side by side: routes that differ first, then counts, instructions, time; and a plot."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import convert
from rich.text import Text

from trapline.views.run import COSTED, COSTED_FOLD, COSTED_MORE, cause_text, costed
from trapline.views.tables import show, table
from trapline.views.terminal import facts, number, put, say

_BEFORE, _BEHIND = 12, 28  # characters of a line that are shown before and behind its first difference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from trapline.lab.compare import Comparison
    from trapline.lab.guest_run import RunReport


def show_comparison(console: Console, result: Comparison) -> None:
    """Print the comparison."""
    from trapline.lab.compare import routes_differ

    settings = result.reports[0].options.settings
    facts(console, (result.guest, *settings.facts()[1:]), style="bold")
    compared = result.table()
    for title, differing in (("routes that differ", True), ("the same routes", False)):
        chosen = [row for row in compared if routes_differ(row[2]) is differing]
        if not chosen:
            continue
        say(console, title, 0, "bold")
        made = table(("policy", "left"), *COSTED, fold=COSTED_FOLD)
        for cause, origin, of_policies in chosen:
            made.add_heading(Text(f"{cause_text(cause)} from {origin}", style="bold"))
            for report, rows in zip(result.reports, of_policies, strict=True):
                name = f"  {report.options.settings.policy.name}"
                for row in rows:
                    made.add_row(name, *costed(row, report.all_instructions))
                if not rows:
                    made.add_row(name, "", Text("no trap", style="dim"))
        show(console, made)
        put(console)
    if not any(routes_differ(row[2]) for row in compared):
        say(console, "every trap takes the same route")
    if any(row.total for report in result.reports for row in report.rows):
        say(console, COSTED_MORE, 0, "dim")
    _totals(console, result)


def _totals(console: Console, result: Comparison) -> None:
    made = table(("", "left"), *[(name, "right") for name in result.names])
    reports = result.reports
    made.add_row("ended", *[Text(_ended(r), style="red" if r.result.exit_status else "green") for r in reports])
    made.add_row("traps", *[number(r.traps) for r in reports])
    for level in ("VU", "VS"):
        made.add_row(f"instructions {level}", *[number(r.instructions.get(level, 0)) for r in reports])
    for level in ("HS", "M"):
        made.add_row(f"instructions {level}, estimated", *[_estimate(r.instructions.get(level, 0)) for r in reports])
    made.add_row("all", *[_all(r) for r in reports])
    made.add_row("guest time, ticks", *[number(r.ticks) for r in reports])
    made.add_row("host time, s", *[f"{r.seconds:.2f}" for r in reports])
    show(console, made)
    if (difference := consoles([(r.options.settings.policy.name, r.output) for r in reports])) is not None:
        say(console, f"the guest's console output differs{difference}", 0, "yellow")


def consoles(outputs: Sequence[tuple[str, bytes]]) -> str | None:
    """Return where the first console that differs from the first policy's does; None if all are the same."""
    first = outputs[0]
    other = next((o for o in outputs if o[1] != first[1]), None)
    if other is None:
        return None
    ours, theirs = first[1].splitlines(), other[1].splitlines()
    at = _difference(ours, theirs)
    lines = [_text(found, at) for found in (ours, theirs)]
    same = _difference(*[line or "" for line in lines])
    said = [
        f"{'has ended' if line is None else _around(line, same)} under {name}"
        for line, (name, _) in zip(lines, (first, other), strict=True)
    ]
    return f", first in line {number(at + 1)}: {said[0]}, {said[1]}"


def _difference(left: Sequence[object], right: Sequence[object]) -> int:
    """Return where two sequences first differ."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(left), len(right)))


def _text(lines: list[bytes], at: int) -> str | None:
    if at >= len(lines):
        return None
    return lines[at].decode(errors="backslashreplace").replace("\x1b", "\\x1b")


def _around(line: str, at: int) -> str:
    """Quote a line near where it differs."""
    begin, end = max(0, at - _BEFORE), at + _BEHIND
    return f'"{"..." if begin else ""}{line[begin:end]}{"..." if len(line) > end else ""}"'


def _ended(report: RunReport) -> str:
    death = report.result.death
    return report.result.reason if death is None else f"{report.result.reason} -{death.errno}"


def _estimate(value: int) -> str:
    return f"~{number(value)}" if value else "0"


def _all(report: RunReport) -> str:
    estimated = any(report.instructions.get(level) for level in ("HS", "M"))
    return f"{'~' if estimated else ''}{number(sum(report.instructions.values()))}"


def plot_data(result: Comparison) -> list[dict[str, object]]:
    """Return (policy, level, instructions) rows, and (policy, route, count) ones."""
    return [
        {"policy": label(report), "level": level, "instructions": count, "ended": report.result.reason}
        for report in result.reports
        for level, count in report.instructions.items()
    ]


def label(report: RunReport) -> str:
    """Return a policy's name; with how the run ended where that was not well, for its bar is shorter then."""
    name, result = report.options.settings.policy.name, report.result
    if result.exit_status == 0:
        return name
    return f"{name} ({_ended(report)})"


def save_plot(result: Comparison, path: str) -> None:
    """Write a bar chart of instructions by level (.svg, .png, .pdf or .json, by altair); for .html the whole report.

    A page needs neither a network nor a script. Runs that did not end well are paler, and say so.
    """
    if path.lower().endswith(".html"):
        from trapline.lab.results import Compared, Result
        from trapline.views.page.page import page

        Path(path).write_text(page([Result("", convert(result.as_data(), Compared))]), encoding="utf-8")
        return
    import altair
    import polars

    data = polars.DataFrame(plot_data(result))
    chart = (
        altair.Chart(data, title=f"{result.guest}: instructions by level")
        .mark_bar()
        .encode(
            x=altair.X("instructions:Q", title="instructions (HS and M estimated)"),
            y=altair.Y(
                "policy:N", sort=[label(r) for r in result.reports], title=None, axis=altair.Axis(labelLimit=300)
            ),
            color=altair.Color("level:N", sort=["VU", "VS", "HS", "M"]),
            order=altair.Order("level:N"),
            opacity=altair.condition(altair.datum.ended == "killed", altair.value(0.5), altair.value(1)),
        )
        .properties(width=600)
    )
    chart.save(path)

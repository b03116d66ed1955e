"""The table of a sweep."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trapline.people import grouped
from trapline.views.junit import Case, Suite
from trapline.views.tables import Column, Table, show
from trapline.views.terminal import put, say

if TYPE_CHECKING:
    from rich.console import Console

    from trapline.scale.summary import Summary
    from trapline.scale.sweep import Swept

_NAMED = 5  # runs that did not end well are shown with their replay line up to here


def show_sweep(console: Console, result: Swept) -> None:
    """Show the groups, what ended badly, and what was done."""
    show_summary(console, result.summary)
    put(console)
    _show_bad(console, result)
    parts = [f"{grouped(result.run)} of {grouped(result.units)} units run"]
    parts += [f"{grouped(result.skipped)} were there"] if result.skipped else []
    parts += [f"{grouped(result.failed)} could not be run"] if result.failed else []
    parts += ["interrupted"] if result.interrupted else []
    say(console, ", ".join(parts))


def _show_bad(console: Console, result: Swept) -> None:
    """Name some of the runs that did not end well, with the line that runs them again where their guests are kept."""
    for record in result.bad_records[:_NAMED]:
        what = record["error"] or record["message"] or record["outcome"]
        say(console, f"{record['policy']}, {_case(record)}: {what}")
        if result.directory is not None:
            put(console, f"    {record['replay']}")
    if (more := result.bad - min(len(result.bad_records), _NAMED)) > 0:
        say(console, f"{grouped(more)} more did not end well")


def show_summary(console: Console, summary: Summary) -> None:
    """Show a row for each group."""
    right = ("units", "traps", "guest", "M and HS")
    columns = [*(Column(name.replace("_", "-")) for name in summary.by), Column("outcomes", "wrap")]
    table = Table([*columns, *(Column(name, "right") for name in right)])
    for group in summary.groups:
        numbers = (group.units, group.traps, group.instret, group.hosted)
        table.add_row(*(word(k) for k in group.key), outcomes_text(group.outcomes), *(grouped(n) for n in numbers))
    show(console, table)


def word(value: Any) -> str:
    """Return a value of a column as a word."""
    return {True: "on", False: "off"}.get(value, str(value)) if isinstance(value, bool) else str(value) or "-"


def outcomes_text(outcomes: Mapping[str, int]) -> str:
    """Return how runs ended, with how many each way if there are several ways."""
    if len(outcomes) == 1:
        return next(iter(outcomes))
    return ", ".join(f"{name} {grouped(n)}" for name, n in outcomes.items())


def summary_csv(summary: Summary) -> str:
    """Return the groups as CSV, an outcome with its number behind each other."""
    text = io.StringIO()
    write = csv.writer(text, lineterminator="\n")
    write.writerow((*summary.by, "units", "outcomes", "traps", "instret", "hosted", "seconds"))
    for g in summary.groups:
        outcomes = " ".join(f"{name}:{n}" for name, n in g.outcomes.items())
        write.writerow((*g.key, g.units, outcomes, g.traps, g.instret, g.hosted, round(g.seconds, 3)))
    return text.getvalue()


def sweep_suites(records: Sequence[dict[str, Any]], summary: Summary) -> list[Suite]:
    """Return JUnit's suites: one for each policy, a case for each group that is well, and each run that is not."""
    suites = []
    for policy in dict.fromkeys(str(g.key[0]) for g in summary.groups):
        cases = []
        for group in (g for g in summary.groups if g.key[0] == policy):
            name = f"{group.key[2]} on {group.key[1]}"
            bad = [r for r in records if (r["policy"], r["firmware"], r["workload"]) == group.key]
            cases += [
                Case(f"{policy}.{group.key[2]}", _case(r), r["error"] or r["message"] or r["outcome"], r["replay"])
                for r in bad
            ]
            if not bad:
                cases.append(Case(f"{policy}.{group.key[2]}", name))
        suites.append(Suite(f"sweep {policy}", tuple(cases)))
    return suites


def _case(record: dict[str, Any]) -> str:
    return run_text(*(record[name] for name in ("workload", "firmware", "options", "seed")))


def run_text(workload: str, firmware: str, options: str, seed: int) -> str:
    """Return which run of its policy one is."""
    return f"{workload} on {firmware}{f', {options}' if options else ''}, seed {seed}"

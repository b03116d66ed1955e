"""The pack: what it holds, and who fails what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trapline.views.junit import Case, Suite
from trapline.views.tables import show, table
from trapline.views.terminal import number, put, say

if TYPE_CHECKING:
    from rich.console import Console

    from trapline.pack.programs import Program
    from trapline.pack.run import Outcome
    from trapline.pack.standing import Table as Standings


def show_programs(console: Console, programs: Sequence[Program]) -> None:
    """Print the programs with their numbers of cases and checks."""
    made = table(("program", "left"), ("cases", "right"), ("checks", "right"), ("what", "wrap", 30))
    for program in programs:
        made.add_row(program.name, number(len(program.cases)), number(program.checks), program.what)
    show(console, made)


def show_outcomes(console: Console, outcomes: Sequence[Outcome]) -> None:
    """Print a line for each program, then each kind of failure with its section."""
    from trapline.pack.run import groups

    made = table(("program", "left"), ("verdict", "left"), ("checks", "right"), ("bad", "right"), ("skipped", "right"))
    for one in outcomes:
        checks, skipped = ("-" if n is None else number(n) for n in (one.checks, one.skipped))
        made.add_row(one.program, one.verdict, checks, number(len(one.failures)), skipped)
    show(console, made)
    for one in outcomes:
        if one.verdict in ("dead", "hung"):
            say(console, f"{one.program}: {one.verdict}, it said: {one.said or 'nothing'}", 0, "red")
    for program, first, count in groups(outcomes):
        put(console)
        say(console, f"{program}: {first.case}" + (f" (and {count - 1} more)" if count > 1 else ""), 0, "bold")
        say(console, f"{first.what} is {first.seen}, must be {first.must}", 2, "red")
        say(console, first.rule, 2, "dim")


def show_standing(console: Console, standing: Standings) -> None:
    """Print how many cases break each section on each simulator, then what each simulator does."""
    made = table(("section", "wrap", 28), *((name, "right") for name in standing.names))
    for title, column in (("checks", 0), ("failing checks", 1), ("cases skipped", 2)):
        made.add_row(title, *(number(one[column]) for one in standing.verdicts))
    for section in standing.sections:
        made.add_row(section.rule, *(number(len(f)) if f else "-" for f in section.failures))
    show(console, made)
    from trapline.pack.run import kinds

    for n, name in enumerate(standing.names):
        if any(section.failures[n] for section in standing.sections):
            put(console)
            put(console, name, "bold")
        for section in standing.sections:
            if section.failures[n]:
                say(console, section.rule, 2, "dim")
            for program, first, count in kinds(section.failures[n]):
                more = f" (and {count - 1} more)" if count > 1 else ""
                say(console, f"{program}: {first.case}{more}: {first.what} is {first.seen}, must be {first.must}", 4)


def pack_suites(outcomes: Sequence[Outcome]) -> list[Suite]:
    """Return a suite for each program, with a case for each check that failed, or one that says it passed."""
    suites = []
    for one in outcomes:
        group = f"pack.{one.program}"
        cases = [Case(group, f"{f.case}: {f.what}", f"is {f.seen}, must be {f.must}", f.rule) for f in one.failures]
        if one.verdict in ("dead", "hung"):
            cases.append(Case(group, "a verdict", one.verdict, one.said))
        suites.append(Suite(f"pack {one.program}", tuple(cases) or (Case(group, "all checks"),)))
    return suites

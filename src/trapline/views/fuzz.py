"""How a search's result looks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from trapline.fuzz.findings import WORDS
from trapline.views.junit import Case, Suite

if TYPE_CHECKING:
    from trapline.fuzz.fuzz import Result


def show_fuzz(console: Console, result: Result, *, written: bool) -> None:
    """Print the groups, the gravest kind first, and what was run."""
    plan = result.plan
    console.print(", ".join([*plan.settings.facts(), f"from {plan.mode}", *_nested(result)]))
    for kind, words in WORDS.items():
        groups = sorted((g for g in result.groups if g.key.kind == kind), key=lambda g: -g.count)
        if not groups:
            continue
        console.print(f"\n{words}: {len(groups)} way{'s' if len(groups) > 1 else ''}")
        for group in groups:
            console.print(f"  {group.count:>6,}  {group.key.line().partition(': ')[2]}")
            for line in group.text:
                console.print(f"          {line}")
            if written:
                console.print(f"          {group.file}")
    if not result.groups:
        console.print("\nnothing found")
    elif written:
        console.print("\nreplay.sh beside these ELFs runs them, each with a line of its own")
    rate = result.runs / result.cpu if result.cpu else 0
    console.print(
        f"\n{result.runs:,} programs, {result.seconds:.0f} s, {rate:,.0f} a second of processor time; "
        f"corpus {result.corpus}, seed {plan.seed}{'; interrupted' if result.interrupted else ''}"
    )


def _nested(result: Result) -> list[str]:
    return [f"under L1 {result.plan.nested.name}"] if result.plan.nested is not None else []


def fuzz_suites(result: Result) -> list[Suite]:
    """Return a suite for JUnit: a case for each kind of finding, or for each way in which it was found."""
    cases = []
    for kind, words in WORDS.items():
        groups = [g for g in result.groups if g.key.kind == kind]
        cases += [Case(kind, g.key.line(), words, "\n".join([*g.text, g.command])) for g in groups]
        if not groups:
            cases.append(Case(kind, f"never: {words}"))
    return [Suite(f"fuzz {result.plan.settings.policy.name}", tuple(cases))]

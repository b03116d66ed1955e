"""Policies as tables: the list, one in full, the difference of two."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from trapline.views.tables import show, table
from trapline.views.terminal import put, say

if TYPE_CHECKING:
    from rich.console import Console

    from trapline.lab.explain import Term
    from trapline.lab.policies import Changes
    from trapline.policies import Difference, Policy


def show_list(console: Console, policies: list[Policy]) -> None:
    """Print a line for each preset."""
    made = table(("name", "left"), ("hedeleg", "left"), ("description", "wrap"))
    for policy in policies:
        made.add_row(policy.name, f"{policy.hedeleg:#06x}", policy.description)
    show(console, made)


def show_policy(console: Console, policy: Policy, before: Policy | None = None) -> None:
    """Print every cause with what happens to it and who says so; and what differs from the version before."""
    from trapline.policies import diff
    from trapline.policies import show as rows_of

    say(console, f"{policy.name}: {policy.description}", 0, "bold")
    say(
        console,
        f"hedeleg {policy.hedeleg:#x}   hideleg {policy.hideleg:#x}   hcounteren {policy.hcounteren:#x}   "
        f"otherwise {policy.default.action.value}",
    )
    made = table(("cause", "left"), ("hedeleg", "left"), ("in HS-mode", "wrap", 22), ("source", "wrap"))
    for cause, delegated, action, source in rows_of(policy):
        style = "red" if action.startswith("kill") and not delegated else ""
        made.add_row(cause, delegated, Text(action, style=style), Text(source, style="dim"))
    show(console, made)
    for title, names in (
        ("known bugs", policy.bugs),
        ("features", policy.features),
        ("counters", policy.counters),
        ("SBI", policy.sbi),
    ):
        if names:
            say(console, f"{title}: {', '.join(n.name for n in names)}")
    for note in policy.notes:
        say(console, f"note: {note.note or note.source}", style="dim")
    if before is not None:
        put(console)
        _changed(console, before, diff(before, policy))


def show_changes(console: Console, found: list[Changes]) -> None:
    """Print what each version changed."""
    for number, one in enumerate(found):
        if number:
            put(console)
        put(console, one.policy.name, "bold")
        _changed(console, one.before, one.found)


def _changed(console: Console, before: Policy, found: list[Difference]) -> None:
    """Print the changes since a version: what, how, and who says so."""
    if not found:
        say(console, f"changes nothing that {before.name} did")
        return
    made = table((f"changed since {before.name}", "left"), ("", "wrap", 20), ("source", "wrap", 20))
    for d in found:
        made.add_row(d.what, _step(d), Text(d.source, style="dim"))
    show(console, made)


def _step(difference: Difference) -> str:
    """Say how one thing changed: new, gone, or from what to what."""
    old, new = difference.left, difference.right
    if old and new:
        return f"{old} -> {new}"
    word, value = ("new", new) if not old else ("gone", old)
    return word if value in ("yes", None) else f"{word}: {value}"


def show_difference(console: Console, left: Policy, right: Policy, found: list[Difference]) -> None:
    """Print what two policies say differently."""
    if not found:
        say(console, f"{left.name} and {right.name} say the same")
        return
    made = table(("what", "left"), (left.name, "wrap"), (right.name, "wrap"))
    for difference in found:
        made.add_row(difference.what, difference.left or "-", difference.right or "-")
    show(console, made)


def show_glossary(console: Console, terms: list[Term]) -> None:
    """Print every name with what it means, or who says so, by kind."""
    from trapline.lab.explain import KINDS

    for kind, text in KINDS.items():
        say(console, f"{kind}: {text}", 0, "bold")
        made = table(("name", "left"), ("what it is", "wrap"))
        for term in terms:
            if term.kind == kind:
                made.add_row(term.name, _meaning(term))
        show(console, made)
        put(console)


def write_glossary(console: Console, terms: list[Term]) -> None:
    """Print every name as a page of Markdown, docs/glossary.md: a table for each kind."""
    from trapline.lab.explain import KINDS, spans

    lines = [
        "# The words of policies",
        "",
        "Made from the presets: `trapline policies explain --markdown`. One name: `trapline policies explain NAME`.",
    ]
    for kind, text in KINDS.items():
        lines += ["", f"## {kind}: {text}", "", "| name | what it is | who says so | presets |", "|---|---|---|---|"]
        for term in terms:
            if term.kind == kind:
                what = "; ".join(
                    filter(None, (term.meaning, f"counts {', '.join(term.counts)}" if term.counts else ""))
                )
                cells = (f"`{term.name}`", what, "; ".join(term.sources), spans(term.presets))
                lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    for line in lines:
        put(console, line)


def show_terms(console: Console, terms: list[Term]) -> None:
    """Print what a name means, with its sources and the presets that have it."""
    from trapline.lab.explain import KINDS, spans

    for term in terms:
        say(console, f"{term.name}: {KINDS[term.kind]}", 0, "bold")
        if term.meaning:
            say(console, term.meaning, 2)
        if term.counts:
            say(console, f"counts {', '.join(term.counts)}", 2)
        for source in term.sources:
            say(console, f"source: {source}", 2, "dim")
        say(console, f"in {spans(term.presets)}" if term.presets else "in no preset", 2)


def _meaning(term: Term) -> str:
    counts = f"counts {', '.join(term.counts)}" if term.counts else ""
    return term.meaning or counts or (term.sources[0] if term.sources else "")

"""Policies as tables: the list, one in full, the difference of two."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from trapline.views.tables import show, table
from trapline.views.terminal import say

if TYPE_CHECKING:
    from trapline.policies import Difference, Policy


def show_list(console: Console, policies: list[Policy]) -> None:
    """Print a line for each preset."""
    made = table(("name", "left"), ("hedeleg", "left"), ("description", "wrap"))
    for policy in policies:
        made.add_row(policy.name, f"{policy.hedeleg:#06x}", policy.description)
    show(console, made)


def show_policy(console: Console, policy: Policy) -> None:
    """Print every cause with what happens to it and who says so."""
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


def show_difference(console: Console, left: Policy, right: Policy, found: list[Difference]) -> None:
    """Print what two policies say differently."""
    if not found:
        say(console, f"{left.name} and {right.name} say the same")
        return
    made = table(("what", "left"), (left.name, "wrap"), (right.name, "wrap"))
    for difference in found:
        made.add_row(difference.what, difference.left or "-", difference.right or "-")
    show(console, made)

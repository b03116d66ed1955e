"""What `compare --nested` shows: exits of L0 for each event of L2, and instructions of L1 and L0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trapline.views.tables import show, table
from trapline.views.terminal import number, put, say

if TYPE_CHECKING:
    from rich.console import Console

    from trapline.conform.exit_costs import ExitCosts


def show_exit_costs(out: Console, found: Sequence[ExitCosts]) -> None:
    """Print a table for each L0 and L1: a column for each set of NACL's features."""
    groups: dict[tuple[str, str], list[ExitCosts]] = {}
    for one in found:
        groups.setdefault((one.policy, one.release), []).append(one)
    for (policy, release), costs in groups.items():
        say(out, f"L0 {policy}   L1 {release}", 0, "bold")
        made = table(("event of L2", "left"), *[(_column(n, costs), "right") for n in range(len(costs))],
                     ("L1", "right"), ("L0", "right"))  # fmt: skip
        for row, *others in zip(*(c.rows for c in costs), strict=True):
            usual = row.usual
            made.add_row(
                row.loop.text, *[str(r.exits) for r in (row, *others)],
                number(usual.l1 if usual else 0), f"~{number(usual.l0)}" if usual else "0",
            )  # fmt: skip
        show(out, made)
        say(out, "exits of L0; L1 and L0: instructions of both for one event in the first column, L0's are estimates")
        put(out)


def _column(number_of: int, costs: Sequence[ExitCosts]) -> str:
    features = costs[number_of].nacl
    if not features:
        return "NACL off"
    before = costs[number_of - 1].nacl if number_of else ()
    more = [f for f in features if f not in before]
    return ("+" if before else "") + ",".join(more or features)

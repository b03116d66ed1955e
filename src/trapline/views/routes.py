"""The route matrix as a table: one section for each cause, VS and VU in one row where they agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

from trapline.views.tables import show, table
from trapline.views.terminal import facts, number, put, route, say, style_of

if TYPE_CHECKING:
    from rich.console import Console

    from trapline.lab.route import RouteTable
    from trapline.lab.routes import Route


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table."""

    cause: str
    event: str
    origins: str
    through: str
    outcome: str
    instructions: str


def through(r: Route) -> str:
    """Return the modes behind the origin; where the last one is the origin itself, "back"."""
    modes = list(r.path[1:])
    if not modes:
        return "-"
    if modes[-1] == r.from_ and r.end in ("emulated", "resumed", "vmm"):
        modes[-1] = "back"
    return route(*modes)


def cost(r: Route) -> str:
    """Return all instructions of the round trip; "~" where hosted levels are estimated."""
    total = sum(r.instructions.values())
    if r.end in ("killed", "hung") or not r.path[1:]:
        return ""
    return f"{'~' if r.estimated else ''}{number(total)}"


def rows(routes: tuple[Route, ...]) -> list[Row]:
    """Return the lines: an event's VS and VU rows become one if they say the same."""
    made: list[Row] = []
    for r in routes:
        outcome = r.outcome()
        row = Row(f"{r.cause} {r.name}", r.event, r.from_, through(r), outcome, cost(r))
        last = made[-1] if made else None
        same = last is not None and (last.cause, last.event, last.through, last.outcome) == (
            row.cause, row.event, row.through, row.outcome,
        )  # fmt: skip
        if same and last is not None and last.origins == "VS" and row.origins == "VU":
            made[-1] = Row(row.cause, row.event, "VS VU", row.through, row.outcome, last.instructions)
        else:
            made.append(row)
    return made


def show_routes(console: Console, result: RouteTable, *, notes: bool = True) -> None:
    """Print the matrix."""
    facts(console, result.settings.facts(), style="bold")
    lines = rows(result.routes)
    made = table(
        ("event", "wrap", 28),
        ("from", "left"),
        ("through", "left"),
        ("outcome", "left"),
        ("instr.", "right"),
    )
    cause = ""
    for row in lines:
        if row.cause != cause:
            cause = row.cause
            made.add_heading(Text(cause, style="bold"))
        made.add_row(
            "  " + row.event,
            row.origins,
            row.through,
            Text(row.outcome, style=style_of(row.outcome)),
            row.instructions,
        )
    show(console, made)
    put(console)
    sources = dict.fromkeys(s for r in result.routes if r.estimated and cost(r) for s in r.source.split("; "))
    if sources:
        say(console, "~ includes an estimate for the hosted levels:", 0, "dim")
        for source in sources:
            say(console, source, 2, "dim")
    if notes:
        for note in result.notes:
            say(console, note, 0, "dim")

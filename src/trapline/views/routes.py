"""The route matrix as a table: one section for each cause, VS and VU in one row where they agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from trapline.views.terminal import number, say, style_of, table

if TYPE_CHECKING:
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


def through(route: Route) -> str:
    """Return the modes behind the origin; where the last one is the origin itself, "back"."""
    modes = list(route.path[1:])
    if not modes:
        return "-"
    if modes[-1] == route.from_ and route.end in ("emulated", "resumed", "vmm"):
        modes[-1] = "back"
    return " > ".join(modes)


def cost(route: Route) -> str:
    """Return all instructions of the round trip; "~" where hosted levels are estimated."""
    total = sum(route.instructions.values())
    if route.end in ("killed", "hung") or not route.path[1:]:
        return ""
    return f"{'~' if route.estimated else ''}{number(total)}"


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
    console.print(result.settings.line(), style="bold")
    lines = rows(result.routes)
    widths = [max((len(getattr(r, n)) for r in lines), default=0) for n in ("through", "outcome", "instructions")]
    made = table(
        ("event", "wrap"),
        ("from", "left", 5),
        ("through", "left", widths[0]),
        ("outcome", "left", widths[1]),
        ("instr.", "right", widths[2]),
    )
    cause = ""
    for row in lines:
        if row.cause != cause:
            cause = row.cause
            made.add_row(Text(cause, style="bold"))
        made.add_row(
            "  " + row.event,
            row.origins,
            row.through,
            Text(row.outcome, style=style_of(row.outcome)),
            row.instructions,
        )
    console.print(made)
    console.print()
    sources = dict.fromkeys(s for r in result.routes if r.estimated and cost(r) for s in r.source.split("; "))
    if sources:
        console.print("~ includes an estimate for the hosted levels:", style="dim")
        for source in sources:
            say(console, source, 2, "dim")
    if notes:
        for note in result.notes:
            say(console, note, 0, "dim")

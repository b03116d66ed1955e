"""The tables of `--observe`: what every kind of trap cost, and which code raised and handled it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trapline.views.run import cause_text
from trapline.views.tables import show, table
from trapline.views.terminal import count, number, percent, put, say, times

if TYPE_CHECKING:
    from rich.console import Console

    from trapline.lab.observe import KindReport, Observation
    from trapline.machine.observer import RoundTrips

FUNCTIONS_SHOWN = 12
_ENDS = {"same": "same", "next": "next", "elsewhere": "other"}


def way(trip: RoundTrips) -> str:
    """Return the modes that a trap went through."""
    return ">".join(trip.path)


def show_observation(console: Console, seen: Observation) -> None:
    """Print the round trips, then who raised and handled them where that is known."""
    made = table(
        ("trap", "left"), ("way", "left"), ("then", "left"), ("count", "right"), ("%", "right"), ("mean", "right"),
        ("p50", "right"), ("p99", "right"), ("max", "right"), ("cost", "right"),
        fold=("max", "p99", "p50"),
    )  # fmt: skip
    everything = sum(k.total for k in seen.kinds) or 1
    rows = sorted(((k, t) for k in seen.kinds for t in k.trips), key=lambda pair: -pair[1].count)
    for kind, trip in rows:
        nobody = kind.kind.destination in seen.hosted and trip.most == 0
        cost = [number(v) for v in (trip.mean, trip.percentile(50), trip.percentile(99), trip.most)]
        share = percent(trip.total, everything)
        made.add_row(
            kind.kind.name, way(trip), _ENDS[trip.end], number(trip.count), percent(trip.count, seen.traps),
            *(["-"] * 5 if nobody else [*cost, share]),
        )  # fmt: skip
    put(console)
    say(
        console,
        "round trips: instructions of all levels from the trap to the return, which goes to the same instruction, to "
        "the next one, or to another place; cost: percent of all round trips' instructions",
    )
    show(console, made)
    put(console)
    rest = f"{count(seen.traps, 'trap')}, {number(seen.open)} not returned"
    say(console, f"{rest}, {number(seen.lost)} lost" if seen.lost else rest)
    for name, offset in seen.moved:
        say(console, f"{name}: the program runs {offset:#x} bytes from where its symbols say")
    for kind in seen.kinds:
        _who(console, kind, seen.hosted)


def _who(console: Console, kind: KindReport, hosted: tuple[str, ...]) -> None:
    if kind.handler_name is None and not any(name for _, name, _ in kind.places) and not kind.functions:
        return
    put(console)
    head = f"{cause_text(kind.kind.cause)} from {kind.kind.origin}: {times(kind.count)}"
    level = kind.kind.destination
    handler = f"at {kind.handler_name or hex(kind.handler)} in {level}"
    say(console, f"{head}, handled {f'by the hosted {level}' if level in hosted else handler}", 0, "bold")
    raised = ", ".join(f"{name or hex(pc)} ({number(n)})" for pc, name, n in kind.places)
    say(console, f"raised at {raised}", 2)
    if kind.functions:
        total = sum(f.instructions for f in kind.functions)
        shown = sorted(kind.functions, key=lambda f: -f.instructions)[:FUNCTIONS_SHOWN]
        parts = [f"{f.name} {number(f.instructions)}" for f in kind.functions if f in shown]
        more = f", and {len(kind.functions) - len(shown)} more" if len(kind.functions) > len(shown) else ""
        cut = "" if kind.followed_whole else ", cut there"
        say(console, f"one round trip, {count(total, 'instruction')}{cut}: {', '.join(parts)}{more}", 2)

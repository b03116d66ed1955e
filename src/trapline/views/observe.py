"""The tables of `--observe`: what every kind of trap cost, and which code raised and handled it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trapline.people import times
from trapline.views.run import cause_text
from trapline.views.tables import show, table
from trapline.views.terminal import count, number, percent, put, say

if TYPE_CHECKING:
    from rich.console import Console

    from trapline.lab.observe import KindReport, Observation
    from trapline.session.observe.observer import RoundTrips

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
    everything = sum(k.total for k in seen.kinds)
    for kind in seen.kinds:
        for trip in kind.trips:
            made.add_row(
                kind.kind.name, way(trip), _ENDS[trip.end], number(trip.count), percent(trip.count, seen.traps),
                *_instructions(kind, trip, seen.hosted), percent(kind.total_of(trip), everything),
            )  # fmt: skip
    put(console)
    say(
        console,
        "round trips: instructions of all levels from the trap to the return, which goes to the same instruction, to "
        "the next one, or to another place; cost: percent of all round trips' instructions",
    )
    if any(kind.hosted for kind in seen.kinds):
        say(console, f"~ with the mean that {' and '.join(seen.hosted)}, which are hosted, are estimated to execute")
    show(console, made)
    put(console)
    rest = f"{count(seen.traps, 'trap')}, {number(seen.open)} not returned"
    say(console, f"{rest}, {number(seen.lost)} lost" if seen.lost else rest)
    for name, offset in seen.moved:
        say(console, f"{name}: the program runs {offset:#x} bytes from where its symbols say")
    for kind in seen.kinds:
        _who(console, kind, seen.hosted)


def _instructions(kind: KindReport, trip: RoundTrips, hosted: tuple[str, ...]) -> list[str]:
    """Return mean, p50, p99 and max; what hosted levels are estimated to execute is in each."""
    measured = (trip.mean, trip.percentile(50), trip.percentile(99), trip.most)
    estimate = kind.hosted.get(trip.key)
    if estimate is not None:
        return [f"~{number(v + estimate.total)}" for v in measured]
    return ["-"] * 4 if kind.kind.destination in hosted and trip.most == 0 else [number(v) for v in measured]


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

"""What `conform` shows: counts by outcome, and every difference."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from trapline.views.tables import show, table
from trapline.views.terminal import count, facts, number, put, say

if TYPE_CHECKING:
    from rich.console import Console

    from trapline.conform.conform import Comparison, Conformance

_LIMIT = 40


def show_conformance(out: Console, result: Conformance) -> None:
    """Print a table for each comparison, its differences, and the verdict."""
    for comparison in result.comparisons:
        _show(out, comparison)
    if result.passed:
        say(out, "conforms", 0, "green")
    else:
        say(out, "does not conform", 0, "red")


def _show(out: Console, c: Comparison) -> None:
    say(out, f"kernel {c.release}", 0, "bold")
    facts(out, (*c.settings.facts(), *_nested(c)), style="bold")
    if c.rows:
        _show_events(out, c)
    if c.sweeps:
        _show_sweeps(out, c)
    for entry, n in Counter(d.accepted for d in c.differences if d.accepted is not None).items():
        say(out, f"accepted, {count(n, 'field')}: {entry.reason}", 2, "dim")
    for line in (lines := _differences(c))[:_LIMIT]:
        say(out, line, 2, "red")
    if len(lines) > _LIMIT:
        say(out, f"... and {number(len(lines) - _LIMIT)} more (--json FILE has them all)", 2)
    put(out)


def _nested(c: Comparison) -> tuple[str, ...]:
    return () if c.nacl is None else (f"L1 with NACL {','.join(c.nacl) or 'off'}",)


def _show_events(out: Console, c: Comparison) -> None:
    counts = Counter((row.real.outcome(), row.hosted.outcome()) for row in c.rows)
    failed = {(row.real.outcome(), row.hosted.outcome()) for row in c.failed}
    made = table((c.sides[0], "left"), (c.sides[1], "left"), ("events", "right"), ("", "left"))
    for (real, hosted), n in sorted(counts.items()):
        how = "different" if (real, hosted) in failed else "accepted"
        made.add_row(real, hosted, number(n), "" if real == hosted else how)
    show(out, made)
    equal = sum(not row.differences for row in c.rows)
    accepted = sum(bool(row.differences) and not row.failed for row in c.rows)
    say(
        out,
        f"{count(len(c.rows), 'event')}: {number(equal)} equal in every field, {number(accepted)} with accepted "
        f"differences, {number(len(c.failed))} different",
    )
    if c.not_run:
        say(out, f"not run, since no hart that they need boots this kernel: {', '.join(c.not_run)}")


def _show_sweeps(out: Console, c: Comparison) -> None:
    made = table(("sweep", "left"), ("", "wrap"), ("items", "right"), ("equal", "right"), ("accepted", "right"),
                 ("different", "right"))  # fmt: skip
    for row in c.sweeps:
        accepted, bad = row.items_that_differ
        n = len(row.sweep.items)
        made.add_row(
            row.sweep.name, row.sweep.text, number(n), number(n - accepted - bad), number(accepted), number(bad)
        )
    show(out, made)


def _differences(c: Comparison) -> list[str]:
    """Describe what is not accepted; what differs in many places in the same way is one line."""
    failed = [d for d in c.differences if d.accepted is None]
    where = dict[tuple[str, str, str], list[str]]()
    for d in failed:
        where.setdefault((d.field, d.real, d.hosted), []).append(f"{d.event} from {d.mode}")
    lines = []
    for (name, real, hosted), places in where.items():
        everywhere = len(places) == len(c.rows) > 1 and not c.sweeps
        more = f" and {count(len(places) - 1, 'other')}" if len(places) > 1 else ""
        place = "all events" if everywhere else f"{places[0]}{more}"
        lines.append(f"{place}: {name}: {c.sides[0]} {real or '-'}, {c.sides[1]} {hosted or '-'}")
    return lines

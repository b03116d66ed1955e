"""`trapline stat` without a screen of its own: tables, lines, CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from trapline.views.tables import show, table
from trapline.views.terminal import facts, number, percent, put, say, style_of

if TYPE_CHECKING:
    from rich.console import Console

    from trapline.lab.stat.client import Sample
    from trapline.lab.stat.rates import Line, View

HEAD = ("seconds", "kind", "name", "total", "rate", "cost", "cost_rate")
BUSIEST = 5
SORTS: dict[str, Callable[[Line], Any]] = {
    "rate": lambda line: (-line.rate, -line.total),
    "total": lambda line: -line.total,
    "cost": lambda line: (-line.cost, -line.total),
    "name": lambda line: line.name,
}


def rate(value: float) -> str:
    """Return what happens in a second: whole numbers from 10 on."""
    return number(value) if value >= 10 or value == 0 else f"{value:.1f}"


def show_view(console: Console, view: View, order: str = "total") -> None:
    """Print one table of everything."""
    s = view.sample
    facts(console, (f"{s.command} {s.pid}", s.under(), s.program, f"{s.seconds:.1f} s"), style="bold")
    made = table(
        ("trap", "left"), ("route", "left"), ("outcome", "left"), ("count", "right"), ("%", "right"), ("/s", "right"),
        ("cost", "right"), ("cost/s", "right"), fold=("cost/s", "cost"),
    )  # fmt: skip
    everything = sum(line.total for line in view.traps)
    for line in sorted(view.traps, key=SORTS[order]):
        t = line.trap
        if t is not None:
            cost = (f"~{number(line.cost)}", f"~{number(line.costs)}") if line.cost else ("-", "-")
            cause = line.name.split(" ", 2)[:2] if t.cause >> 63 == 0 else [t.name]
            made.add_row(
                " ".join(cause), ">".join(t.way()), Text(t.outcome(), style=style_of(t.end)), number(line.total),
                percent(line.total, everything), rate(line.rate), *cost,
            )  # fmt: skip
    if view.traps:
        show(console, made)
    else:
        say(console, "no trap")
    for title, lines in (("counter", view.counters), ("instructions", view.levels), ("seen in", view.symbols)):
        if lines:
            put(console)
            own = table((title, "left"), ("total", "right"), ("/s", "right"))
            for line in sorted(lines, key=SORTS[order]) if title == "counter" else lines:
                about = "~" if title == "instructions" and line.name in s.estimated else ""
                own.add_row(line.name, f"{about}{number(line.total)}", f"{about}{rate(line.rate)}")
            show(console, own)
    put(console)
    where = table(("vCPU" if s.command == "run" else "hart", "right"), ("", "left"), ("mode", "left"), ("pc", "left"))
    for cpu, place in zip(s.vcpus, view.where, strict=True):
        where.add_row(str(cpu.id), cpu.state, cpu.mode, place)
    show(console, where)


def log_line(view: View) -> str:
    """Return one line: the time, the speed, the busiest traps by the second."""
    busy = sorted((t for t in view.traps if t.rate > 0), key=lambda line: -line.rate)[:BUSIEST]
    parts = [f"{line.name} {rate(line.rate)}/s" for line in busy]
    total = sum(line.total for line in view.levels if line.name not in view.sample.estimated)
    head = f"{view.sample.seconds:7.1f} s {number(total / 1e6):>9} M ({number(view.mips)} MIPS)"
    return f"{head}  {'  '.join(parts) or 'no trap'}"


def csv_head() -> str:
    """Return the first line of CSV."""
    return _row(HEAD)


def csv_lines(view: View) -> str:
    """Return a line of CSV for each thing that is counted."""
    seconds = f"{view.sample.seconds:.3f}"
    return "".join(
        _row((seconds, line.kind, line.name, line.total, f"{line.rate:.1f}", line.cost, f"{line.costs:.1f}"))
        for line in view.lines()
    )


def _row(cells: Sequence[object]) -> str:
    made = io.StringIO()
    csv.writer(made, lineterminator="\n").writerow(cells)
    return made.getvalue()


def show_runs(console: Console, found: Sequence[tuple[int, Sample | str]]) -> None:
    """Print which runs can be watched."""
    made = table(("PID", "right"), ("", "left"), ("under", "left"), ("program", "left"), ("s", "right"))
    for pid, sample in found:
        if isinstance(sample, str):
            made.add_row(str(pid), "", sample, "", "")
        else:
            made.add_row(str(pid), sample.command, sample.under(), sample.program, f"{sample.seconds:.0f}")
    show(console, made)

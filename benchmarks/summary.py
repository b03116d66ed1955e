"""From the measured runs to medians, ratios, the geometric mean and a table in markdown."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

Result = dict[str, Any]

EXPLANATION = (
    "Medians with ranges, in seconds from the shell's point of view: start-up is part of every number. "
    "CPU is user and system time with all threads. Where a column says `less start-up`, the median of the empty guest "
    "in the same environment is subtracted. `trapline` finds the regions that an earlier run compiled; `cold` starts "
    "without them and compiles on the second core while the guest runs."
)


def spread(values: list[float]) -> str:
    """Return median and range, as in `2.05 (2.01-2.20)`."""
    return f"{median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def geometric_mean(values: list[float]) -> float:
    """Return the geometric mean of positive numbers."""
    return math.exp(sum(map(math.log, values)) / len(values))


def speed(result: Result, name: str, clock: str) -> float | None:
    """Return how much work a second simulator `name` did: guest runs, or traps where the guest is a loop of traps."""
    measured = result["simulators"].get(name)
    if not measured:
        return None
    return float(measured.get("traps", 1) / median(measured[clock]))


def ratio(result: Result, clock: str, name: str = "trapline", other: str = "qemu") -> float | None:
    """Return the speed of trapline, or of the simulator called `name`, over that of `other`."""
    ours, theirs = speed(result, name, clock), speed(result, other, clock)
    return ours / theirs if ours and theirs else None


def columns(results: list[Result]) -> list[str]:
    """Return the simulators that were measured, in the order of a table."""
    measured = {n for r in results for n in r["simulators"]}
    others = sorted(n for n in measured if n.startswith("qemu-"))
    return [n for n in ("trapline", "cold", "qemu", *others, "spike", "native") if n in measured]


def qemus(results: list[Result]) -> list[str]:
    """Return the QEMUs that were measured."""
    return [n for n in columns(results) if n.startswith("qemu")]


def start_up(results: list[Result], name: str, guest: str, clock: str) -> float:
    """Return the median start-up of a simulator in the environment of `guest`."""
    where = "bare" if guest.endswith("-bare") else "guest"
    found = [r for r in results if r["guest"] == f"empty-{where}" and name in r["simulators"]]
    return median(found[0]["simulators"][name][clock]) if found else 0.0


def net_speed(results: list[Result], result: Result, name: str, clock: str) -> float | None:
    """Return the speed with start-up subtracted; None where too little is left to measure."""
    measured = result["simulators"].get(name)
    if not measured:
        return None
    begin = start_up(results, name, result["guest"], clock)
    rest = median(measured[clock]) - begin
    return float(measured.get("traps", 1) / rest) if rest > 0.2 * begin else None


def net_ratio(results: list[Result], result: Result, clock: str, other: str = "qemu") -> float | None:
    """Return trapline's speed over that of `other`, both less start-up."""
    ours, theirs = (net_speed(results, result, name, clock) for name in ("trapline", other))
    return ours / theirs if ours and theirs else None


def slower_than_native(results: list[Result], result: Result) -> float | None:
    """Return how many times longer trapline takes than the host's processor, both less start-up, by CPU."""
    found = net_ratio(results, result, "cpu", "native")
    return 1 / found if found else None


def _ratio_text(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}x"


def _second_rows(results: list[Result]) -> list[str]:
    names = columns(results)
    rows = ["| guest | " + " | ".join(f"{n} CPU s" for n in names) + " |", "|---" * (len(names) + 1) + "|"]
    for r in results:
        cells = [spread(r["simulators"][n]["cpu"]) if n in r["simulators"] else "-" for n in names]
        rows.append(f"| {r['guest']} | {' | '.join(cells)} |")
    return rows


def _beside(every: list[Result], other: str, result: Result) -> list[float | None]:
    """Return one guest's speeds beside one QEMU."""
    return [
        ratio(result, "wall", "trapline", other),
        ratio(result, "cpu", "trapline", other),
        net_ratio(every, result, "cpu", other),
        ratio(result, "wall", "cold", other),
        ratio(result, "cpu", "cold", other),
    ]


def _ratio_rows(results: list[Result], every: list[Result]) -> list[str]:
    """Return the speeds beside each QEMU, warm and cold, and the host's processor."""
    heads: list[str] = []
    columns_of: list[Callable[[Result], list[float | None]]] = []
    for other in qemus(every):
        heads += [f"{other}: wall", "CPU", "CPU less start-up", "cold: wall", "CPU"]
        columns_of.append(partial(_beside, every, other))
    if "native" in columns(every):
        heads.append("slower than native")
        columns_of.append(lambda r: [slower_than_native(every, r)])
    rows = ["| guest | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for r in results:
        cells = [_ratio_text(value) for column in columns_of for value in column(r)]
        rows.append(f"| {r['guest']} | {' | '.join(cells)} |")
    return rows


def _trap_rows(results: list[Result], every: list[Result]) -> list[str]:
    names = [n for n in columns(results) if n != "native"]
    rows = [
        "| loop | "
        + " | ".join(f"{n} M/s (CPU; traps)" for n in names)
        + " | trapline/qemu CPU | wall | CPU less start-up |"
    ]
    rows.append("|---" * (len(names) + 4) + "|")
    for r in results:
        cells = []
        for n in names:
            measured = r["simulators"].get(n)
            rate = speed(r, n, "cpu")
            net = net_speed(every, r, n, "cpu")
            text = f"; {net / 1e6:.3f} less start-up" if net else ""
            cells.append(f"{rate / 1e6:.3f}{text} ({measured['traps']})" if measured and rate else "-")
        ratios = (ratio(r, "cpu"), ratio(r, "wall"), net_ratio(every, r, "cpu"))
        rows.append(f"| {r['guest']} | {' | '.join([*cells, *map(_ratio_text, ratios)])} |")
    return rows


def _summary(ratios: list[float], other: str) -> str:
    return f"geometric mean {geometric_mean(ratios):.2f}x {other}, worst {min(ratios):.2f}x (programs: {len(ratios)})"


def _summaries(programs: list[Result], results: list[Result]) -> list[str]:
    """Return lines with means and worst cases, by environment, QEMU, warm or cold, and clock."""
    lines = []
    for kind in ("bare", "guest"):
        chosen = [r for r in programs if r["guest"].endswith(kind)]
        for other in qemus(results):
            for clock in ("cpu", "wall"):
                for name, said in (("trapline", ""), ("cold", "cold, ")):
                    if found := [x for r in chosen if (x := ratio(r, clock, name, other)) is not None]:
                        lines.append(f"{kind}, {said}{clock}: {_summary(found, other)}.")
            if net := [x for r in chosen if (x := net_ratio(results, r, "cpu", other)) is not None]:
                lines.append(f"{kind}, cpu less start-up: {_summary(net, other)}.")
        if slower := [x for r in chosen if (x := slower_than_native(results, r)) is not None]:
            mean, worst = geometric_mean(slower), max(slower)
            lines.append(f"{kind}, cpu less start-up: {mean:.2f}x slower than native, worst {worst:.2f}x.")
    return [line for text in lines for line in ("", text)]


def markdown(document: Result) -> str:
    """Return the whole report."""
    results = document["results"]
    empty = [r for r in results if r["guest"].startswith("empty")]
    programs = [r for r in results if not r["guest"].startswith(("empty", "traps"))]
    traps = [r for r in results if r["guest"].startswith("traps")]
    lines = [
        f"# Side by side: {document['scale']} guests, {document['rounds']} rounds",
        "",
        f"{document['host']['processor']}, {document['host']['cores']} cores, Python {document['host']['python']}. "
        + " ".join(f"{n}: {v}." for n, v in document["versions"].items()),
        "",
        EXPLANATION,
        "",
        "## Start-up (a guest that only prints)",
        "",
        *_second_rows(empty),
        "",
        *_ratio_rows(empty, results),
    ]
    first = ", ".join(f"{name} {seconds:.2f}" for name, seconds in document.get("first_run_seconds", {}).items())
    lines += ["", f"First run of all, before the rounds (trapline may compile its image then), wall s: {first}."]
    if programs:
        lines += ["", "## Programs", "", *_second_rows(programs), "", *_ratio_rows(programs, results)]
        lines += _summaries(programs, results)
    if traps:
        lines += ["", "## Traps with paging on", "", *_trap_rows(traps, results)]
    return "\n".join(lines) + "\n"

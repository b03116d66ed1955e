"""From the measured runs to medians, ratios, the geometric mean and a table in markdown."""

from __future__ import annotations

import math
from statistics import median
from typing import Any

Result = dict[str, Any]

EXPLANATION = (
    "Medians with ranges, in seconds from the shell's point of view: start-up is part of every number. "
    "CPU is user and system time with all threads."
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


def ratio(result: Result, clock: str) -> float | None:
    """Return trapline's speed over QEMU's."""
    ours, theirs = speed(result, "trapline", clock), speed(result, "qemu", clock)
    return ours / theirs if ours and theirs else None


def _ratio_text(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}x"


def _program_rows(results: list[Result]) -> list[str]:
    names = [n for n in ("trapline", "qemu", "spike") if any(n in r["simulators"] for r in results)]
    rows = ["| guest | " + " | ".join(f"{n} CPU s" for n in names) + " | trapline/qemu CPU | wall |"]
    rows.append("|---" * (len(names) + 3) + "|")
    for r in results:
        cells = [spread(r["simulators"][n]["cpu"]) if n in r["simulators"] else "-" for n in names]
        rows.append(
            f"| {r['guest']} | {' | '.join(cells)} | {_ratio_text(ratio(r, 'cpu'))} | {_ratio_text(ratio(r, 'wall'))} |"
        )
    return rows


def _trap_rows(results: list[Result]) -> list[str]:
    names = [n for n in ("trapline", "qemu", "spike") if any(n in r["simulators"] for r in results)]
    rows = ["| loop | " + " | ".join(f"{n} M/s (CPU; traps)" for n in names) + " | trapline/qemu CPU | wall |"]
    rows.append("|---" * (len(names) + 3) + "|")
    for r in results:
        cells = []
        for n in names:
            measured = r["simulators"].get(n)
            rate = speed(r, n, "cpu")
            cells.append(f"{rate / 1e6:.3f} ({measured['traps']})" if measured and rate else "-")
        rows.append(
            f"| {r['guest']} | {' | '.join(cells)} | {_ratio_text(ratio(r, 'cpu'))} | {_ratio_text(ratio(r, 'wall'))} |"
        )
    return rows


def markdown(document: Result) -> str:
    """Return the whole report."""
    results = document["results"]
    start_up = [r for r in results if r["guest"].startswith("empty")]
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
        *_program_rows(start_up),
    ]
    if programs:
        lines += ["", "## Programs", "", *_program_rows(programs)]
        for kind in ("bare", "guest"):
            for clock in ("cpu", "wall"):
                found = [x for r in programs if r["guest"].endswith(kind) and (x := ratio(r, clock)) is not None]
                if found:
                    mean = geometric_mean(found)
                    lines += ["", f"{kind}, {clock}: geometric mean {mean:.2f}x QEMU, worst {min(found):.2f}x."]
    if traps:
        lines += ["", "## Traps with paging on", "", *_trap_rows(traps)]
    return "\n".join(lines) + "\n"

"""What M-mode firmware does with traps: who gets each, what a redirect writes, what it costs, how a model differs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trapline.views.junit import Case, Suite
from trapline.views.tables import show, table
from trapline.views.terminal import count, number, put, say

if TYPE_CHECKING:
    from rich.console import Console

    from trapline.conform.firmware import Difference, FirmwareReport
    from trapline.conform.firmware_run import Seen

_MODES = ("VS", "VU", "HS", "U")
_SHOWN = 40
_LEGEND = (
    "HS, VS: hardware delegates. mHS, mVS: M-mode redirects. M: M-mode emulates. runs: no trap. Behind a stroke: "
    "with hedeleg 0xb1ff where it differs."
)


def show_firmware(console: Console, reports: Sequence[FirmwareReport]) -> None:
    """Print the set-up, the routes with their costs, what redirects write, the SBI, and the differences.

    Of several images: the routes from VS and the costs side by side, and each one's differences.
    """
    for report in reports:
        _show_head(console, report)
    put(console)
    if len(reports) > 1:
        _show_side_by_side(console, reports)
    for report in reports:
        if len(reports) == 1:
            _show_set_up(console, report)
            _show_routes(console, report)
            _show_writes(console, report.real.events)
            _show_sbi(console, report)
        for one in report.real.events:
            if one.where:
                say(console, f"{one.probe} from {one.mode}, hedeleg {one.hedeleg:#x}: {one.how}: {one.where}", 0, "red")
        _show_differences(console, report)


def _show_head(console: Console, report: FirmwareReport) -> None:
    real, model = report.real, report.against.name
    put(console, report.path, "bold")
    where = "compared with" if report.named else "nearest model"
    say(
        console,
        f"S-mode after {number(real.instructions)} instructions; {where} {model}: {_count(report.differences)}",
        2,
    )
    others = ", ".join(f"{name} {n}" for name, n in report.distances if name != model)
    if others:
        say(console, f"differences from other models: {others}", 2, "dim")


def _show_side_by_side(console: Console, reports: Sequence[FirmwareReport]) -> None:
    say(console, f"From VS, or the first mode that raises it: who gets it, and instructions in M-mode. {_LEGEND}")
    names = [f"{n}: {report.against.name}" for n, report in enumerate(reports, 1)]
    made = table(("event", "wrap", 20), *((name, "right") for name in names))
    every = [_by_probe(report.real.events) for report in reports]
    for probe in every[0]:
        cells = []
        for found in every:
            ones = [one for one in found[probe] if one.mode == found[probe][0].mode]
            words = "/".join(dict.fromkeys(_short(one) for one in ones))
            paid = next((one.instructions for one in ones if one.instructions), 0)
            cells.append(f"{words} {number(paid)}" if paid else words)
        made.add_row(probe, *cells)
    show(console, made)


def _by_probe(events: Sequence[Seen]) -> dict[str, list[Seen]]:
    found: dict[str, list[Seen]] = {}
    for one in events:
        found.setdefault(one.probe, []).append(one)
    return found


def _count(differences: Sequence[object]) -> str:
    return count(len(differences), "difference") if differences else "no difference"


def _show_set_up(console: Console, report: FirmwareReport) -> None:
    there = dict(report.other.set_up)
    made = table(("register", "left"), ("found", "right"), ("model", "right"))
    for name, value in report.real.set_up:
        made.add_row(name, f"{value:#x}", f"{there[name]:#x}" if there[name] != value else "same")
    show(console, made)
    put(console)


def _short(seen: Seen) -> str:
    if seen.how == "redirected":
        return f"m{seen.to}"
    return {"hardware": seen.to, "emulated": "M", "runs": "runs"}.get(seen.how, seen.how)


def _show_routes(console: Console, report: FirmwareReport) -> None:
    say(
        console,
        f"{_LEGEND} instr.: in M-mode from VS, or the first mode that enters M-mode.",
    )
    costs = {seen.key: seen.instructions for seen in report.other.events}
    made = table(("event", "wrap", 20), *((m, "left") for m in _MODES), ("instr.", "right"), ("model", "right"))
    for probe, ones in _by_probe([one for one in report.real.events if one.group != "sbi"]).items():
        cells = []
        for mode in _MODES:
            words = list(dict.fromkeys(_short(one) for one in ones if one.mode == mode))
            cells.append("/".join(words) or "-")
        paid = next((one for one in ones if one.instructions), None)
        price = ("-", "-") if paid is None else (number(paid.instructions), number(costs[paid.key]))
        made.add_row(probe, *cells, *price)
    show(console, made)
    put(console)


def _show_writes(console: Console, events: Sequence[Seen]) -> None:
    kinds: dict[tuple[str, bool, tuple[str, ...]], list[str]] = {}
    for one in events:
        if one.how == "redirected":
            left = tuple(name for name, value in one.fields if value == "left")
            kinds.setdefault((one.to, one.mode.startswith("V"), left), []).append(f"{one.probe} from {one.mode}")
    made = table(("redirects", "left"), ("from", "left"), ("events", "right"), ("leaves as it was", "wrap", 16))
    for (to, virtual, left), names in sorted(kinds.items(), key=lambda k: (k[0][0], not k[0][1], -len(k[1]))):
        few = f" ({', '.join(dict.fromkeys(names))})" if len(set(names)) < 3 else ""
        origin = "VS, VU" if virtual else "HS, U"
        made.add_row(f"to {to}", origin, number(len(names)), (", ".join(left) or "nothing") + few)
    show(console, made)
    put(console)


def _show_sbi(console: Console, report: FirmwareReport) -> None:
    there = {seen.key: seen for seen in report.other.events}
    made = table(("SBI from HS", "left"), ("a0", "right"), ("a1", "right"), ("model", "right"), ("instr.", "right"))
    for one in report.real.events:
        if one.group == "sbi":
            a0, a1 = one.result or (0, 0)
            other = there[one.key].result
            same = "same" if other == one.result else " ".join(_signed(n) for n in other) or "-"
            made.add_row(one.probe, _signed(a0), f"{a1:#x}", same, number(one.instructions))
    show(console, made)


def _signed(value: int) -> str:
    return str(value - (1 << 64)) if value >> 63 else f"{value:#x}" if value > 9 else str(value)


def _show_differences(console: Console, report: FirmwareReport) -> None:
    if not report.differences:
        return
    put(console)
    say(console, f"{_count(report.differences)} from {report.against.name}: - real, + model", 0, "bold")
    for one in report.differences[:_SHOWN]:
        say(console, _line(one))
        say(console, f"- {one.real}", 2)
        say(console, f"+ {one.model}", 2)
    if len(report.differences) > _SHOWN:
        say(console, f"and {len(report.differences) - _SHOWN} more (--json has all)", 0, "dim")


def _line(one: Difference) -> str:
    if not one.event:
        return f"set-up: {one.field}"
    return f"{one.event} from {one.mode}, hedeleg {one.hedeleg:#x}: {one.field}"


def firmware_suites(report: FirmwareReport) -> list[Suite]:
    """Return a suite with a case for each event and mode, and one for the set-up; all pass if no model was named."""
    wrong: dict[tuple[str, str, int], list[str]] = {}
    for d in report.differences if report.named else ():
        wrong.setdefault((d.event, d.mode, d.hedeleg), []).append(f"{d.field}: {d.real}, the model: {d.model}")
    keys = [("", "", 0), *(seen.key for seen in report.real.events)]
    cases = []
    for event, mode, hedeleg in keys:
        found = wrong.get((event, mode, hedeleg), [])
        name = f"{event} from {mode}, hedeleg {hedeleg:#x}" if event else "set-up"
        cases.append(Case("conform.firmware", name, "; ".join(found)))
    return [Suite(f"conform {report.path} {report.against.name}", tuple(cases))]

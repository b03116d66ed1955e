"""Nested routes and audits for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.text import Text

from trapline.views.audit import events_text, firmware_text, groups, say_policy, show_end
from trapline.views.tables import show, table
from trapline.views.terminal import count, facts, number, put, route, say, style_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

    from trapline.lab.audit.baseline import Since
    from trapline.lab.nested.audit import NestedAudit
    from trapline.lab.nested.route import NestedRoute, NestedRoutes
    from trapline.lab.replay.replay import Replay
    from trapline.lab.routes import Arrival
    from trapline.views.audit import Group


def show_nested_routes(console: Console, result: NestedRoutes) -> None:
    """Print the ways, a section for each cause."""
    facts(console, (*result.settings.facts(), f"L1 {result.l1}"), style="bold")
    made = table(
        ("event", "wrap", 24), ("from", "left"), ("through", "left"), ("outcome", "left"), ("L1 sees", "left"),
        ("L0 exits", "right"), ("L1", "right"), ("L0", "right"),
    )  # fmt: skip
    heading = None
    for cells, modes in _merged(result.routes).items():
        cause, name, event, way, how, seen, *costs = cells
        if cause != heading:
            heading = cause
            made.add_heading(Text(f"{cause} {name}", style="bold"))
        ended = Text(how, style=style_of(how))
        made.add_row(f"  {event}", " ".join(modes), route(*way) if way else "-", ended, seen, *costs)
    show(console, made)
    put(console)
    say(console, "L1 and L0: instructions of L1's own code, and an estimate for HS-mode and firmware", 0, "dim")


def _merged(routes: Iterable[NestedRoute]) -> dict[tuple[Any, ...], list[str]]:
    """Return the cells of each row, and all modes that have it."""
    rows: dict[tuple[Any, ...], list[str]] = {}
    for r in sorted(routes, key=lambda r: r.cause):
        own = r.instructions["vU"] + r.instructions["vHS"] if r.from_.startswith("vV") else 0
        hosted = r.instructions.get("HS", 0) + r.instructions.get("M", 0)
        seen = " ".join(str(s.cause) for s in r.l1_sees) or "-"
        costs = (number(r.exits), number(own), f"~{number(hosted)}" if hosted else "0")
        cells = (r.cause, r.as_data()["name"], r.event, r.path[1:], r.outcome(), seen, *costs)
        rows.setdefault(cells, []).append(r.from_)
    return rows


def show_seen(console: Console, result: NestedRoutes) -> None:
    """Print the trap registers that each level saw, a table for each event and mode."""
    facts(console, (*result.settings.facts(), f"L1 {result.l1}"), style="bold")
    for r in result.routes:
        put(console)
        say(console, f"{r.event}, from {r.from_}", 0, "bold")
        if r.path[1:]:
            say(console, f"{route(*r.path)}   {r.outcome()}", 2, style_of(r.outcome()))
        rows, more = seen_by_level(r)
        if rows:
            made = table(*((name, "left") for name in ("level", "cause", "epc", "tval", "htval", "htinst", "set")))
            for row in rows:
                made.add_row(*row)
            show(console, made)
        if more:
            say(console, f"and {count(more, 'exit')} of L1's handler before the last", 2, "dim")
        spent = ", ".join(
            f"{level} {'~' if level in ('M', 'HS') else ''}{number(n)}" for level, n in r.instructions.items() if n
        )
        say(console, f"{count(r.exits, 'exit')} of L0" + (f"; instructions: {spent}" if spent else ""), 2)


def seen_by_level(r: NestedRoute) -> tuple[list[tuple[str, ...]], int]:
    """Return a row for each level on the way that took a trap, and how many exits of L1's own handler have none.

    Of those exits the last has a row: the SRET that goes back.
    """
    rows: list[tuple[str, ...]] = []
    more = 0
    arrivals, of_l1, of_guest = list(r.arrivals), list(r.l1_sees), list(r.l2_sees)
    inner = r.from_.startswith("vV")
    for level in r.path[1:]:
        if level in ("M", "HS"):
            mine = [n for n, a in enumerate(arrivals) if a.level == level]
            if not mine:
                continue
            a = arrivals.pop(mine[0])
            while inner and arrivals and rows and rows[-1][0] == "vHS" and arrivals[0].origin in ("vHS", "vU"):
                a, more = arrivals.pop(0), more + 1
            bits = _bits_of_m(a) if level == "M" else [("SPP", a.origin[-1] == "S"), ("SPV", True),
                                                       ("SPVP", a.origin[-1] == "S"), ("GVA", a.gva)]  # fmt: skip
            rows.append((level, str(a.cause), hex(a.epc), hex(a.tval), hex(a.tval2), hex(a.tinst), _set(bits)))
        elif level == "vHS" and of_l1:
            s = of_l1.pop(0)
            bits = [("SPP", s.spp), ("SPV", s.spv), ("SPVP", s.spvp), ("GVA", s.gva)]
            rows.append((level, str(s.cause), hex(s.epc), hex(s.tval), hex(s.htval), hex(s.htinst), _set(bits)))
        elif level in ("vVS", "vHS") and of_guest:
            g = of_guest.pop(0)
            rows.append((level, str(g.cause), hex(g.epc), hex(g.tval), "", "", _set([("SPP", g.privilege[-1] == "S")])))
    return rows, more


def _bits_of_m(a: Arrival) -> list[tuple[str, bool]]:
    return [("MPP=1" if a.origin[-1] == "S" else "MPP=0", True), ("MPV", True), ("GVA", a.gva)]


def _set(bits: list[tuple[str, bool]]) -> str:
    return " ".join(name for name, there in bits if there) or "-"


def show_nested_audit(
    console: Console, result: NestedAudit, replays: list[Replay] | None = None, changed: Since | None = None
) -> None:
    """Print the audit."""
    from trapline.lab.nested.audit import PROPERTIES
    from trapline.privilege.causes import cause_name

    if result.interrupted:
        say(console, "interrupted: the result so far", 0, "yellow")
    for policy in result.policies:
        failed = [f for f in result.failures if f.policy == policy]
        say_policy(console, policy, failed, f" as L0 of {_few(result.l1)}")
        for group in groups(failed):
            f = group.first
            say(console, f"({f.prop}) {f.cause} {cause_name(f.cause)}: {f.what}", 2, "red")
            say(console, events_text(group, 4), 6)
            if f.route:
                say(console, route(*f.route.split(" > ")), 6)
            if where := _where(group, result):
                say(console, where, 6)
            if f.log:
                put(console, f"        kvm: {f.log[-1]}", "dim")
        remarks = groups(f for f in result.findings if f.severity == "note" and f.policy == policy)
        if remarks:
            say(console, "remarks", 2, "bold")
        for group in remarks:
            say(console, f"({group.first.prop}) {group.first.what}", 4)
            say(console, "; ".join(filter(None, (events_text(group, 4), _where(group, result)))), 6, "dim")
    put(console)
    for prop, text in PROPERTIES.items():
        found = sum(1 for f in result.failures if f.prop == prop)
        said = count(found, "counterexample") if found else "holds"
        say(console, f"({prop}) {text}: {said}", 0, "red" if found else "green")
    show_end(console, result, replays, changed)


def _where(group: Group, result: NestedAudit) -> str:
    """Return under which firmware, and for which L1, where there were several."""
    found = [firmware_text(group, result.firmware)] if len(result.firmware) > 1 else []
    of = [name for name in result.l1 if name in group.l1]
    if len(result.l1) > 1 and of:
        found.append("every L1" if len(of) == len(result.l1) else f"L1 {_few(of)}")
    return "; ".join(found)


def _few(names: Sequence[str], most: int = 6) -> str:
    """Return names, the first of many only."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")

"""Nested routes and audits for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from trapline.views.audit import events_text, groups, say_policy, show_since
from trapline.views.tables import show, table
from trapline.views.terminal import count, facts, number, put, route, say, style_of

if TYPE_CHECKING:
    from rich.console import Console

    from trapline.lab.baseline import Since
    from trapline.lab.nested_audit import NestedAudit
    from trapline.lab.nested_route import NestedRoute, NestedRoutes
    from trapline.lab.replay import Replay


def outcome(r: NestedRoute) -> str:
    """Return how an event ends: with the cause that the raising guest got, or an errno."""
    if r.end == "killed":
        return f"killed -{r.errno}"
    return f"guest {r.l2_sees[0].cause}" if r.end == "guest" else r.end


def show_nested_routes(console: Console, result: NestedRoutes) -> None:
    """Print the ways, a section for each cause."""
    facts(console, (*result.settings.facts(), f"L1 {result.l1}"), style="bold")
    made = table(
        ("event", "wrap", 24), ("from", "left"), ("through", "left"), ("outcome", "left"), ("L1 sees", "left"),
        ("L0 exits", "right"), ("L1", "right"), ("L0", "right"),
    )  # fmt: skip
    heading = None
    for r in sorted(result.routes, key=lambda r: r.cause):
        if r.cause != heading:
            heading = r.cause
            made.add_heading(Text(f"{r.cause} {r.as_data()['name']}", style="bold"))
        own = r.instructions["vU"] + r.instructions["vHS"] if r.from_.startswith("vV") else 0
        hosted = r.instructions.get("HS", 0) + r.instructions.get("M", 0)
        made.add_row(
            "  " + r.event,
            r.from_,
            route(*r.path[1:]) if r.path[1:] else "-",
            Text(outcome(r), style=style_of(outcome(r))),
            " ".join(str(s.cause) for s in r.l1_sees) or "-",
            number(r.exits),
            number(own),
            f"~{number(hosted)}" if hosted else "0",
        )
    show(console, made)
    put(console)
    say(console, "L1 and L0: instructions of L1's own code, and an estimate for HS-mode and firmware", 0, "dim")


def show_nested_audit(
    console: Console, result: NestedAudit, replays: list[Replay] | None = None, changed: Since | None = None
) -> None:
    """Print the audit."""
    from trapline.lab.nested_audit import PROPERTIES
    from trapline.privilege.causes import cause_name

    if result.interrupted:
        say(console, "interrupted: the result so far", 0, "yellow")
    for policy in result.policies:
        failed = [f for f in result.failures if f.policy == policy]
        say_policy(console, policy, failed, f" as L0 of {', '.join(result.l1)}")
        for group in groups(failed):
            f = group.first
            say(console, f"({f.prop}) {f.cause} {cause_name(f.cause)}: {f.what}", 2, "red")
            say(console, events_text(group, 4), 6)
            if f.route:
                say(console, route(*f.route.split(" > ")), 6)
            if f.log:
                put(console, f"        kvm: {f.log[-1]}", "dim")
    remarks = groups(f for f in result.findings if f.severity == "note")
    if remarks:
        say(console, "remarks", 0, "bold")
    for group in remarks:
        say(console, f"({group.first.prop}) {group.first.what}: {count(len(group.events), 'event')}", 2)
    put(console)
    for prop, text in PROPERTIES.items():
        found = sum(1 for f in result.failures if f.prop == prop)
        said = count(found, "counterexample") if found else "holds"
        say(console, f"({prop}) {text}: {said}", 0, "red" if found else "green")
    say(console, f"{count(result.executed, 'probe')} executed, {count(len(result.firmware), 'firmware model')}")
    if replays:
        say(console, f"{count(len(replays), 'counterexample')} written; for example:")
        put(console, f"  {replays[0].command}")
    if changed is not None:
        show_since(console, changed)

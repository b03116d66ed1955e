"""An audit for people: what fails, with the code that shows it; what is only remarked; who can raise what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trapline.views.tables import show, table
from trapline.views.terminal import count, number, put, route, say

if TYPE_CHECKING:
    from rich.console import Console

    from trapline.lab.audit.audit import Audit
    from trapline.lab.audit.baseline import Since
    from trapline.lab.audit.checks import Finding
    from trapline.lab.audit.shown import ShownAudit
    from trapline.lab.replay.replay import Replay

_SHOWN = 40


@dataclass(slots=True)
class Group:
    """Findings that differ in event, mode, firmware and host-fwft only."""

    first: Finding
    events: dict[str, set[str]] = field(default_factory=dict)
    firmware: dict[str, set[bool]] = field(default_factory=dict)
    l1: dict[str, None] = field(default_factory=dict)  # of a nested audit; "" is an event of L1 itself


def groups(findings: Iterable[Finding]) -> list[Group]:
    """Group findings by policy, property, cause and what happens."""
    made: dict[tuple[str, ...], Group] = {}
    for f in findings:
        where = "ab" if f.prop in "ab" else f.prop
        key = (f.policy, where, f.what) if f.severity == "note" else (f.policy, where, str(f.cause), f.what)
        group = made.setdefault(key, Group(f))
        if f.from_ == "VU" and group.first.from_ != "VU":
            group.first = f
        group.events.setdefault(f.event, set()).add(f.from_)
        group.firmware.setdefault(f.firmware, set()).add(f.host_fwft)
        group.l1[getattr(f, "l1", "")] = None
    return list(made.values())


def firmware_text(group: Group, all_models: tuple[str, ...]) -> str:
    """Return under which firmware models the findings of a group are."""
    names = [n for n in all_models if n in group.firmware]
    if len(all_models) == 1:
        return names[0]
    if len(names) == len(all_models):
        return "every firmware"
    if len(names) > len(all_models) // 2:
        return "every firmware but " + ", ".join(n for n in all_models if n not in names)
    return ", ".join(names)


def events_text(group: Group, most: int = 6) -> str:
    """Return the events of a group and who raises them, the first `most` by name."""
    modes = sorted({m for found in group.events.values() for m in found})
    names = list(group.events)
    shown = ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
    return f"{shown} (from {' and '.join(modes)})"


def say_policy(console: Console, policy: str, failed: Sequence[Any], of: str = "") -> None:
    """Print whether a policy passes."""
    say(console, f"{policy} {'fails' if failed else 'passes'}{of}", 0, "bold red" if failed else "bold green")


def show_audit(
    console: Console, result: Audit, replays: list[Replay] | None = None, changed: Since | None = None
) -> None:
    """Print the audit."""
    from trapline.lab.audit.audit import PROPERTIES
    from trapline.privilege.causes import cause_name

    if result.interrupted:
        say(console, "interrupted: the result so far", 0, "yellow")
    for policy in result.policies:
        failed = [f for f in result.failures if f.policy == policy]
        say_policy(console, policy, failed)
        for group in groups(failed):
            f = group.first
            props = "a, b" if f.prop in "ab" and len({m for e in group.events.values() for m in e}) > 1 else f.prop
            say(console, f"({props}) {f.cause} {cause_name(f.cause)}: {f.what}", 2, "red")
            say(console, events_text(group), 6)
            if f.condition:
                say(console, f"VU can if {f.condition}", 6)
            say(console, f"{route(*f.route.split(' > '))}   {firmware_text(group, result.firmware)}", 6)
            for text in f.code:
                put(console, f"        {text}", "cyan")
            if f.log:
                put(console, f"        kvm: {f.log[-1]}", "dim")
    _notes(console, result)
    if len(result.policies) == 1 and result.raises:
        _alone(console, result)
    put(console)
    for prop, text in PROPERTIES.items():
        own = sum(1 for f in result.failures if f.prop == prop)
        # A kill of (c) is one that its mode can cause as well: (a) and (b) must not claim otherwise.
        mode = {"a": "VU", "b": "VS"}.get(prop)
        through = sum(1 for f in result.failures if f.prop == "c" and f.from_ == mode)
        outcome = count(own, "counterexample") if own else "holds" if not through else "fails"
        outcome += f" and {number(through)} of (c)" if own and through else ""
        outcome += f" by {number(through)} of (c)" if not own and through else ""
        say(console, f"({prop}) {text}: {outcome}", 0, "green" if outcome == "holds" else "red")
    show_end(console, result, replays, changed)


def show_end(console: Console, result: ShownAudit[Any], replays: list[Replay] | None, changed: Since | None) -> None:
    """Print how much was executed, what was written, and what is new."""
    say(console, f"{count(result.executed, 'probe')} executed, {count(len(result.firmware), 'firmware model')}")
    if replays:
        say(console, f"{count(len(replays), 'counterexample')} written; for example:")
        put(console, f"  {replays[0].command}")
    if changed is not None:
        show_since(console, changed)


def show_since(console: Console, changed: Since) -> None:
    """Say what is new since an earlier audit."""
    new, gone = count(len(changed.new), "new failure"), f"{number(len(changed.gone))} gone"
    put(console)
    say(console, f"since {changed.file}: {new}, {gone}", 0, "red" if changed.new else "green")
    for f in changed.new[:_SHOWN]:
        fwft = ", host-fwft on" if f.host_fwft else ""
        say(console, f"new: {f.policy} ({f.prop}) {f.event} from {f.from_}, {f.firmware}{fwft}: {f.what}", 2, "red")
    if len(changed.new) > _SHOWN:
        say(console, f"... and {number(len(changed.new) - _SHOWN)} more (--json FILE has them all)", 2)


def _notes(console: Console, result: Audit) -> None:
    found = groups(f for f in result.findings if f.severity == "note")
    if not found or len(result.policies) > 1:
        return
    say(console, "remarks", 0, "bold")
    for group in found:
        say(console, f"({group.first.prop}) {group.first.what}", 2)
        say(console, f"{events_text(group)}; {firmware_text(group, result.firmware)}", 6, "dim")


def _alone(console: Console, result: Audit) -> None:
    from trapline.privilege.causes import cause_name

    made = table(("cause", "left"), ("can VU alone raise it?", "wrap"))
    for cause, answer in result.vu_alone().items():
        made.add_row(f"{cause} {cause_name(cause)}", answer)
    put(console)
    show(console, made)

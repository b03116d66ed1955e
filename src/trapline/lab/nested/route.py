"""`trapline route --nested`: the way of each event through L0 and L1, raised in L2 and in L1 itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trapline.engine.api import Engine
from trapline.firmware.models import DEFAULT_MODEL, FirmwareModel
from trapline.kvm.report.trace import TrapRecord, outcome
from trapline.lab.nested.events import NESTED_EVENTS
from trapline.lab.nested.probe import HypervisorSees, Levels, NestedProbeVm
from trapline.lab.probe.events import EVENTS, OF_A_FLAT_GUEST
from trapline.lab.route import event_names, first_cause, harts
from trapline.lab.routes import Arrival, GuestSees
from trapline.lab.settings import Settings, guest_isa, policy_of, settings
from trapline.plain import plain
from trapline.policies import Policy
from trapline.privilege.causes import INTERRUPT, cause_name
from trapline.privilege.isa_string import DEFAULT_ISA

DEFAULT_L1 = "linux-7.2"
LEVELS = ("vVU", "vVS", "vU", "vHS", "HS", "M")


@dataclass(frozen=True, slots=True)
class NestedRoute:
    """One row: an event from a mode of L2 or L1. `exits` are those of L0 that it took, with those of L1's handler."""

    event_id: str
    event: str
    cause: int
    from_: str
    path: tuple[str, ...]
    how: tuple[str, ...]
    end: str
    errno: int | None
    exits: int
    instructions: dict[str, int]
    l1_sees: tuple[HypervisorSees, ...]
    l2_sees: tuple[GuestSees, ...]
    arrivals: tuple[Arrival, ...]

    def as_data(self) -> dict[str, Any]:
        named = {**plain(self, "event_id event cause"), "name": cause_name(self.cause)}
        return named | plain(
            self, "from=from_ path how end errno exits instructions l1_sees guest_sees=l2_sees arrivals"
        )

    def outcome(self) -> str:
        """Return how it ends: with the cause that the raising guest got, or an errno."""
        return outcome(self.end, self.errno, next(iter(self.l2_sees), None))

    def arrow(self) -> str:
        """Return the path in one line."""
        return " > ".join(self.path)


@dataclass(frozen=True, slots=True)
class NestedRoutes:
    """All rows, and what they hold for."""

    settings: Settings
    l1: str
    routes: tuple[NestedRoute, ...]

    def as_data(self) -> dict[str, Any]:
        return {**self.settings.head(), **plain(self, "l1 routes")}


def _way(records: list[TrapRecord], start: str) -> tuple[list[str], list[str]]:
    """Join the records. What L1's handler does by itself (vHS > HS > vHS) is one visit of vHS; all exits count."""
    path, how = [start], list[str]()
    for record in records:
        own = record.path[0] == record.path[-1] in ("vHS", "vU") and len(path) > 1
        own = own or (record.path[1:] == ("HS", "VMM") and path[-1] == "VMM")
        if not record.cause & INTERRUPT and not own:
            path += record.path[1:]
            how += record.how
    return path, how


def to_nested_route(levels: Levels, *, inner: bool) -> NestedRoute:
    """Build a row from what one probe did."""
    seen = levels.seen
    event = seen.entry.event
    names = {"VU": "vVU", "VS": "vVS"} if inner else {"VU": "vU", "VS": "vHS"}
    path, how = _way(levels.records, names[seen.entry.mode])
    supervisor = names["VS"]
    for trap in seen.traps:
        if trap.destination == "VS" and not trap.cause & INTERRUPT:
            path += [supervisor] * trap.count
            how += ["hardware"] * trap.count
    instructions = {name: levels.instructions.get(name, 0) for name in LEVELS[:4]}
    for level, count, _ in seen.costs:
        instructions[level] = instructions.get(level, 0) + count
    first = first_cause(seen)
    return NestedRoute(
        event.id, event.text, first, names[seen.entry.mode], tuple(path), tuple(how), _end(levels, path),
        next((r.errno for r in reversed(seen.records) if r.errno), None),
        sum("HS" in r.path for r in levels.records), instructions,
        levels.notes,
        tuple(replace(s, privilege=names[s.privilege]) for s in seen.log), tuple(seen.arrivals),
    )  # fmt: skip


def _end(levels: Levels, path: list[str]) -> str:
    if levels.seen.end:
        return levels.seen.end
    if len(path) == 1:
        return "no-trap"
    return "guest" if levels.seen.log else "resumed"


def nested_vms(
    chosen: Settings,
    hypervisor: Policy | None,
    isa: str,
    engine: str | Engine,
    only: frozenset[str] | None,
    firmware: FirmwareModel | None = None,
) -> Iterator[NestedProbeVm]:
    """Yield a VM for each hart that the events need: without C for cause 0, with Zcb for its accesses, and `isa`."""
    if only is not None and hypervisor is None:
        only -= {e.id for e in NESTED_EVENTS}
        if not only:
            return
    for hart, events in harts(isa, only):
        yield NestedProbeVm(chosen, isa=hart, engine=engine, only=events, firmware=firmware, hypervisor=hypervisor)


def wanted(event: str | None) -> frozenset[str]:
    """Return the events whose name or cause fits `event`; those of nested guests are found by name alone."""
    if event is not None and (own := {e.id for e in NESTED_EVENTS if event in e.id}):
        return frozenset(own)
    return (event_names(event) or frozenset(e.id for e in (*EVENTS, *NESTED_EVENTS))) - OF_A_FLAT_GUEST


def nested_route(
    policy: str | Path | Policy = "linux-7.2",
    l1: str | Path | Policy = DEFAULT_L1,
    *,
    firmware: str = DEFAULT_MODEL,
    host_fwft: bool = False,
    misaligned: str = "trap",
    isa: str = DEFAULT_ISA,
    engine: str | Engine = "native",
    event: str | None = None,
) -> NestedRoutes:
    """Execute the probes in L2 under L1, and in L1 itself, and return the way of each event."""
    chosen, isa, hypervisor = settings(policy, firmware, host_fwft, misaligned), guest_isa(isa), policy_of(l1)
    only = wanted(event)
    rows = []
    for inner in (True, False):
        for vm in nested_vms(chosen, hypervisor if inner else None, isa, engine, only):
            rows += [to_nested_route(vm.run_levels(entry), inner=inner) for entry in vm.image.entries]
    order = {e.id: n for n, e in enumerate((*EVENTS, *NESTED_EVENTS))}
    rows.sort(key=lambda r: order[r.event_id])
    return NestedRoutes(chosen, hypervisor.name, tuple(rows))

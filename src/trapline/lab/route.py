"""`trapline route`: who gets cause X raised in mode Y, by executing a probe for every row."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trapline.engine.api import Engine
from trapline.firmware.models import DEFAULT_MODEL
from trapline.lab.errors import UsageError
from trapline.lab.probe.events import EVENTS, UNREACHABLE
from trapline.lab.probe.probe import Observation, ProbeVm
from trapline.lab.routes import Route
from trapline.lab.settings import Settings, guest_isa, settings
from trapline.lang.given import suggest
from trapline.plain import plain
from trapline.policies import Policy
from trapline.privilege.causes import CAUSE_NAMES, INTERRUPT, cause_name
from trapline.privilege.isa_string import DEFAULT_ISA, extensions
from trapline.shown import html_table

# Instructions that a level executes in software here: their number is a model of the real thing.
_HOSTED = ("HS", "M")


@dataclass(frozen=True, slots=True)
class RouteTable:
    """The matrix: what it holds for, its rows, and what cannot be raised."""

    settings: Settings
    routes: tuple[Route, ...]
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<RouteTable of {self._title()}: {len(self.routes)} routes>"

    def _title(self) -> str:
        return f"{self.settings.policy.name}, {self.settings.firmware}"

    def _repr_html_(self) -> str:
        rows = [(r.name, r.event, r.from_, r.arrow(), r.outcome()) for r in self.routes]
        return html_table(("cause", "event", "from", "route", "outcome"), rows, self._title())

    def as_data(self) -> dict[str, Any]:
        return {**self.settings.head(), **plain(self, "routes notes")}


def to_route(seen: Observation) -> Route:
    """Build a row from what one probe did."""
    event, mode = seen.entry.event, seen.entry.mode
    path, how = _path(seen, mode)
    cause = first_cause(seen)
    levels = dict(seen.instructions)
    for level, count, _ in seen.costs:
        levels[level] = levels.get(level, 0) + count
    sources = dict.fromkeys(source for level, _, source in seen.costs if level in _HOSTED)
    return Route(
        cause=cause,
        name=cause_name(cause),
        event=event.text,
        from_=mode,
        path=path,
        how=how,
        end=_end(seen, bool(how)),
        errno=next((r.errno for r in reversed(seen.records) if r.errno), None),
        guest_sees=seen.log[0] if seen.log else None,
        counters=seen.counters,
        instructions=levels,
        estimated=bool(sources),
        source="; ".join(sources),
        arrivals=tuple(dict.fromkeys(seen.arrivals)) if seen.end == "hung" else tuple(seen.arrivals),
        event_id=event.id,
    )


def _path(seen: Observation, mode: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Join the records, then the exceptions that hardware gave to the guest itself; of a trap for ever, one round."""
    path, how = [mode], list[str]()
    last = None
    for record in seen.records:
        again = seen.end == "hung" and last is not None and (record.cause, record.epc) == (last.cause, last.epc)
        if not again and not record.cause & INTERRUPT:
            path += record.path[1:]
            how += record.how
        last = record
    for trap in seen.traps:
        if trap.destination == "VS" and not trap.cause & INTERRUPT:
            path += ["VS"] * trap.count
            how += ["hardware"] * trap.count
    return tuple(path), tuple(how)


def first_cause(seen: Observation) -> int:
    """Return the cause of the first exception that hardware took; the event's own if it took none."""
    causes = [*(a.cause for a in seen.arrivals), *(t.cause for t in seen.traps)]
    return next((cause for cause in causes if not cause & INTERRUPT), seen.entry.event.cause)


def _end(seen: Observation, trapped: bool) -> str:
    if seen.end:
        return seen.end
    if not trapped:
        return "no-trap"
    ends = [r.end for r in seen.records if not r.cause & INTERRUPT]
    return ends[-1] if ends and not (seen.log and ends[-1] != "guest") else "guest"


def event_names(pattern: str | None) -> frozenset[str] | None:
    """Return the events whose name or cause fits `pattern` (a regular expression, or a cause); None for all."""
    if pattern is None:
        return None
    numbers = {name: number for number, name in CAUSE_NAMES.items()}
    cause = int(pattern) if re.fullmatch(r"[0-9]{1,4}", pattern) else numbers.get(pattern)
    if cause is not None:
        found = {e.id for e in EVENTS if e.cause == cause}
        why = UNREACHABLE.get(cause, "no event of this hart raises it")
    else:
        try:
            found = {e.id for e in EVENTS if re.search(pattern, e.id) or re.search(pattern, e.text)}
        except (re.error, RecursionError, OverflowError) as error:
            raise UsageError(f"--event {pattern!r} is no regular expression: {error}") from None
        near = suggest(pattern, [*numbers, *(e.id for e in EVENTS)])
        why = near or "trapline route without --event shows all"
    if not found:
        raise UsageError(f"no event fits {pattern!r}", remedy=why)
    return frozenset(found)


def without_compressed(isa: str) -> str:
    """Return an ISA string without C (and without what needs it): the hart on which cause 0 exists."""
    text = re.sub(r"^(rv64[abd-z]*)c", r"\1", isa)
    return re.sub(r"_(zc[a-z]+)", "", text)


def with_zcb(isa: str) -> str:
    """Return an ISA string with Zcb, which the default hart does not have."""
    return f"{isa}_zcb"


def harts(isa: str, only: frozenset[str] | None) -> Iterator[tuple[str, frozenset[str] | None]]:
    """Yield each hart that the events need, and which of them: without C for cause 0, with Zcb, and `isa`."""
    here = extensions(isa)
    special: set[str] = set()
    for mark, there, change in (("-c", "c" not in here, without_compressed), ("zcb", "zcb" in here, with_zcb)):
        found = frozenset(e.id for e in EVENTS if mark in e.isa and (only is None or e.id in only))
        special |= found if not there else set()
        if found and not there and "c" in here:
            yield change(isa), found
    if only is None or only - special:
        yield isa, only


def probe_vms(
    chosen: Settings, isa: str, engine: str | Engine, only: frozenset[str] | None, **more: Any
) -> Iterator[ProbeVm]:
    """Yield a VM for each hart that the events need."""
    for hart, events in harts(isa, only):
        yield ProbeVm(chosen, isa=hart, engine=engine, only=events, **more)


def route(
    policy: str | Path | Policy = "linux-7.2",
    *,
    firmware: str = DEFAULT_MODEL,
    host_fwft: bool = False,
    misaligned: str = "trap",
    isa: str = DEFAULT_ISA,
    engine: str | Engine = "native",
    event: str | None = None,
) -> RouteTable:
    """Execute the probes under a policy and return the route of every event from VS and VU."""
    chosen, isa = settings(policy, firmware, host_fwft, misaligned), guest_isa(isa)
    rows: list[tuple[int, Route]] = []
    order = {e.id: n for n, e in enumerate(EVENTS)}
    notes: list[str] = []
    for probes in probe_vms(chosen, isa, engine, event_names(event)):
        engine = probes.engine if engine == "native" else engine
        notes += [n for n in probes.vm.notes if n not in notes]
        rows += [(order[entry.event.id], to_route(probes.run(entry))) for entry in probes.image.entries]
    rows.sort(key=lambda r: r[0])
    if event is None:
        notes += [f"cause {n} ({cause_name(n)}) cannot be raised by a guest: {why}" for n, why in UNREACHABLE.items()]
    return RouteTable(chosen, tuple(r for _, r in rows), tuple(notes))

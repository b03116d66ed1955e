"""`trapline conform`: run every event under a real kernel on the board and under its preset, and compare."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trapline.conform.board import Host, Run, quietest, run_events
from trapline.conform.compare import Accepted, Difference, Row, compare, load_accepted
from trapline.conform.hosted import run_hosted
from trapline.conform.payload import payload
from trapline.conform.port import Window
from trapline.conform.seen import Seen
from trapline.conform.sweep import Sweep
from trapline.conform.sweep_compare import SweepRow, compare_sweep
from trapline.conform.sweep_run import SweepSeen, run_hosted_sweeps, run_sweeps
from trapline.conform.sweeps import named
from trapline.lab.errors import UsageError
from trapline.lab.firmware_names import ALL
from trapline.lab.probe import image
from trapline.lab.probe.events import EVENTS
from trapline.lab.route import event_names
from trapline.lab.settings import Settings, policy_of
from trapline.plain import plain
from trapline.policies import Policy
from trapline.privilege.causes import MISALIGNED_BITS
from trapline.privilege.isa_string import DEFAULT_ISA, extensions

# With Zcb for the events that need it; those of a hart without C cannot run, since the kernel needs C.
ISA = f"{DEFAULT_ISA}_zcb"


@dataclass(slots=True)
class Comparison:
    """One real kernel and firmware against one preset and firmware model."""

    settings: Settings
    release: str
    rows: list[Row]
    not_run: tuple[str, ...] = ()
    sweeps: list[SweepRow] = field(default_factory=list)
    nacl: tuple[str, ...] | None = None  # of --nested: what L1 was given; its guests are the hosted side

    @property
    def sides(self) -> tuple[str, str]:
        """The two sides as people call them."""
        return ("real", "hosted") if self.nacl is None else ("flat", "nested")

    @property
    def differences(self) -> list[Difference]:
        """All differences."""
        return [
            *(d for row in self.rows for d in row.differences),
            *(d for row in self.sweeps for d in row.differences),
        ]

    @property
    def failed(self) -> list[Row]:
        """Rows with a difference that is not accepted."""
        return [row for row in self.rows if row.failed]

    @property
    def passed(self) -> bool:
        """Whether every difference is accepted."""
        return not self.failed and not any(row.failed for row in self.sweeps)

    @property
    def fields(self) -> Counter[str]:
        """Differences that are not accepted, by field."""
        return Counter(d.field for d in self.differences if d.accepted is None)

    def as_data(self) -> dict[str, Any]:
        return {
            **self.settings.head(),
            **({} if self.nacl is None else {"nested": True, "nacl": list(self.nacl)}),
            "kernel": self.release,
            "events": len(self.rows),
            "equal": sum(not row.differences for row in self.rows),
            "accepted": sum(bool(row.differences) and not row.failed for row in self.rows),
            "different": len(self.failed),
            **plain(self, "not_run rows sweeps"),
        }


@dataclass(slots=True)
class Conformance:
    """All comparisons of a run, and what the hosts wrote on their consoles."""

    comparisons: list[Comparison] = field(default_factory=list)
    consoles: list[bytes] = field(default_factory=list)
    runs: list[tuple[Host, Run, dict[tuple[str, str], list[Seen]]]] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every difference is accepted."""
        return all(c.passed for c in self.comparisons)

    def as_data(self) -> dict[str, Any]:
        return plain(self, "passed comparisons")


Progress = Callable[[int, int, str], None]


def conform(
    hosts: Sequence[Host],
    policies: Sequence[str | Path | Policy] = (),
    *,
    event: str | None = None,
    sweep: Sequence[str] = (),
    repeat: int = 2,
    accepted: str | Path | None = None,
    progress: Progress | None = None,
) -> Conformance:
    """Boot each host, raise events and run sweeps, and compare with each policy (the kernel's own preset if none).

    Without `event` and `sweep` all events and all sweeps; with one of them nothing of the other.
    """
    known = load_accepted(accepted)
    chosen = [policy_of(p) for p in policies]
    only = event_names(event)
    asked = named(sweep) if sweep or event is None else ()
    events = event is not None or not sweep
    result = Conformance()
    for number, host in enumerate(hosts):

        def step(done: int, total: int, what: str, number: int = number) -> None:
            if progress is not None:
                progress(number * total + done, len(hosts) * total, what)

        step(0, 1, f"{host.kernel.name} boots")
        ran = _run(host, only if events else frozenset(), asked, repeat, step)
        result.runs += [(host, ran.run, ran.events)]
        result.consoles.append(ran.console)
        for policy in chosen or [policy_of(preset_of(ran.run.release))]:
            result.comparisons.append(_compare_all(host, ran, policy, known, only))
    return result


@dataclass(slots=True)
class Ran:
    """What one host did."""

    run: Run
    events: dict[tuple[str, str], list[Seen]]
    sweeps: list[tuple[Sweep, SweepSeen]]
    console: bytes


def _run(
    host: Host,
    only: frozenset[str] | None,
    asked: Sequence[Sweep],
    repeat: int,
    step: Callable[[int, int, str], None],
) -> Ran:
    ran = Ran(Run(), {}, [], b"")
    if only is None or only:
        probes = image.build(frozenset(extensions(host.isa)), only)
        if not probes.entries:
            raise UsageError("no event that was asked for can be raised on this hart under a kernel")
        ran.run, ran.events = run_events(host, payload(probes), repeat, lambda n, total: step(n, total, "events"))
        ran.console += ran.run.console
    if asked:
        run, seen = run_sweeps(host, asked, lambda n, total: step(n, total, "sweeps"))
        ran.sweeps = list(zip(asked, seen, strict=True))
        ran.console += run.console
        ran.run = run if not ran.events else ran.run
    return ran


def _compare_all(
    host: Host, ran: Ran, policy: Policy, known: tuple[Accepted, ...], only: frozenset[str] | None
) -> Comparison:
    made = against(host, ran.run, ran.events, policy, known, only)
    if ran.sweeps:
        there = [seen for _, seen in ran.sweeps]
        hosted = run_hosted_sweeps(made.settings, host.isa, [s for s, _ in ran.sweeps], there[0].v01, host.engine)
        made.sweeps = [
            compare_sweep(sweep, real, other, known) for (sweep, real), other in zip(ran.sweeps, hosted, strict=True)
        ]
    return made


def against(
    host: Host,
    run: Run,
    seen: dict[tuple[str, str], list[Seen]],
    policy: Policy,
    accepted: tuple[Accepted, ...],
    only: frozenset[str] | None,
) -> Comparison:
    """Compare what was seen on a real host with what a policy does on the firmware model of the same name."""
    chosen = settings_for(host, run.firmware, run.windows[0] if run.windows else None, policy)
    if not seen:
        return Comparison(chosen, run.release, [])
    hosted = run_hosted(chosen, host.isa, host.engine, only)
    rows = [compare(quietest(turns), hosted[key], accepted) for key, turns in seen.items()]
    here = {event for event, _ in seen}
    missing = tuple(e.id for e in EVENTS if e.id not in here and (only is None or e.id in only))
    return Comparison(chosen, run.release, rows, missing)


def settings_for(host: Host, firmware: str, window: Window | None, policy: Policy) -> Settings:
    """Return what the hosted side runs under: the firmware model of the same name, FWFT if the real host uses it."""
    if firmware not in ALL:
        raise UsageError(f"there is no model of this firmware ({firmware or 'no banner of OpenSBI was seen'})")
    fwft = window is not None and bool(window.csrs.get("medeleg", 0) & MISALIGNED_BITS)
    return Settings(policy, firmware, fwft, host.misaligned)


def preset_of(release: str) -> str:
    """Return the preset of a kernel's release: linux-6.12.107 for 6.12.107+deb13-riscv64, linux-7.2 for 7.2-rc1."""
    version = re.match(r"[0-9]+\.[0-9]+(\.[0-9]+)?", release)
    if version is None:
        raise UsageError(f"the kernel's release {release!r} names no version", remedy="name the policy to compare with")
    return f"linux-{version[0]}"

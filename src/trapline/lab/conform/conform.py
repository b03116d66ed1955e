"""`trapline conform`: run every event under a real kernel on the board and under its preset, and compare."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trapline.lab import probe_image as image
from trapline.lab.conform.board import Host, Run, quietest, run_events
from trapline.lab.conform.compare import Accepted, Difference, Row, compare, load_accepted
from trapline.lab.conform.hosted import run_hosted
from trapline.lab.conform.payload import payload
from trapline.lab.conform.seen import Seen
from trapline.lab.errors import UsageError
from trapline.lab.events import EVENTS
from trapline.lab.firmware_names import ALL
from trapline.lab.route import event_names
from trapline.lab.settings import Settings, policy_of
from trapline.policies import Policy
from trapline.privilege.isa_string import DEFAULT_ISA, extensions

# With Zcb for the events that need it; those of a hart without C cannot run, since the kernel needs C.
ISA = f"{DEFAULT_ISA}_zcb"
MISALIGNED_BITS = 1 << 4 | 1 << 6


@dataclass(slots=True)
class Comparison:
    """One real kernel and firmware against one preset and firmware model."""

    settings: Settings
    release: str
    rows: list[Row]
    not_run: tuple[str, ...] = ()

    @property
    def differences(self) -> list[Difference]:
        """All differences."""
        return [d for row in self.rows for d in row.differences]

    @property
    def failed(self) -> list[Row]:
        """Rows with a difference that is not accepted."""
        return [row for row in self.rows if row.failed]

    @property
    def fields(self) -> Counter[str]:
        """Differences that are not accepted, by field."""
        return Counter(d.field for d in self.differences if d.accepted is None)

    def as_data(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            **self.settings.head(),
            "kernel": self.release,
            "events": len(self.rows),
            "equal": sum(not row.differences for row in self.rows),
            "accepted": sum(bool(row.differences) and not row.failed for row in self.rows),
            "different": len(self.failed),
            "not_run": list(self.not_run),
            "rows": [row.as_data() for row in self.rows],
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
        return not any(c.failed for c in self.comparisons)

    def as_data(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"passed": self.passed, "comparisons": [c.as_data() for c in self.comparisons]}


Progress = Callable[[int, int, str], None]


def conform(
    hosts: Sequence[Host],
    policies: Sequence[str | Path | Policy] = (),
    *,
    event: str | None = None,
    repeat: int = 2,
    accepted: str | Path | None = None,
    progress: Progress | None = None,
) -> Conformance:
    """Boot each host, raise the events, and compare with each policy (the kernel's own preset if none is named)."""
    known = load_accepted(accepted)
    chosen = [policy_of(p) for p in policies]
    only = event_names(event)
    result = Conformance()
    for number, host in enumerate(hosts):
        available = frozenset(extensions(host.isa))
        probes = image.build(available, only)
        if not probes.entries:
            raise UsageError("no event that was asked for can be raised on this hart under a kernel")

        def step(done: int, total: int, number: int = number) -> None:
            if progress is not None:
                progress(number * total + done, len(hosts) * total, "events")

        run, seen = run_events(host, payload(probes), repeat, step)
        result.runs.append((host, run, seen))
        result.consoles.append(run.console)
        for policy in chosen or [policy_of(preset_of(run.release))]:
            result.comparisons.append(against(host, run, seen, policy, known, only))
    return result


def against(
    host: Host,
    run: Run,
    seen: dict[tuple[str, str], list[Seen]],
    policy: Policy,
    accepted: tuple[Accepted, ...],
    only: frozenset[str] | None,
) -> Comparison:
    """Compare what was seen on a real host with what a policy does on the firmware model of the same name."""
    if run.firmware not in ALL:
        raise UsageError(f"there is no model of this firmware ({run.firmware or 'no banner of OpenSBI was seen'})")
    first = next(iter(seen.values()))[0]
    fwft = bool(first.levels.get("medeleg", 0) & MISALIGNED_BITS)
    chosen = Settings(policy, run.firmware, fwft, host.misaligned)
    hosted = run_hosted(chosen, host.isa, host.engine, only)
    rows = [compare(quietest(turns), hosted[key], accepted) for key, turns in seen.items()]
    here = {event for event, _ in seen}
    missing = tuple(e.id for e in EVENTS if e.id not in here and (only is None or e.id in only))
    return Comparison(chosen, run.release, rows, missing)


def preset_of(release: str) -> str:
    """Return the preset of a kernel's release: linux-6.12 for 6.12.107+deb13-riscv64."""
    parts = release.split(".")
    if len(parts) < 2 or not parts[0].isdigit():
        raise UsageError(f"the kernel's release {release!r} names no version", remedy="name the policy to compare with")
    return f"linux-{parts[0]}.{parts[1].split('-')[0].split('+')[0]}"

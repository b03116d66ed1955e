"""Comparing what sweeps did on both sides, item by item."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from trapline.conform.compare import Accepted, Difference
from trapline.conform.sweep import RETURNED, TRAPPED, Item, Sweep
from trapline.conform.sweep_run import End, SweepSeen
from trapline.plain import plain
from trapline.privilege.causes import cause_name

# Statistics that depend on time, not on what the guest does.
_TIMED = frozenset(("exits", "signal_exits", "halt_wait_ns", "halt_wakeup", "halt_attempted_poll", "halt_poll_fail_ns",
                    "halt_successful_poll", "halt_poll_success_ns", "halt_poll_invalid", "blocking"))  # fmt: skip


@dataclass(frozen=True, slots=True)
class SweepRow:
    """One sweep on both sides."""

    sweep: Sweep
    real: SweepSeen
    hosted: SweepSeen
    differences: tuple[Difference, ...]
    outcomes: Counter[tuple[str, str]] = field(repr=False)

    @property
    def failed(self) -> bool:
        """Whether a difference is not accepted."""
        return any(d.accepted is None for d in self.differences)

    @property
    def items_that_differ(self) -> tuple[int, int]:
        """How many items have accepted differences only, and how many have others."""
        bad = {d.event for d in self.differences if d.accepted is None}
        return len({d.event for d in self.differences} - bad), len(bad)

    def as_data(self) -> dict[str, Any]:
        accepted, bad = self.items_that_differ
        counts = {"items": len(self.sweep.items), "accepted": accepted, "different": bad}
        return {**plain(self, "sweep=sweep.name text=sweep.text"), **counts, **plain(self, "differences")}


def compare_sweep(sweep: Sweep, real: SweepSeen, hosted: SweepSeen, accepted: tuple[Accepted, ...] = ()) -> SweepRow:
    """Compare one sweep: every item, the extensions, and the statistics of all items together."""
    found: list[Difference] = []
    outcomes: Counter[tuple[str, str]] = Counter()

    def note(event: str, mode: str, name: str, left: str, right: str) -> None:
        if left != right:
            who = next((a for a in accepted if a.covers(event, name)), None)
            found.append(Difference(event, mode, name, left, right, who))

    ends = _by_item(real.ends), _by_item(hosted.ends)
    for n, (item, one, other) in enumerate(zip(sweep.items, real.records, hosted.records, strict=True)):
        sides = outcome(one, ends[0].get(n, [])), outcome(other, ends[1].get(n, []))
        outcomes[sides] += 1
        note(item.name, item.mode, "outcome", *sides)
        for (name, left), (_, right) in zip(_fields(item, one), _fields(item, other), strict=True):
            note(item.name, item.mode, name, left, right)
    for n, (there, here) in enumerate(zip(real.extensions, hosted.extensions, strict=True)):
        note(sweep.name, "VMM", f"SBI extension {n}", str(there), str(here))
    alone = len(sweep.vcpus) == 1  # else how often a vCPU waits for another depends on time
    for name in sorted({*real.stats, *hosted.stats} - _TIMED) if alone else ():
        note(sweep.name, "all", f"counter {name}", str(real.stats.get(name, 0)), str(hosted.stats.get(name, 0)))
    return SweepRow(sweep, real, hosted, tuple(found), outcomes)


def _by_item(ends: list[End]) -> dict[int, list[End]]:
    found: dict[int, list[End]] = {}
    for end in ends:
        found.setdefault(end.item, []).append(end)
    return found


def outcome(record: tuple[int, ...], ends: list[End]) -> str:
    """Return how an item ended, in the words of `trapline route` where they fit."""
    state, cause = record[0], record[3] - 1
    words = [str(end) for end in ends]
    if state == TRAPPED:
        words.append(f"guest {cause} ({cause_name(cause)})")
    elif state == RETURNED and not words:
        words.append("went on")
    return "; ".join(words) or "not run"


def _fields(item: Item, record: tuple[int, ...]) -> Iterator[tuple[str, str]]:
    state, a0, a1, _, stval, offset, changed, status = record
    for name, value in (("a0", a0), ("a1", a1)):
        yield name, "" if name in item.varies else f"{value:#x}"
    yield "stval", f"{stval:#x}" if state == TRAPPED else ""
    yield "sepc", f"code + {offset:#x}" if state == TRAPPED else ""
    yield "sstatus", f"{status:#x}" if state == TRAPPED else ""
    yield "changed registers", " ".join(f"a{n}" for n in range(8) if changed >> n & 1)

"""What has happened between two samples of a run."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from trapline.lab.results import Traps
from trapline.lab.stat.client import Cpu, Names, Sample
from trapline.people import address
from trapline.plain import plain
from trapline.privilege.causes import INTERRUPT

PLACES_SHOWN = 16  # functions


@dataclass(frozen=True, slots=True)
class Line:
    """Something that is counted: how often in all, and how often a second since the sample before.

    `cost` is the instructions that hosted levels are estimated to have executed for it, in all; `costs` a second.
    """

    kind: str  # trap, counter, level, symbol
    name: str
    total: int
    rate: float
    cost: int = 0
    costs: float = 0.0
    trap: Traps | None = None

    def as_data(self) -> dict[str, Any]:
        if (t := self.trap) is None:
            return {"name": self.name, "total": self.total, "rate": round(self.rate, 1)}
        plain = {"cause": t.cause, "name": t.name, "from": t.from_, "path": t.way(), "how": t.how}
        counts = {"count": t.count, "rate": round(self.rate, 1), "cost": self.cost, "cost_rate": round(self.costs, 1)}
        return {**plain, "end": t.end or None, "errno": t.errno, **counts}


@dataclass(frozen=True, slots=True)
class View:
    """What is shown of a run at one time; `passed` are the seconds since the sample before, or since the run began."""

    sample: Sample
    passed: float
    traps: tuple[Line, ...]
    counters: tuple[Line, ...]
    levels: tuple[Line, ...]
    symbols: tuple[Line, ...]
    where: tuple[str, ...]  # of each vCPU: its pc, with the symbol if there is one

    def lines(self) -> Iterator[Line]:
        """Yield everything that is counted."""
        yield from self.traps
        yield from self.counters
        yield from self.levels
        yield from self.symbols

    @property
    def mips(self) -> float:
        """Million instructions a second that were executed, not estimated."""
        return sum(line.rate for line in self.levels if line.name not in self.sample.estimated) / 1e6

    def as_data(self) -> dict[str, Any]:
        vcpus = zip(self.sample.vcpus, self.where, strict=True)
        return {
            **plain(self.sample, "pid seconds"),
            "passed": round(self.passed, 3),
            **plain(self.sample, "command program"),
            "policy": self.sample.policy or None,
            "firmware": self.sample.firmware or None,
            **plain(self.sample, "host_fwft ticks"),
            **plain(self, "traps counters instructions=levels"),
            "estimated": list(self.sample.estimated),
            "vcpus": [{**plain(cpu, "id mode pc"), "where": where, "state": cpu.state} for cpu, where in vcpus],
            **plain(self, "symbols"),
        }


def trap_name(t: Traps) -> str:
    """Return cause, way and reasons of a trap in one line."""
    cause = t.name if t.cause & INTERRUPT else f"{t.cause} {t.name}"
    how = "/".join(word for word in t.how if word != "hardware")
    return f"{cause} {'>'.join(t.way())}{f' {how}' if how else ''}{f' {t.outcome()}' if t.end else ''}"


@dataclass(slots=True)
class Rates:
    """Makes views of the samples of one run; a new run under the same number begins anew."""

    names: Names = field(default_factory=Names)
    _before: Sample | None = None
    _zero: Sample | None = None  # where totals begin, behind `reset`

    def reset(self) -> None:
        """Count from the last sample on."""
        self._zero = self._before

    def view(self, sample: Sample, wanted: Callable[[Line], bool] = lambda line: True) -> View:
        """Return what has changed since the sample before; of the lines those that are wanted."""
        if self._before is not None and self._before.seconds > sample.seconds:
            self._before = self._zero = None
        before, zero = self._before, self._zero
        passed = max(sample.seconds - (before.seconds if before else 0.0), 1e-3)

        def lines(kind: str, of: Callable[[Sample], dict[str, int]]) -> tuple[Line, ...]:
            now, last, first = of(sample), of(before) if before else {}, of(zero) if zero else {}
            made = (Line(kind, n, v - first.get(n, 0), (v - last.get(n, 0)) / passed) for n, v in now.items())
            return tuple(line for line in made if wanted(line))

        made = View(
            sample,
            passed,
            tuple(line for line in _traps(sample, before, zero, passed) if wanted(line)),
            lines("counter", lambda s: s.counters),
            lines("level", lambda s: s.instructions),
            lines("symbol", lambda s: self._functions(s, sample))[:PLACES_SHOWN],
            tuple(self._where(sample, cpu) for cpu in sample.vcpus),
        )
        self._before = sample
        return made

    def _where(self, sample: Sample, cpu: Cpu) -> str:
        return address(cpu.pc, self.names.name(sample, cpu.mode, cpu.pc))

    def _functions(self, of: Sample, sample: Sample) -> dict[str, int]:
        """Return how often a vCPU was seen in each function, the most often first."""
        found: Counter[str] = Counter()
        for mode, pc, n in of.places:
            found[f"{mode} {self.names.function(sample, mode, pc) or hex(pc)}"] += n
        return dict(found.most_common())


def _key(t: Traps) -> tuple[object, ...]:
    return t.cause, t.from_, t.way(), t.how, t.end, t.errno


def _cost(t: Traps) -> int:
    return int(t.instructions.get("total", 0))


def _traps(sample: Sample, before: Sample | None, zero: Sample | None, passed: float) -> Iterator[Line]:
    last = {_key(t): t for t in before.traps} if before else {}
    first = {_key(t): t for t in zero.traps} if zero else {}
    for t in sample.traps:
        then, begin = last.get(_key(t)), first.get(_key(t))
        count, cost = t.count - (begin.count if begin else 0), _cost(t) - (_cost(begin) if begin else 0)
        rate = (t.count - (then.count if then else 0)) / passed
        costs = (_cost(t) - (_cost(then) if then else 0)) / passed
        yield Line("trap", trap_name(t), count, rate, cost, costs, t)


def named(pattern: str | None) -> Callable[[Line], bool]:
    """Return whether a line is wanted: a regular expression fits somewhere in its name. re.error: it is none."""
    if not pattern:
        return lambda line: True
    compiled = re.compile(pattern)
    return lambda line: line.kind == "level" or compiled.search(line.name) is not None

"""`trapline fuzz`: legs of a search on the common executor, and what they found together."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from trapline.fuzz.findings import HOST, Case, Group, Key
from trapline.fuzz.folder import Folder
from trapline.fuzz.legs import Heard, Leg, Trial, run_leg, run_trial
from trapline.fuzz.search import News, Plan
from trapline.lab.executor.api import Executor
from trapline.lab.executor.local import Processes
from trapline.plain import plain

LEG_RUNS = 2048  # programs of a leg, if the search is for so many
SAVE = 5.0  # seconds
_CRASHES = 20  # of legs, after which a search ends


@dataclass(slots=True)
class Result:
    """What a search did."""

    plan: Plan
    policy: str
    runs: int = 0
    seconds: float = 0.0
    cpu: float = 0.0
    corpus: int = 0
    groups: list[Group] = field(default_factory=list)
    interrupted: bool = False
    unwritten: str = ""  # why the folder could not be written any more, which ended the search

    def as_data(self) -> dict[str, Any]:
        return {
            **self.plan.settings.head(), **plain(self.plan, "from=mode seed"), "nested": self.plan.nested is not None,
            "l1": self.plan.nested.name if self.plan.nested else None, "seconds": round(self.seconds, 1),
            "cpu_seconds": round(self.cpu, 1), **plain(self, "runs corpus interrupted findings=groups"),
        }  # fmt: skip


def fuzz(
    plan: Plan,
    policy: str,
    directory: Path,
    *,
    workers: int = 1,
    max_runs: int | None = None,
    max_seconds: float | None = None,
    progress: Callable[[int, int, str], None] = lambda done, total, what: None,
    executor: Executor | None = None,
    run: Callable[[Leg], Heard] = run_leg,
) -> Result:
    """Search until a limit, or Ctrl-C; the folder holds corpus and state, and goes on where it was left."""
    folder = Folder(directory, _head(plan))
    result = Result(plan, policy, folder.runs, groups=folder.groups)
    folder.forget_all()
    led = _Led(plan, folder, executor or Processes(workers), max_runs, max_seconds, result)
    began = time.monotonic()
    try:
        led.run(run, progress)
    except KeyboardInterrupt:
        result.interrupted = True
    for leg in led.under_way:
        folder.forget(leg)
    result.seconds = time.monotonic() - began
    result.corpus = sum(1 for _ in (directory / "corpus").glob("*.bin"))
    led.save()
    return result


def _head(plan: Plan) -> dict[str, Any]:
    nested = plan.nested.name if plan.nested else None
    return {**plan.settings.head(), "from": plan.mode, "l1": nested, "seed": plan.seed, "engine": str(plan.engine)}


class _Led:
    """The legs of a search: which are left, and what those that have ended have brought."""

    def __init__(
        self, plan: Plan, folder: Folder, executor: Executor, runs: int | None, seconds: float | None, result: Result
    ) -> None:
        self.plan, self.folder, self.executor, self.result = plan, folder, executor, result
        self.runs, self.seconds, self.left = runs, seconds, runs
        self.began, self.before = time.monotonic(), result.runs
        self.deadline = None if seconds is None else self.began + seconds
        self.under_way: set[int] = set()
        self.legs = self.crashes = 0
        self.saved = self.began, len(result.groups)
        self.known = {g.key: g for g in result.groups}

    def run(self, run: Callable[[Leg], Heard], progress: Callable[[int, int, str], None]) -> None:
        """Run legs until a limit. What a leg that crashed has not run is left for others."""
        while not self._ended():
            with contextlib.closing(self.executor.execute(run, self._units(), 1)) as legs:  # type: ignore[type-var]
                for done in legs:
                    leg: Leg = done.unit
                    if done.value is not None:
                        self._take(done.value.news, done.value.cpu)
                        self.result.unwritten = self.result.unwritten or done.value.unwritten
                    else:
                        self._crashed(leg, done.error)
                    self.under_way.discard(leg.number)
                    self._show(progress)
                    self._save_now_and_then()

    def _save_now_and_then(self) -> None:
        """What a kill -9 loses is a few seconds of the search."""
        if len(self.result.groups) != self.saved[1] or time.monotonic() > self.saved[0] + SAVE:
            self.save()

    def save(self) -> None:
        """Keep how far the search is; a folder that cannot be written ends it."""
        self.saved = time.monotonic(), len(self.result.groups)
        try:
            self.folder.save(self.result.runs, self.result.groups)
        except OSError as error:
            self.result.unwritten = error.strerror or str(error)

    def _ended(self) -> bool:
        late = self.deadline is not None and time.monotonic() >= self.deadline
        return late or self.left == 0 or self.crashes > _CRASHES or bool(self.result.unwritten)

    def _units(self) -> Iterator[Leg]:
        while not self._ended():
            most = None
            if self.left is not None:
                most = min(LEG_RUNS, -(-self.left // self.executor.workers))
                self.left -= most
            leg = Leg(self.legs, self.plan, self.folder.path, self.folder.times, most, self.deadline, tuple(self.known))
            self.legs += 1
            self.under_way.add(leg.number)
            yield leg

    def _show(self, progress: Callable[[int, int, str], None]) -> None:
        spent, runs = time.monotonic() - self.began, self.result.runs - self.before
        status = f"{self.result.runs:,} runs, {runs / max(0.1, spent):,.0f}/s, {len(self.result.groups)} findings"
        if self.seconds is not None:
            progress(int(min(spent, self.seconds)), int(self.seconds), status)
        else:
            progress(runs, self.runs or 0, status)

    def _take(self, news: News, cpu: float) -> None:
        result = self.result
        result.runs += news.runs
        result.cpu += cpu
        for group in news.groups:
            if group.key in self.known:
                self.known[group.key].count += 1
            else:
                self.known[group.key] = group
                result.groups.append(group)
        for key in news.again:
            if key in self.known:
                self.known[key].count += 1

    def _crashed(self, leg: Leg, error: str) -> None:
        """A process that died, or an error of the search itself, is a finding of the programs under way."""
        self.crashes += 1
        cases = self.folder.noted(leg.number) or [Case(b"", self.plan.mode, 0, self.plan.isas[0])]
        self.folder.forget(leg.number)
        case = self._culprit(cases) if len(cases) > 1 else cases[0]
        key = Key(HOST, -1, self.plan.mode, error, "host")
        self._take(News(1, [Group(key, case, 1, (f"{len(cases)} programs were under way",))]), 0.0)
        if self.left is not None and leg.most is not None:
            self.left += leg.most - 1

    def _culprit(self, cases: list[Case]) -> Case:
        """Return the program that makes a process crash by itself, or all of them if none does."""
        trials = (Trial(self.plan, case) for case in cases)
        with contextlib.closing(Processes(1).execute(run_trial, trials, 1)) as tried:  # type: ignore[type-var]
            for done in tried:
                if done.error:
                    return done.unit.case  # type: ignore[no-any-return]
        return replace(cases[-1], ahead=tuple(case.program for case in cases[:-1]))

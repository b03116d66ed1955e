"""`trapline fuzz`: several processes that search, and what they found together."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from trapline.fuzz.findings import HOST, Case, Group, Key
from trapline.fuzz.folder import Folder
from trapline.fuzz.search import News, Plan, Search

SYNC = 2.0  # seconds between two looks at the others' corpus, and between two reports
_RESTARTS = 20  # of processes that crashed
SILENCE = 300.0  # seconds after which a process that does not report is taken for hung


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

    def as_data(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            **self.plan.settings.head(), "from": self.plan.mode, "nested": self.plan.nested is not None,
            "l1": self.plan.nested.name if self.plan.nested else None, "seed": self.plan.seed, "runs": self.runs,
            "seconds": round(self.seconds, 1), "cpu_seconds": round(self.cpu, 1), "corpus": self.corpus,
            "interrupted": self.interrupted, "findings": [g.as_data() for g in self.groups],
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
    worker: Callable[..., None] | None = None,
) -> Result:
    """Search until a limit, or Ctrl-C; the folder holds corpus and state, and goes on where it was left."""
    folder = Folder(directory, _head(plan))
    result = Result(plan, policy, folder.runs, groups=folder.groups)
    pool = _Pool(plan, folder, workers, max_runs, max_seconds, result, worker or run_worker)
    began = time.monotonic()
    try:
        pool.run(progress)
    except KeyboardInterrupt:
        result.interrupted = True
        pool.stop()
    result.seconds = time.monotonic() - began
    result.corpus = sum(1 for _ in (directory / "corpus").glob("*.bin"))
    folder.save(result.runs, result.groups)
    return result


def _head(plan: Plan) -> dict[str, Any]:
    nested = plan.nested.name if plan.nested else None
    return {**plan.settings.head(), "from": plan.mode, "l1": nested, "seed": plan.seed, "engine": str(plan.engine)}


class _Pool:
    """The processes; one that dies leaves a finding and is replaced."""

    def __init__(
        self, plan: Plan, folder: Folder, workers: int, runs: int | None, seconds: float | None, result: Result,
        work: Callable[..., None],
    ) -> None:  # fmt: skip
        self.plan, self.folder, self.result, self.work = plan, folder, result, work
        self.left = None if runs is None else [runs // workers + (n < runs % workers) for n in range(workers)]
        self.deadline = None if seconds is None else time.monotonic() + seconds
        self.runs, self.seconds, self.workers = runs, seconds, workers
        self.context = multiprocessing.get_context("fork")
        self.live: dict[Connection, tuple[int, Any]] = {}
        self.heard: dict[Connection, float] = {}
        self.started = 0
        self.known = {g.key: g for g in result.groups}

    def run(self, progress: Callable[[int, int, str], None]) -> None:
        began, before = time.monotonic(), self.result.runs
        for number in range(self.workers):
            self._start(number)
        while self.live:
            for connection in wait(list(self.live), timeout=1.0):
                assert isinstance(connection, Connection)
                self._hear(connection)
            for connection, (_, process) in self.live.items():
                if time.monotonic() - self.heard[connection] > SILENCE:
                    process.kill()
            if self.seconds is not None:
                progress(
                    int(min(time.monotonic() - began, self.seconds)), int(self.seconds), self._status(began, before)
                )
            else:
                progress(self.result.runs - before, self.runs or 0, self._status(began, before))

    def _status(self, began: float, before: int) -> str:
        rate = (self.result.runs - before) / max(0.1, time.monotonic() - began)
        return f"{self.result.runs:,} runs, {rate:,.0f}/s, {len(self.result.groups)} findings"

    def _start(self, number: int) -> None:
        mine, theirs = self.context.Pipe(duplex=False)
        left = self.left[number] if self.left is not None else None
        if left == 0:
            return
        stream = f"{self.folder.times}/{number}/{self.started}"
        self.started += 1
        arguments = (self.plan, self.folder, number, stream, left, self.deadline, list(self.known), theirs)
        process = self.context.Process(target=self.work, args=arguments, daemon=True)
        process.start()
        theirs.close()
        self.live[mine], self.heard[mine] = (number, process), time.monotonic()

    def _hear(self, connection: Connection) -> None:
        number = self.live[connection][0]
        try:
            message = connection.recv()
        except (EOFError, OSError):
            self._ended(connection)
            return
        self.heard[connection] = time.monotonic()
        news, cpu = message
        self._take(number, news, cpu)

    def _take(self, number: int, news: News, cpu: float) -> None:
        result = self.result
        result.runs += news.runs
        result.cpu += cpu
        if self.left is not None:
            self.left[number] = max(0, self.left[number] - news.runs)
        for group in news.groups:
            if group.key in self.known:
                self.known[group.key].count += 1
            else:
                self.known[group.key] = group
                result.groups.append(group)
        for key in news.again:
            if key in self.known:
                self.known[key].count += 1

    def _ended(self, connection: Connection) -> None:
        number, process = self.live.pop(connection)
        connection.close()
        process.join()
        if process.exitcode == 0:
            self.folder.forget(number)
            return
        how = signal.Signals(-process.exitcode).name if process.exitcode < 0 else f"exit code {process.exitcode}"
        cases = self.folder.noted(number) or [Case(b"", self.plan.mode, 0, self.plan.isas[0])]
        case = self._culprit(cases) if len(cases) > 1 else cases[0]
        key = Key(HOST, -1, self.plan.mode, f"the process ends with {how}", "host")
        self._take(number, News(1, [Group(key, case, 1, (f"{len(cases)} programs were under way",))]), 0.0)
        if self.started < self.workers + _RESTARTS:
            self._start(number)

    def _culprit(self, cases: list[Case]) -> Case:
        """Return the program that makes a process crash by itself, or all of them if none does."""
        for case in cases:
            process = self.context.Process(target=run_one, args=(self.plan, case), daemon=True)
            process.start()
            process.join(30)
            if process.exitcode is None:
                process.kill()
                process.join()
            if process.exitcode != 0:
                return case
        return replace(cases[-1], ahead=tuple(case.program for case in cases[:-1]))

    def stop(self) -> None:
        """End all processes: each reports what it has."""
        for _, process in self.live.values():
            with suppress(ProcessLookupError, ValueError):
                process.terminate()
        end = time.monotonic() + 5
        while self.live and time.monotonic() < end:
            for connection in wait(list(self.live), timeout=0.2):
                assert isinstance(connection, Connection)
                try:
                    news, cpu = connection.recv()
                    self._take(self.live[connection][0], news, cpu)
                except (EOFError, OSError):
                    number, process = self.live.pop(connection)
                    process.join(1)
                    self.folder.forget(number)
        for _, process in self.live.values():
            process.kill()


def run_one(plan: Plan, case: Case) -> None:
    """Run one program; it may bring the process down."""
    Search(plan).world(case.isa).judge(case.program, case.zoo)


def run_worker(
    plan: Plan, folder: Folder, number: int, stream: str, left: int | None, deadline: float | None, known: list[Key],
    connection: Connection,
) -> None:  # fmt: skip
    """Search in this process, and tell the other end every now and then."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stopped: list[int] = []  # SIGTERM: the result so far is wanted, behind the batch under way
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
    search = Search(plan, stream, before=lambda programs, case: folder.note(number, programs, case))
    search.known.update(known)
    total, told, cpu = News(), time.monotonic(), time.process_time()
    search.corpus += folder.others()
    while not stopped and (left is None or left > 0) and (deadline is None or time.monotonic() < deadline):
        news = search.step() if left is None else search.step(left)
        if left is not None:
            left -= news.runs
        for program in news.corpus:
            folder.add(program)
        total.runs += news.runs
        total.groups += news.groups
        total.again += news.again
        now = time.monotonic()
        if now - told > SYNC or news.groups:
            connection.send((total, time.process_time() - cpu))
            total, told, cpu = News(), now, time.process_time()
            search.corpus += folder.others()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with suppress(OSError):
        connection.send((total, time.process_time() - cpu))
    connection.close()

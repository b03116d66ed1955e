"""`trapline sweep`: every unit of a SPEC on the common executor, its record kept as soon as it is there."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from trapline.engine.api import open_engine
from trapline.lab.executor.api import Executor, processors
from trapline.lab.executor.local import Processes
from trapline.plain import plain
from trapline.scale.spec import Spec, read_spec, spec_of
from trapline.scale.store import Store
from trapline.scale.summary import BY, MOST_BAD, Summary, bad_records, summary
from trapline.scale.unit import Record, record_of, run_unit

Progress = Callable[[int, int, str], None]
GUESTS = "guests"  # what the SPEC's events are written to


@dataclass(slots=True)
class Swept:
    """What a sweep did. `directory` is None if nothing was to be kept."""

    spec: str
    directory: str | None
    units: int
    skipped: int = 0  # they were there
    run: int = 0
    failed: int = 0  # could not be run, after all tries
    bad: int = 0  # ended otherwise than well, these among them
    limits: int = 0  # of these, by a limit
    seconds: float = 0.0
    interrupted: bool = False
    summary: Summary = field(default_factory=lambda: Summary(BY, ()))
    bad_records: tuple[dict[str, Any], ...] = ()

    @property
    def exit_status(self) -> int:
        """130 Ctrl-C, 1 a run ended badly or could not be run, 3 one reached a limit, 0 all ended well."""
        if self.interrupted:
            return 130
        return 1 if self.bad > self.limits else 3 if self.limits else 0

    def as_data(self) -> dict[str, Any]:
        names = "spec directory units skipped run failed bad limits interrupted"
        said = {**plain(self, names), "seconds": round(self.seconds, 3)}
        return {**said, **self.summary.as_data(), **plain(self, "ended_badly=bad_records")}


def sweep(
    spec: str | Path | Mapping[str, Any],
    *,
    out: str | Path | None = None,
    workers: int | None = None,
    dask: str | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Swept:
    """Run a SPEC, a file or the same as a dict; what `out` has already is not run again.

    `workers` processes of this machine (as many as there are CPUs if it is None), or the workers of the Dask scheduler
    at `dask`. UsageError: the SPEC, the directory or the scheduler is not right. Ctrl-C ends it with what there is.
    """
    with contextlib.ExitStack() as at_end:
        root = Path(at_end.enter_context(TemporaryDirectory(prefix="trapline-")) if out is None else out)
        store = Store(root)
        read = spec_of(spec, root / GUESTS) if isinstance(spec, Mapping) else read_spec(spec, root / GUESTS)
        if executor is None:
            executor = _executor(workers, dask)
        result = Swept(read.name, None if out is None else str(out), len(read))
        at_end.enter_context(store.writing())
        started = time.perf_counter()
        try:
            _run(read, store, executor, result, progress or (lambda done, total, what: None))
        except KeyboardInterrupt:
            result.interrupted = True
        result.seconds = time.perf_counter() - started
        store.flush()
        _look_back(store, result)
    return result


def _executor(workers: int | None, dask: str | None) -> Executor:
    if dask is not None:
        from trapline.lab.executor.dask import Dask

        return Dask(dask)
    open_engine("native")  # compiled once, not by each worker
    return Processes(processors() if workers is None else workers)


def _run(spec: Spec, store: Store, executor: Executor, result: Swept, progress: Progress) -> None:
    store.forget_failed()
    finished = store.finished()
    result.skipped = sum(bytes.fromhex(unit.digest) in finished for unit in spec.units()) if finished else 0
    todo = result.units - result.skipped
    progress(0, todo, "")
    missing = (unit for unit in spec.units() if bytes.fromhex(unit.digest) not in finished)
    with contextlib.closing(executor.execute(run_unit, missing)) as done:  # type: ignore[type-var]
        for one in done:
            record: Record = record_of(one)
            store.add(record)
            result.run += 1
            progress(result.run, todo, f"{record.policy} {record.workload}")


def _look_back(store: Store, result: Swept) -> None:
    """Say what all records of the directory are, those that were there before too."""
    if not store.has_records():
        return
    frame = store.frame()
    by_outcome = summary(frame, ("outcome",)).groups
    counts = {str(group.key[0]): group.units for group in by_outcome}
    result.summary = summary(frame)
    result.failed, result.limits = counts.get("error", 0), counts.get("limit", 0)
    result.bad = sum(n for outcome, n in counts.items() if outcome != "ok")
    result.bad_records = tuple(bad_records(frame, MOST_BAD))

"""The common executor: many independent units of work, over processes of this machine or over Dask.

A unit is an argument of a pure function that a module defines at its top level. However a unit ends, it
gives one `Done`: its value, or the error after so many tries. A unit whose worker is killed is tried again.
On this machine a generator may be the function: each value that it yields is a `Done` that says `more`, and what it
returns is the unit's value. Where it is tried again, it says all of it again.
Audits, sweeps and what else has many units stand on `execute`; trapline owns no scheduler.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

TRIES = 3  # of a unit that fails or whose worker dies, the first among them

Unit = TypeVar("Unit")
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Done(Generic[Unit, Value]):
    """A unit that will not be tried again: its `value`, or, at an `error`, no value; `more`: no end yet."""

    unit: Unit
    value: Value | None = None
    error: str = ""
    tries: int = 1
    more: bool = False


class Executor(Protocol):
    """Where units run: made with `local` or `trapline.lab.executor.dask.dask`."""

    @property
    def workers(self) -> int:
        """How many units run at a time."""

    def execute(
        self, function: Callable[[Any], Any], units: Iterable[Any], tries: int = TRIES
    ) -> Iterator[Done[Any, Any]]:
        """Yield a `Done` for each unit, as they end; of `units`, only a few more are taken than are running.

        Closing the iterator, as an exception in the reader does, ends the workers.
        """


class Here:
    """No other process: each unit runs where it is asked for."""

    workers = 1

    def execute(
        self, function: Callable[[Any], Any], units: Iterable[Any], tries: int = TRIES
    ) -> Iterator[Done[Any, Any]]:
        """Yield a `Done` for each unit, in their order."""
        for unit in units:
            yield from run_here(function, unit, tries)


def run_here(function: Callable[[Any], Any], unit: Any, tries: int) -> Iterator[Done[Any, Any]]:
    """Run one unit in this process, again if it fails."""
    for attempt in range(1, tries + 1):
        for error, value, more in answers(function, unit):
            if more or not error or attempt == tries:
                yield Done(unit, value, error, attempt, more)
        if not error:
            return


def answers(function: Callable[[Any], Any], unit: Any) -> Iterator[tuple[str, Any, bool]]:
    """Yield (error, value, more) of one try of a unit; the last alone has no more."""
    try:
        value = function(unit)
        while isinstance(value, Generator):
            try:
                said_now = next(value)
            except StopIteration as end:
                value = end.value
                break
            yield "", said_now, True
    except Exception as error:
        yield said(error), None, False
    else:
        yield "", value, False


def said(error: BaseException) -> str:
    """Return an exception as one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def processors() -> int:
    """Return how many CPUs this process may use."""
    return len(os.sched_getaffinity(0))


def local(workers: int | None = None) -> Executor:
    """Return an executor over processes of this machine; as many as there are CPUs if `workers` is None."""
    count = processors() if workers is None else workers
    if count <= 1:
        return Here()
    from trapline.lab.executor.local import Processes

    return Processes(count)


def in_order(done: Iterable[Done[Unit, Value]], place: Callable[[Unit], int]) -> Iterator[Done[Unit, Value]]:
    """Yield what ended in any order in the order of `place`, which counts from 0; each as soon as it can be."""
    waiting: dict[int, Done[Unit, Value]] = {}
    following = 0
    for one in done:
        waiting[place(one.unit)] = one
        while (here := waiting.pop(following, None)) is not None:
            yield here
            following += 1

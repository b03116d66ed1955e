"""Units over processes of this machine.

Each worker is a new Python (`trapline.lab.executor.worker`) with a socket of its own: nothing is inherited, the
user's `__main__` is not run again, threads here are no danger, and when a worker dies it is known which unit
it had. Workers are in a session of their own: Ctrl-C is for this process, which ends them. When this
process is killed its end of their sockets closes, and they go.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any

from trapline.lab.executor.api import TRIES, Done

_START = "import sys; sys.path[:] = {path!r}; from trapline.lab.executor.worker import main; main({number}, {lifeline})"
_GONE = (EOFError, ConnectionError, BrokenPipeError)


class _Worker:
    """A process, and the unit that it has."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        ours, theirs = socket.socketpair()
        self._life, lifeline = socket.socketpair()
        with theirs, lifeline:
            start = _START.format(path=sys.path, number=theirs.fileno(), lifeline=lifeline.fileno())
            self.process = subprocess.Popen(
                [sys.executable, "-c", start],
                pass_fds=(theirs.fileno(), lifeline.fileno()),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.connection = Connection(ours.detach())
        self.has: _Task | None = None
        with contextlib.suppress(*_GONE):  # found when it is waited for
            self.connection.send(function)

    def take(self, task: _Task) -> None:
        """Send it a unit."""
        task.tries += 1
        self.has = task
        with contextlib.suppress(*_GONE):
            self.connection.send(task.unit)

    def gone(self) -> int:
        """Return the exit code of a process that has closed its socket."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        return self.end()

    def end(self) -> int:
        """End the process, whatever it does; return its exit code."""
        self.connection.close()
        self._life.close()
        self.process.kill()
        return self.process.wait()


class _Task:
    """A unit that is not done, and how often it was tried."""

    def __init__(self, unit: Any) -> None:
        self.unit, self.tries = unit, 0


class Processes:
    """An executor over so many worker processes."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def execute(
        self, function: Callable[[Any], Any], units: Iterable[Any], tries: int = TRIES
    ) -> Iterator[Done[Any, Any]]:
        """Yield a `Done` for each unit, as they end."""
        pool = _Pool(function, self.workers, iter(units), tries)
        try:
            yield from pool.run()
        finally:
            pool.end()


class _Pool:
    """The workers of one call of `execute`."""

    def __init__(self, function: Callable[[Any], Any], workers: int, units: Iterator[Any], tries: int) -> None:
        self._function, self._units, self._tries, self._most = function, units, tries, workers
        self._workers: dict[Connection, _Worker] = {}
        self._again: deque[_Task] = deque()

    def run(self) -> Iterator[Done[Any, Any]]:
        """Keep every worker busy until all units are done."""
        while len(self._workers) < self._most and (task := self._next()) is not None:
            self._start(task)
        while self._workers:
            for ready in wait(list(self._workers)):
                if isinstance(ready, Connection):
                    yield from self._heard(self._workers[ready])

    def end(self) -> None:
        """End all workers."""
        for worker in self._workers.values():
            worker.end()
        self._workers.clear()

    def _next(self) -> _Task | None:
        if self._again:
            return self._again.popleft()
        return next((_Task(unit) for unit in self._units), None)

    def _start(self, task: _Task) -> None:
        worker = _Worker(self._function)
        self._workers[worker.connection] = worker
        worker.take(task)

    def _heard(self, worker: _Worker) -> Iterator[Done[Any, Any]]:
        """Take what a worker says, or that it is gone, and give it, or another in its place, the next unit."""
        task, gone = worker.has, False
        assert task is not None
        try:
            error, value, more = worker.connection.recv()
        except _GONE:
            del self._workers[worker.connection]
            gone, error, value, more = True, _death(worker.gone()), None, False
        if more:
            yield Done(task.unit, value, "", task.tries, more)
            return
        if error and task.tries < self._tries:
            self._again.append(task)
        following = self._next()
        if following is not None and gone:
            self._start(following)
        elif following is not None:
            worker.take(following)
        elif not gone:
            del self._workers[worker.connection]
            worker.end()
        if not error or task.tries >= self._tries:
            yield Done(task.unit, value, error, task.tries)


def _death(code: int) -> str:
    """Say how a worker process ended."""
    return f"the worker was killed by signal {-code}" if code < 0 else f"the worker ended with code {code}"

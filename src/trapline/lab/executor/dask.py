"""Units over the workers of a Dask scheduler, wherever they are: this machine, Slurm, Kubernetes.

The scheduler runs a unit again whose worker is gone (`distributed.scheduler.allowed-failures`); one that raises
is tried again from here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from trapline.lab.errors import UsageError
from trapline.lab.executor.api import TRIES, Done, said

AHEAD = 3  # units for each thread of a worker: those that run, and those that wait there
CONNECT_SECONDS = 10


class Dask:
    """An executor over a scheduler; UsageError if there is none at the address, or no `distributed`."""

    def __init__(self, address: str, timeout: float = CONNECT_SECONDS) -> None:
        try:
            import distributed
        except ImportError:
            raise UsageError("--dask needs distributed", remedy="pip install 'trapline[cluster]'") from None
        self._distributed: Any = distributed
        try:
            self._client: Any = self._distributed.Client(address, timeout=timeout, set_as_default=False)
        except (OSError, ValueError, TypeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UsageError(f"no Dask scheduler at {address!r}: {reason}", "--dask") from None

    @property
    def workers(self) -> int:
        """How many threads the workers have now, at least one: they may come later."""
        return max(1, sum(int(n) for n in self._client.nthreads().values()))

    def execute(
        self, function: Callable[[Any], Any], units: Iterable[Any], tries: int = TRIES
    ) -> Iterator[Done[Any, Any]]:
        """Yield a `Done` for each unit, as they end."""
        waiting = self._distributed.as_completed(loop=self._client.loop)
        asked: dict[Any, tuple[Any, int]] = {}  # future: the unit and which try it is
        units = iter(units)

        def ask(unit: Any, attempt: int) -> None:
            future = self._client.submit(function, unit, pure=False)
            asked[future] = unit, attempt
            waiting.add(future)

        try:
            self._fill(ask, units, asked)
            while asked:
                future = next(waiting)
                unit, attempt = asked.pop(future)
                error = self._error(future)
                if error and attempt < tries and future.status != "lost" and not self._killed(future):
                    ask(unit, attempt + 1)
                else:
                    yield Done(unit, None if error else future.result(), error, attempt)
                future.release()
                self._fill(ask, units, asked)
        finally:
            with contextlib.suppress(Exception):  # the scheduler may be what is gone
                self._client.cancel(list(asked))
                self._client.close()

    def _fill(self, ask: Callable[[Any, int], None], units: Iterator[Any], asked: dict[Any, Any]) -> None:
        for _ in range(AHEAD * self.workers - len(asked)):
            for unit in units:
                ask(unit, 1)
                break

    def _killed(self, future: Any) -> bool:
        return isinstance(future.exception(), self._distributed.scheduler.KilledWorker)

    def _error(self, future: Any) -> str:
        """Say why a future has no value; nothing if it has one."""
        if future.status == "finished":
            return ""
        if future.status == "cancelled":
            return "the scheduler is gone"
        if self._killed(future):
            return "its workers were killed, again and again"
        return said(future.exception())

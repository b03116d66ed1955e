"""The thread of a tier: it looks for hot code until the run ends or it fails again and again."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING

from trapline.engine.jit import worker as worker_module
from trapline.lang.host_pages import Collapser

if TYPE_CHECKING:
    from trapline.engine.jit.tier import Tier
    from trapline.engine.jit.worker import Worker

FLUSH_AFTER = 20  # looks without news
BUSY, WAITING, IDLE = 0.001, 0.004, 0.02  # seconds between looks: there is news, a region is compiled, or neither
ASLEEP, ASLEEP_AFTER = 0.2, 100  # the same where no hart runs: so many looks found nothing
MOST_FAILURES = 10  # errors in finding, until it is given up


def work(reference: weakref.ref[Tier], stop: threading.Event, worker: Worker) -> None:
    """Look and sleep, until the tier is gone or told to stop."""
    pause, quiet, failures, store, memory = BUSY, 0, 0, None, Collapser()
    while not stop.wait(pause):
        tier = reference()
        if tier is None:
            break
        try:
            new = tier.work()
            memory.step()
            store = tier._store
            quiet = 0 if new else quiet + 1
            if quiet == FLUSH_AFTER and store is not None:
                store.flush()
        except Exception as error:
            tier.failure, new, failures = tier.failure or error, False, failures + 1
            if failures == MOST_FAILURES:
                break  # the guest goes on in the interpreter
        longest = ASLEEP if quiet > ASLEEP_AFTER else IDLE if worker.idle else WAITING
        pause = BUSY if new else min(longest, pause * 2)
        del tier
    leaving = reference()
    if leaving is not None:
        try:
            leaving.leave()
            store = leaving._store
        except Exception as error:
            leaving.failure = leaving.failure or error
    worker.end()
    if store is not None:
        store.close()


def end(stop: threading.Event, thread: weakref.ref[threading.Thread], compiling: weakref.ref[threading.Thread]) -> None:
    """Stop a tier's thread when the process ends, and wait for it."""
    stop.set()
    for running in (thread(), compiling() if worker_module.wait_at_exit else None):
        if running is not None:
            running.join()

"""Functions that the tests of the executor have run by workers."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any


def double(number: int) -> int:
    """Return twice the number."""
    return 2 * number


def refuse_odd(number: int) -> int:
    """Raise for odd numbers."""
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number


def die_once(mark: str) -> int:
    """Be killed with -9 the first time that it is called with this path; then say in which process it ran."""
    path = Path(mark)
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def die(number: int) -> int:
    """Be killed with -9 by every unit that is 3."""
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def unpicklable(number: int) -> Any:
    """Return what no process can send."""
    return lambda: number


def sleep_and_tell(folder: str) -> None:
    """Leave a file with this process's number, then sleep for a minute."""
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(60)


def echo(unit: Any) -> Any:
    """Return the unit."""
    return unit


def count(number: int) -> Generator[int, None, int]:
    """Say each number below this; its square is the value."""
    yield from range(number)
    return number * number


def die_between(mark: str) -> Iterator[int]:
    """Say 1, then be killed with -9 the first time, then say 2."""
    yield 1
    die_once(mark)
    yield 2

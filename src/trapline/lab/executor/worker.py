"""A worker process: it takes a function, then units, and answers each with (error, value, more)."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import Any

from trapline.lab.executor.api import answers, said


def main(number: int, lifeline: int) -> None:
    """Answer on the socket of this number until the other side is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with, args=(lifeline,), daemon=True).start()
    asked = Connection(number)
    with contextlib.suppress(EOFError, ConnectionError):
        function = _received(asked)
        while True:
            _answer(asked, function)


def _received(asked: Connection) -> Any:
    """Return what was sent; where it cannot be made here, a function that says so."""
    data = asked.recv_bytes()
    try:
        return ForkingPickler.loads(data)
    except Exception as error:
        return _Unknown(error)


class _Unknown:
    """Something that this process cannot import."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __call__(self, unit: Any) -> Any:
        raise self.error


def _answer(asked: Connection, function: Any) -> None:
    unit = _received(asked)
    for answer in answers(unit if isinstance(unit, _Unknown) else function, unit):
        try:
            data, more = ForkingPickler.dumps(answer), answer[2]
        except Exception as error:
            data, more = ForkingPickler.dumps((said(error), None, False)), False
        asked.send_bytes(data)
        if not more:
            return


def _leave_with(lifeline: int) -> None:
    """End this process, in the middle of a unit too, when the process that has the other end is no more."""
    while os.read(lifeline, 1):
        pass
    os._exit(1)

"""Ctrl-C ends a run between two instructions, never inside one; a signal that kills leaves the terminal as it was."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

_ended = [0]  # runs that Ctrl-C could end, and that are over
# Without the look whether a handler is one of signal.Handlers: it raises and catches, in each of many short runs.
_install: Callable[..., Any] = getattr(signal.signal, "__wrapped__", signal.signal)
DEADLY = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGABRT)


@contextlib.contextmanager
def on_ctrl_c(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` at the first Ctrl-C inside the block; a second one raises KeyboardInterrupt at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    seen = False

    def on_signal(*_: object) -> None:
        nonlocal seen
        if seen:
            raise KeyboardInterrupt
        seen = True
        stop()

    previous = _install(signal.SIGINT, on_signal)
    try:
        yield
    finally:
        _ended[0] += 1
        _install(signal.SIGINT, previous)


@contextlib.contextmanager
def result_kept() -> Iterator[None]:
    """Inside the block, behind a run, the first Ctrl-C does nothing: what the run did is still to be shown and written.

    Before a run, and the second time, it raises KeyboardInterrupt as ever.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before, seen = _ended[0], False

    def on_signal(*_: object) -> None:
        nonlocal seen
        if seen or _ended[0] == before:
            raise KeyboardInterrupt
        seen = True

    previous = signal.signal(signal.SIGINT, on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


@contextlib.contextmanager
def on_death(clean: Callable[[], object]) -> Iterator[None]:
    """Inside the block call `clean` before a signal of `DEADLY` ends the process, as it would have done without."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_signal(number: int, _: object) -> None:
        clean()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    # What native code handles (faulthandler does SIGABRT) is its own: Python could not put it back.
    with _handled([number for number in DEADLY if signal.getsignal(number) is not None], on_signal):
        yield


@contextlib.contextmanager
def on_stop(clean: Callable[[], object], again: Callable[[], object]) -> Iterator[None]:
    """Inside the block call `clean` before SIGTSTP stops the process, and `again` whenever it goes on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_signal(number: int, _: object) -> None:
        if number == signal.SIGTSTP:
            clean()
            os.kill(os.getpid(), signal.SIGSTOP)
        again()

    with _handled((signal.SIGTSTP, signal.SIGCONT), on_signal):
        yield


@contextlib.contextmanager
def _handled(numbers: Iterable[int], by: Callable[[int, Any], None]) -> Iterator[None]:
    previous = {number: signal.signal(number, by) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

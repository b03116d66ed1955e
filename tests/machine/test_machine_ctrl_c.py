"""Ctrl-C before, in and behind a run."""

from __future__ import annotations

import os
import signal

import pytest

from trapline.session.terminal.sigint import on_ctrl_c, result_kept


def press() -> None:
    """Press Ctrl-C."""
    os.kill(os.getpid(), signal.SIGINT)


def test_a_run_is_asked_to_stop_once() -> None:
    """The first Ctrl-C in a run calls `stop`, the second raises KeyboardInterrupt."""
    asked = []
    with pytest.raises(KeyboardInterrupt), on_ctrl_c(lambda: asked.append(1)):
        press()
        assert asked == [1]
        press()


def test_behind_a_run_the_first_is_let_pass() -> None:
    """A Ctrl-C that comes while the result is shown or written does not lose it; another one ends the process."""
    with pytest.raises(KeyboardInterrupt), result_kept():
        with on_ctrl_c(lambda: None):
            pass
        press()
        press()


def test_before_a_run_the_first_ends() -> None:
    """While a program is loaded, or native code is made, Ctrl-C ends the command at once."""
    with pytest.raises(KeyboardInterrupt), result_kept():
        press()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

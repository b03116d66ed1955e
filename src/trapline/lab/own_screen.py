"""The live view of one's own run: `trapline stat` on the terminal's other screen, while the run goes on.

The view is a process of its own, so the guest waits for nothing of it. Ctrl-A l opens it and, there, leads back.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

from trapline.session.terminal.aside import Aside

if TYPE_CHECKING:
    import subprocess

    from trapline.lab.stat.offer import Offer
    from trapline.session.terminal.console import Console

_NO_TEXTUAL = b"\r\n[the live view needs textual: pip install 'trapline[watch]']\r\n"
_NO_PLACE = b"\r\n[no live view: there is no private folder for its socket]\r\n"
PATIENCE = 3.0  # seconds for the view to end with the run


def possible(console: Console) -> bool:
    """Whether the view can have this terminal."""
    from importlib.util import find_spec

    return console.source.keyboard and sys.stdout.isatty() and find_spec("textual") is not None


class OwnScreen:
    """Opens the view and takes the terminal back when it has ended. `begin`: open it at the first look."""

    def __init__(self, console: Console, offer: Offer, *, begin: bool) -> None:
        self._console, self._offer, self._begin = console, offer, begin
        self._child: subprocess.Popen[bytes] | None = None
        console.on_live = self.open

    def __call__(self) -> None:
        """Look whether the view is wanted, or has ended."""
        if self._begin:
            self._begin = False
            self.open()
        if self._child is not None and self._child.poll() is not None:
            self._back()

    def open(self) -> None:
        """Give the terminal to the view, or say why not."""
        if self._child is not None:
            return
        if not possible(self._console):
            self._console.show(_NO_TEXTUAL)
            return
        if self._offer.open() is None:
            self._console.show(_NO_PLACE)
            return
        import subprocess

        self._console.flush()
        self._console.aside = Aside()
        command = [sys.executable, "-m", "trapline", "stat", str(os.getpid()), "--own"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        try:
            self._child = subprocess.Popen(command, env=environment)
        except OSError as error:
            self._console.aside = None
            self._console.show(f"\r\n[no live view: {error.strerror}]\r\n".encode())

    def close(self) -> None:
        """The run has ended: so does its view."""
        self._console.on_live = None
        child = self._child
        if child is None:
            return
        import subprocess

        try:
            child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(PATIENCE)
            child.kill()
            child.wait()
        self._back()

    def _back(self) -> None:
        """The terminal is the guest's again: its mode, and what was written meanwhile."""
        self._child = None
        aside, self._console.aside = self._console.aside, None
        self._console.raw_again()
        if aside is not None and aside.kept:
            self._console.again(bytes(aside.kept))

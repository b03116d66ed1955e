"""The live view of one's own run: `trapline stat` on the terminal's other screen, while the run goes on.

The view is a process of its own, so the guest waits for nothing of it. Ctrl-A l opens it and, there, leads back;
Ctrl-A x ends the run there too: the view says so by its exit code.
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
ENDS_RUN, ESCAPE = 10, 11  # the view's exit codes behind Ctrl-A x, and behind a Ctrl-A with nothing yet
# What a killed view could not undo: keys, pastes, mouse and focus reported, no line wrap, its screen, no cursor.
_UNDO = b"\x1b[<u\x1b[?2004l\x1b[?2048l\x1b[?1000;1003;1015;1006;1016;1004l\x1b[?7h\x1b[?1049l\x1b[?25h"


def possible(console: Console) -> bool:
    """Whether the view can have this terminal."""
    from importlib.util import find_spec

    return console.source.keyboard and sys.stdout.isatty() and find_spec("textual") is not None


class OwnScreen:
    """Opens the view and takes the terminal back when it has ended. `begin`: open it at the first look."""

    def __init__(self, console: Console, offer: Offer, *, begin: bool) -> None:
        self._console, self._offer, self._begin = console, offer, begin
        self._child: subprocess.Popen[bytes] | None = None
        console.on_live, console.on_death = self.switch, self._kill

    def __call__(self) -> None:
        """Look whether the view is wanted, or has ended."""
        if self._begin:
            self._begin = False
            self.open()
        if self._child is not None and self._child.poll() is not None:
            self._back()

    def switch(self) -> None:
        """Open the view; close one that has only been started, for it reads its own keys from then on."""
        if self._child is None:
            self.open()
            return
        self._child.kill()
        self._child.wait()
        self._back()

    def _kill(self) -> None:
        """The process dies, and the terminal is the shell's."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._console.again(_UNDO)

    def open(self) -> None:
        """Give the terminal to the view, or say why not."""
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
        self._console.on_death = lambda: None
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
        child, self._child = self._child, None
        code = 0 if child is None else child.returncode
        if code == ENDS_RUN:
            self._console.quit_requested = True
        elif code == ESCAPE:
            self._console.escape_typed()
        elif code < 0:
            self._console.again(_UNDO)
        aside, self._console.aside = self._console.aside, None
        self._console.raw_again()
        if aside is not None and aside.kept:
            self._console.again(bytes(aside.kept))

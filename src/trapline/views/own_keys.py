"""Keys that a run's own screen hears at any moment: while it opens, in a box, and when it has ended already.

They are heard where the terminal is read, so none waits for the screen or is thrown away with it.
"""

from __future__ import annotations

import signal
from typing import Protocol, cast

from textual import events
from textual.drivers.linux_driver import LinuxDriver
from textual.message import Message


class Hears(Protocol):
    """A screen that wants each key."""

    def heard(self, key: str) -> None: ...


class OwnDriver(LinuxDriver):
    """A terminal whose keys the screen hears before anything is done with them."""

    _closed = False

    def process_message(self, message: Message) -> None:
        if isinstance(message, events.Key):
            cast("Hears", self._app).heard(message.key)
        super().process_message(message)

    def disable_input(self) -> None:
        """Read keys no more: what is typed from here on stays for the guest's console, in the terminal's own codes."""
        if self._closed:
            return
        self._closed = True
        signal.signal(signal.SIGWINCH, signal.SIG_DFL)
        self._disable_mouse_support()
        self.write("\x1b[<u\x1b[?1004l")  # keys as they were, no word of the focus
        self.exit_event.set()
        if self._key_thread is not None:
            self._key_thread.join()

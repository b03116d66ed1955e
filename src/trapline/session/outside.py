"""The world outside a machine, for as long as the machine waits for it: typed input, and the network."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterable
from typing import Protocol

from trapline.session.terminal.console import Console


class Sockets(Protocol):
    """Devices that may have sockets of this host."""

    @property
    def live(self) -> bool:
        """Whether anything may arrive."""

    def poll(self) -> None:
        """Take what has arrived."""

    def descriptors(self) -> Iterable[int]:
        """What to wait for."""


class Outside:
    """Joins the console with the devices that have sockets."""

    def __init__(self, console: Console, devices: Sockets) -> None:
        self._console, self._devices = console, devices
        # Called whenever the machine looks outside: for a debugger, and for those who only look on.
        self.on_poll: Callable[[], None] | None = None
        self.on_watch: Callable[[], None] | None = None

    @property
    def live(self) -> bool:
        """Whether something may arrive at any time, so that an idle machine waits for real."""
        return self._console.source.live or self._devices.live

    def poll(self) -> None:
        """Let devices take what has arrived; typed input is the machine's to fetch."""
        if self._devices.live:
            self._devices.poll()
        if self.on_poll is not None:
            self.on_poll()
        self.watched()

    def watched(self) -> None:
        """Let those look who only look on: also while a debugger holds the machine."""
        if self.on_watch is not None:
            self.on_watch()

    def wait(self, seconds: float) -> bool:
        """Sleep until something arrives, for at most `seconds`; return whether anything still can."""
        if not self._devices.live:
            return self._console.wait(seconds)
        self._console.flush()
        poll = select.poll()
        for descriptor in self._devices.descriptors():
            poll.register(descriptor, select.POLLIN)
        typed = getattr(self._console.source, "descriptor", None)
        if typed is not None and self._console.source.live:
            poll.register(typed, select.POLLIN)
        poll.poll(max(0, round(seconds * 1000)))
        return True

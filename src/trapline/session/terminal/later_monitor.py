"""The monitor of a console, made when somebody opens it: nearly no run does, and it brings all instructions along."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trapline.session.terminal.monitor import Monitor


class LaterMonitor:
    """A monitor's attributes; what whoever runs the machine asks all the time is known without it."""

    def __init__(self, target: str, machine: object, write: Callable[[bytes], object]) -> None:
        """`target` is the class, as module:name, through which the monitor looks at the machine."""
        self._parts = target, machine, write

    @cached_property
    def made(self) -> Monitor:
        """The monitor."""
        from trapline.session.terminal.monitor import Monitor

        target, machine, write = self._parts
        module, _, name = target.partition(":")
        return Monitor(getattr(import_module(module), name)(machine), write)

    @property
    def stopped(self) -> bool:
        """Whether it holds the machine."""
        return "made" in vars(self) and self.made.stopped

    @property
    def quit_requested(self) -> bool:
        """Whether it was told to end the run."""
        return "made" in vars(self) and self.made.quit_requested

    def __getattr__(self, name: str) -> Any:
        return getattr(self.made, name)

"""What an engine is to those who run harts with it, and where engines are made."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from trapline.lang.given import short

if TYPE_CHECKING:
    from trapline.engine.stop_points import Stops
    from trapline.lang.state import Hart

ENGINES = ("native", "reference")


@runtime_checkable
class Engine(Protocol):
    """Runs the harts of one machine; their state words are all that it and its users share."""

    name: str
    compiles: bool  # whether hosted functions run in native code, which calls `hosted_exit` itself
    stops: Stops  # where its harts come back before an instruction, behind an access or at a trap
    turn: int  # attempts that a hart may make before others get their turn: some milliseconds' worth
    on_asked: Callable[[], None]  # called now and then where devices answer in Python a great deal: that takes long

    def attach(self, hart: Hart) -> None:
        """Prepare a hart whose extensions and memory regions are configured; again when they change."""

    def run(self, hart: Hart, limit: int) -> int:
        """Run until `limit` more attempts or another reason to leave (lang.control.EXIT_*)."""

    def registers_of(self, device: object) -> tuple[int, int, int, int]:
        """Host addresses of a device's state and its compiled on_load, on_store, on_calm (lang.devices.Registers).

        1 in the last place: every read is calm. Zeros where native code does not serve the device.
        """

    def regions_changed(self, hart: Hart) -> None:
        """The memory regions of a hart that is attached are others now."""

    def call_turns(self, function: Callable[..., None], hart: Hart, *args: Any) -> None:
        """Call a subset function that runs harts by itself (lang.control.run_engine), compiled if it can be."""

    def code_written(self, host: int, size: int) -> None:
        """Someone other than a hart changed `size` bytes of guest memory at this host address."""

    def infos_at(self, host: int, size: int) -> int:
        """Host address of what the engine notes of the pages of a memory region at a host address, 0: nothing."""
        ...

    def notes(self) -> list[str]:
        """What the user should know of a run besides its result."""


class Before:
    """Stands before an engine, to look at each run: all but `run` is the engine's own."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def call_turns(self, function: Callable[..., None], hart: Hart, *args: Any) -> None:
        """Under CPython, where each run comes by."""
        function(hart, *args)


class UnknownEngine(ValueError):
    """There is no engine of that name."""


def open_engine(engine: str | Engine = "native", progress: Callable[[str], None] | None = None) -> Engine:
    """Return a new engine of this name, or the engine given; UnknownEngine for any other name.

    `progress` is told what is done when the native image has to be compiled first, which takes seconds.
    """
    if not isinstance(engine, str):
        if not hasattr(engine, "attach"):
            raise TypeError(f"engine = {short(engine)}: a name or an engine is needed")
        return engine
    if engine == "native":
        from trapline.engine.native import NativeEngine

        return NativeEngine(progress) if progress is not None else NativeEngine()
    if engine == "reference":
        from trapline.engine.reference import ReferenceEngine

        return ReferenceEngine()
    raise UnknownEngine(f"unknown engine {engine!r}: native or reference")

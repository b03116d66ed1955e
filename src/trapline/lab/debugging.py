"""Running a board or a guest with a debugger."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from trapline.dataclass import dataclass
from trapline.lab.errors import UsageError
from trapline.lab.output import note_failure


@dataclass(frozen=True, slots=True)
class DebugOptions:
    """Where a debugger may connect ([HOST:]PORT or unix:PATH; None: nowhere), and whether the run waits for it."""

    address: str | None = None
    wait: bool = False


NO_DEBUG = DebugOptions()


@contextlib.contextmanager
def debugged(run: Any, options: DebugOptions, say: Callable[[str], object] | None) -> Iterator[Any]:
    """Yield what is to be run in the place of a board or a guest; closes it. UsageError: nobody can listen there."""
    made = run if options.address is None else _with_debugger(run, options, options.address, say)
    try:
        yield made
    finally:
        for lost in made.close():
            note_failure(UsageError(lost, "--net"))


def _with_debugger(run: Any, options: DebugOptions, address: str, say: Callable[[str], object] | None) -> Any:
    from trapline.gdb.debugger import Debugger
    from trapline.gdb.listener import AddressError, Listener
    from trapline.gdb.target import target_of

    try:
        listener = Listener(address)
    except AddressError as error:
        run.close()
        raise UsageError(str(error), "--gdb") from None
    return Debugger(target_of(run), listener, say or (lambda text: None), wait=options.wait)

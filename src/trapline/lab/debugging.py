"""Running a board or a guest with a debugger."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from trapline.lab.errors import UsageError


@dataclass(frozen=True, slots=True)
class DebugOptions:
    """Where a debugger may connect ([HOST:]PORT or unix:PATH; None: nowhere), and whether the run waits for it."""

    address: str | None = None
    wait: bool = False


NO_DEBUG = DebugOptions()


@contextlib.contextmanager
def debugged(run: Any, options: DebugOptions, say: Callable[[str], object] | None) -> Iterator[Any]:
    """Yield what is to be run in the place of a board or a guest; closes it. UsageError: nobody can listen there."""
    if options.address is None:
        with contextlib.closing(run):
            yield run
        return
    from trapline.gdb.debugger import Debugger
    from trapline.gdb.listener import AddressError, Listener
    from trapline.gdb.target import target_of

    try:
        listener = Listener(options.address)
    except AddressError as error:
        run.close()
        raise UsageError(str(error), "--gdb") from None
    with contextlib.closing(Debugger(target_of(run), listener, say or (lambda text: None), wait=options.wait)) as made:
        yield made

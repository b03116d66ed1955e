"""Options of commands that observe traps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trapline.cli.options import Flag, Several
from trapline.cli.parameter import Parameter
from trapline.dataclass import dataclass

if TYPE_CHECKING:
    from trapline.lab.observe import ObserveOptions


@Parameter(name="*")
@dataclass(frozen=True)
class Observing:
    """Traps that nobody hosted, and what each round trip cost.

    Attributes
    ----------
    observe
        Show where each kind of trap came from, where it went, and the instructions from trap to return.
    live
        Observe, and watch it on a screen of its own (Ctrl-A l: back), or by a line each second where no terminal is.
    symbols
        Observe, and name the code: System.map, kallsyms or ELF, or LEVEL=FILE (M, HS, VS, U, VU); may be repeated.
    """

    observe: Flag = False
    live: Flag = False
    symbols: Several = ()

    def options(self) -> ObserveOptions:
        """Return them for the lab."""
        from trapline.lab.observe import ObserveOptions

        return ObserveOptions(self.observe, self.live, tuple(self.symbols))


OBSERVING = Observing()

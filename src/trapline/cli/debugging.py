"""Options of commands that a debugger can connect to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from trapline.cli.options import Flag
from trapline.cli.parameter import Parameter
from trapline.dataclass import dataclass

if TYPE_CHECKING:
    from trapline.lab.debugging import DebugOptions

_PORT = "1234"  # QEMU's


@Parameter(name="*")
@dataclass(frozen=True)
class Debugging:
    """gdb, as `target remote` knows it.

    Attributes
    ----------
    gdb
        Let gdb connect at [HOST:]PORT (this host alone without HOST) or unix:PATH.
    gdb_wait
        Wait for it before the first instruction.
    s
        The same as --gdb 1234.
    S
        The same as --gdb-wait, as QEMU has it; alone it is -s -S.
    """

    gdb: str | None = None
    gdb_wait: Flag = False
    s: Annotated[bool, Parameter(name="-s", negative="")] = False
    S: Annotated[bool, Parameter(name="-S", negative="")] = False

    def options(self) -> DebugOptions:
        """Return them for the lab."""
        from trapline.lab.debugging import DebugOptions

        wait = self.gdb_wait or self.S
        return DebugOptions(self.gdb or (_PORT if self.s or wait else None), wait)


DEBUGGING = Debugging()

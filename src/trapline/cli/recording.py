"""Options of commands that write down what a machine is and does."""

from __future__ import annotations

from dataclasses import dataclass

from cyclopts import Parameter


@Parameter(name="*")
@dataclass(frozen=True)
class Recording:
    """Files beside the result.

    Attributes
    ----------
    dump_dtb
        Write the device tree that the machine would start with to a file, and exit.
    """

    dump_dtb: str | None = None


RECORDING = Recording()

"""`trapline conform`: presets against real kernels."""

from __future__ import annotations

from trapline.cli.application import app
from trapline.cli.options import Json


@app.command
def conform(tests: tuple[str, ...] = (), /, *, json: Json = None) -> int:
    """Reserved: running the architecture's conformance tests arrives in a later release."""
    from trapline.lab.errors import UsageError

    raise UsageError(
        "conform is not there yet: the name is reserved for a later release",
        remedy="trapline boot TEST.elf --signature FILE runs one architecture test today",
    )

"""`trapline demo`: the guided first run."""

from __future__ import annotations

from typing import Annotated

from trapline.cli.common import finish, native
from trapline.cli.options import Json
from trapline.cli.parameter import Parameter


def demo(*, short: Annotated[bool, Parameter(negative="")] = False, json: Json = None) -> int:
    """Show in ten seconds what this is about: one trap, two kernels, one dead guest.

    Parameters
    ----------
    short
        Without the whole route matrix.
    json
        Write the result as JSON to a file, or - for standard output.
    """
    from trapline.lab.demo import demo as lab
    from trapline.views.demo import show_demo

    native()
    result = lab()
    finish(result.as_data(), json, lambda out: show_demo(out, result, full=not short))
    return 0

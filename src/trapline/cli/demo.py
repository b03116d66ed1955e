"""`trapline demo`: the guided first run."""

from __future__ import annotations

from trapline.cli.common import finish, native
from trapline.cli.options import Flag, Json


def demo(*, short: Flag = False, json: Json = None) -> int:
    """Show in ten seconds what this is about: one trap, two kernels, one dead guest.

    Parameters
    ----------
    short
        Without the whole route matrix.
    """
    from trapline.lab.demo import demo as lab
    from trapline.views.demo import show_demo

    native()
    result = lab()
    finish(result.as_data(), json, lambda out: show_demo(out, result, full=not short))
    return 0

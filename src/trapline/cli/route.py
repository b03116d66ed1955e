"""`trapline route`: who gets each cause."""

from __future__ import annotations

from trapline.cli.application import app
from trapline.cli.common import finish, native
from trapline.cli.numbers import Isa
from trapline.cli.options import UNDER, EngineName, Json, Under


@app.command
def route(
    *,
    under: Under = UNDER,
    event: str | None = None,
    isa: Isa | None = None,
    engine: EngineName = "native",
    json: Json = None,
) -> int:
    """Show who gets each cause raised in VS and VU, by executing a probe for every row.

    Parameters
    ----------
    event
        Only this cause (number or name), or events whose name fits a regular expression.
    isa
        ISA string of the hart.
    engine
        native, or reference (CPython).
    json
        Write the result as JSON to a file, or - for standard output.
    """
    from trapline.lab.route import route as lab
    from trapline.privilege.isa_string import DEFAULT_ISA
    from trapline.views.routes import show_routes

    result = lab(
        under.policy,
        firmware=under.firmware,
        host_fwft=under.host_fwft == "on",
        misaligned=under.misaligned,
        isa=isa or DEFAULT_ISA,
        engine=native(engine),
        event=event,
    )
    finish(result.as_data(), json, lambda out: show_routes(out, result))
    return 0

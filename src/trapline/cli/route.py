"""`trapline route`: who gets each cause."""

from __future__ import annotations

from typing import Any

from trapline.cli.common import finish, native
from trapline.cli.numbers import Isa
from trapline.cli.options import UNDER, EngineName, EventPattern, Flag, Json, Under


def route(
    *,
    under: Under = UNDER,
    event: EventPattern = None,
    isa: Isa | None = None,
    engine: EngineName = "native",
    nested: Flag = False,
    l1: str | None = None,
    seen: Flag = False,
    picture: str | None = None,
    json: Json = None,
) -> int:
    """Show who gets each cause raised in VS and VU, by executing a probe for every row.

    Parameters
    ----------
    isa
        ISA string of the hart.
    engine
        native, or reference (CPython).
    nested
        Raise each event in the guest of a guest hypervisor, and in that itself.
    l1
        With --nested: the policy of the guest hypervisor, a preset or a TOML file (linux-7.2).
    seen
        With --nested: the trap registers that each level saw, for each event, in place of the table.
    picture
        Draw the ways that the traps take, as an SVG file.
    """
    from trapline.lab.errors import UsageError
    from trapline.lab.route import route as lab
    from trapline.privilege.isa_string import DEFAULT_ISA
    from trapline.views.routes import show_routes

    if picture is not None and not picture.lower().endswith(".svg"):
        raise UsageError(f"cannot draw {picture!r}: no such format", "--picture", "end the name in .svg")
    if nested:
        from trapline.lab.nested.route import DEFAULT_L1, nested_route
        from trapline.views.nested import show_nested_routes, show_seen

        ways = nested_route(
            under.policy, l1 or DEFAULT_L1, firmware=under.firmware, host_fwft=under.host_fwft == "on",
            misaligned=under.misaligned, isa=isa or DEFAULT_ISA, engine=native(engine), event=event,
        )  # fmt: skip
        _draw(ways.as_data(), picture)
        finish(ways.as_data(), json, lambda out: (show_seen if seen else show_nested_routes)(out, ways))
        return 0
    for option, given in ((f"--l1 {l1}", l1 is not None), ("--seen", seen)):
        if given:
            raise UsageError(option, remedy="it goes with --nested")
    result = lab(
        under.policy,
        firmware=under.firmware,
        host_fwft=under.host_fwft == "on",
        misaligned=under.misaligned,
        isa=isa or DEFAULT_ISA,
        engine=native(engine),
        event=event,
    )
    _draw(result.as_data(), picture)
    finish(result.as_data(), json, lambda out: show_routes(out, result))
    return 0


def _draw(data: dict[str, Any], picture: str | None) -> None:
    """Draw the routes if that is wanted; a picture that cannot be written is told behind them."""
    if picture is None:
        return
    from trapline.lab.output import behind_result, write_text
    from trapline.views.page.routes import routes_svg

    with behind_result():
        write_text(routes_svg(data), picture, "--picture")

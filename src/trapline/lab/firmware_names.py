"""Firmware by name: the models, and one that no machine has but an audit wants."""

from __future__ import annotations

from trapline.dataclass import replace
from trapline.firmware.models import MODELS, FirmwareModel
from trapline.lab.errors import UsageError
from trapline.lang.given import require_kind, suggest

# Beyond the named models: no delegation in hardware, and none in firmware. Only here do the causes that
# all firmware delegates (3, 8, 12, 13, 15) arrive in HS.
WORST_CASE = replace(
    MODELS["ignores-hedeleg"],
    name="ignores-hedeleg+hard-wired",
    summary="every trap goes to M and from there to HS, whatever medeleg and hedeleg say",
    tied_zero=MODELS["hard-wired"].tied_zero,
)
ALL: dict[str, FirmwareModel] = {**MODELS, WORST_CASE.name: WORST_CASE}


def firmware_named(name: str) -> FirmwareModel:
    """Return the model of this name; UsageError lists those that there are."""
    require_kind("firmware", name, str)
    if name not in ALL:
        hint = suggest(name, tuple(ALL))
        raise UsageError(f"unknown firmware {name!r}", remedy=f"{hint}; known: {', '.join(ALL)}".removeprefix("; "))
    return ALL[name]

"""Harts as a machine has them, and where the parts of its memory may lie."""

from __future__ import annotations

from trapline.lang.state import Hart
from trapline.machine.aia import Aia
from trapline.machine.load.content import ImageError
from trapline.machine.spec import HartSpec
from trapline.privilege.isa_string import add_imsic, configure
from trapline.privilege.reset import reset


def require_apart(taken: list[tuple[int, int, str]], low: int, high: int, name: str) -> None:
    """Note that a part of memory is taken; ImageError if another one has some of it."""
    for other_low, other_high, other in taken:
        if low < other_high and other_low < high:
            raise ImageError(
                f"{name} [{low:#x}..{high - 1:#x}] overlaps {other} [{other_low:#x}..{other_high - 1:#x}]: "
                "more memory may help"
            )
    taken.append((low, high, name))


def set_up(hart: Hart, number: int, pc: int, spec: HartSpec, aia: Aia) -> None:
    """Make a hart what the specification of a machine says, and reset it to start at `pc`."""
    configure(hart, aia.isa(spec.isa))
    if aia.imsic:
        add_imsic(hart, aia.guests)
    reset(hart, number, pc)
    hart.time_ratio = spec.ratio
    hart.misaligned_hardware = int(spec.misaligned == "hardware" or hart.has_zicclsm != 0)
    hart.tinst_transformed = int(spec.tinst == "transformed")

"""Interrupt lines from devices into a hart's mip."""

from __future__ import annotations

from trapline.lang.state import Hart
from trapline.privilege.derived import update_derived

MSIP, MTIP, SEIP, MEIP = 1 << 3, 1 << 7, 1 << 9, 1 << 11


def set_line(hart: Hart, bit: int, level: bool) -> None:
    """Drive one bit of mip; the hart looks at its interrupts again only if the bit changes."""
    old = int(hart.mip)
    new = old | bit if level else old & ~bit
    if new != old:
        hart.mip = new
        hart.call(update_derived)

"""Interrupt lines: from devices into a hart's mip, and from a device's pin to the interrupt controller."""

from __future__ import annotations

from trapline.lang.devices import DeviceState, on_hart
from trapline.lang.functions import cold, hosted
from trapline.lang.state import Hart
from trapline.lang.values import U64
from trapline.privilege.derived import update_derived


@hosted
def set_line(hart: Hart, bit: U64, level: bool) -> None:
    """Drive one bit of mip; the hart looks at its interrupts again only if the bit changes."""
    lines = hart.mip & ~bit
    if level:
        lines = lines | bit
    if lines != hart.mip:
        hart.mip = lines
        update_derived(hart)


@cold
def set_line_of(hart: Hart, io: DeviceState, number: U64, bit: U64, level: bool) -> None:
    """Drive one bit of mip of the hart with this number."""
    if number == hart.mhartid:
        set_line(hart, bit, level)
    else:
        on_hart(io.hart_at[number], set_line, bit, level)


def drive(hart: Hart, bit: int, level: bool) -> None:
    """For what is not compiled: drive one bit of mip."""
    if (int(hart.mip) & bit != 0) != level:
        hart.call(set_line, bit, level)

"""mip, mie and their views: sip, sie, hip, hie, hvip, vsip, vsie (Hypervisor chapter, interrupt registers)."""

from __future__ import annotations

from typing import Any

from trapline.lang.functions import cold
from trapline.lang.values import U64
from trapline.privilege.derived import update_derived
from trapline.privilege.fields import (
    ENVCFG_STCE,
    HS_INTERRUPTS,
    LCOFIP,
    SEIP,
    SSIP,
    STIP,
    VS_INTERRUPTS,
    VSSIP,
)
from trapline.privilege.interrupts import pending


@cold
def read_mip(hart: Any) -> U64:
    """mip: every source."""
    return pending(hart)


@cold
def write_mip(hart: Any, value: U64) -> None:
    """mip: SSIP, STIP (unless stimecmp drives it), SEIP, VSSIP, LCOFIP.

    SEIP reads as software's bit ORed with the device's line. A read-modify-write must not latch the
    line, so a one written while the line is high leaves software's bit as it was.
    """
    mask = hart.mip_mask & (SSIP | STIP | LCOFIP)
    if hart.menvcfg & ENVCFG_STCE != 0:
        mask = mask & ~STIP
    if value & SEIP == 0:
        hart.seip_software = 0
    elif hart.mip & SEIP == 0:
        hart.seip_software = hart.mip_mask & SEIP
    hart.mip = (hart.mip & ~mask) | (value & mask)
    vssip = hart.mip_mask & VSSIP
    hart.hvip = (hart.hvip & ~vssip) | (value & vssip)
    update_derived(hart)


@cold
def write_mie(hart: Any, value: U64) -> None:
    """mie."""
    hart.mie = value & hart.mie_mask
    update_derived(hart)


@cold
def read_sip(hart: Any) -> U64:
    """sip: what is delegated by mideleg, without the VS level."""
    return pending(hart) & hart.mideleg & ~HS_INTERRUPTS


@cold
def write_sip(hart: Any, value: U64) -> None:
    """sip: SSIP and LCOFIP, where delegated."""
    mask = hart.mip_mask & hart.mideleg & (SSIP | LCOFIP)
    hart.mip = (hart.mip & ~mask) | (value & mask)
    update_derived(hart)


@cold
def read_sie(hart: Any) -> U64:
    """sie."""
    return hart.mie & hart.mideleg & ~HS_INTERRUPTS


@cold
def write_sie(hart: Any, value: U64) -> None:
    """sie."""
    mask = hart.mie_mask & hart.mideleg & ~HS_INTERRUPTS
    hart.mie = (hart.mie & ~mask) | (value & mask)
    update_derived(hart)


@cold
def read_hip(hart: Any) -> U64:
    """hip."""
    return pending(hart) & HS_INTERRUPTS


@cold
def write_hip(hart: Any, value: U64) -> None:
    """hip: only VSSIP is writable, an alias of hvip's."""
    hart.hvip = (hart.hvip & ~VSSIP) | (value & VSSIP)
    update_derived(hart)


@cold
def read_hie(hart: Any) -> U64:
    """hie."""
    return hart.mie & HS_INTERRUPTS


@cold
def write_hie(hart: Any, value: U64) -> None:
    """hie."""
    hart.mie = (hart.mie & ~HS_INTERRUPTS) | (value & HS_INTERRUPTS)
    update_derived(hart)


@cold
def write_hvip(hart: Any, value: U64) -> None:
    """hvip: the interrupts that a hypervisor injects."""
    hart.hvip = value & VS_INTERRUPTS
    update_derived(hart)


@cold
def write_hideleg(hart: Any, value: U64) -> None:
    """hideleg."""
    hart.hideleg = value & VS_INTERRUPTS
    update_derived(hart)


@cold
def write_hgeie(hart: Any, value: U64) -> None:
    """hgeie: one bit for each of GEILEN guest external interrupts."""
    hart.hgeie = value & hart.hgeie_mask
    update_derived(hart)


@cold
def read_vsip(hart: Any) -> U64:
    """vsip: what hideleg delegates, one bit further down."""
    return (pending(hart) & hart.hideleg) >> 1


@cold
def write_vsip(hart: Any, value: U64) -> None:
    """vsip: SSIP writes hvip.VSSIP, where delegated."""
    mask = hart.hideleg & VSSIP
    hart.hvip = (hart.hvip & ~mask) | ((value << 1) & mask)
    update_derived(hart)


@cold
def read_vsie(hart: Any) -> U64:
    """vsie."""
    return (hart.mie & hart.hideleg) >> 1


@cold
def write_vsie(hart: Any, value: U64) -> None:
    """vsie."""
    mask = hart.hideleg
    hart.mie = (hart.mie & ~mask) | ((value << 1) & mask)
    update_derived(hart)

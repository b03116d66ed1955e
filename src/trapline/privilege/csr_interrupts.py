"""mip, mie and their views: sip, sie, hip, hie, hvip, vsip, vsie (Hypervisor chapter, interrupt registers)."""

from __future__ import annotations

from trapline.lang.functions import cold
from trapline.lang.state import Hart
from trapline.lang.values import U64
from trapline.privilege.fields import (
    ENVCFG_STCE,
    HS_INTERRUPTS,
    LCOFIP,
    LOCAL_INTERRUPTS,
    SEIP,
    SSIP,
    STIP,
    VS_INTERRUPTS,
    VSSIP,
)
from trapline.privilege.interrupts import (
    guest_enabled,
    guest_pending,
    pending,
    supervisor_enabled,
    supervisor_pending,
)


@cold
def read_mip(hart: Hart) -> U64:
    """mip: every source."""
    return pending(hart)


@cold
def write_mip(hart: Hart, value: U64) -> None:
    """mip: SSIP, STIP (unless stimecmp drives it), SEIP, VSSIP, LCOFIP.

    SEIP reads as software's bit ORed with the device's line. A read-modify-write must not latch the
    line, so a one written while the line is high leaves software's bit as it was.
    """
    mask = hart.mip_mask & (SSIP | STIP | LCOFIP)
    if hart.menvcfg & ENVCFG_STCE != 0:
        mask = mask & ~STIP
    if hart.mvien & SEIP != 0:
        mask = mask & ~SEIP  # mip.SEIP is the interrupt controller's alone
    elif value & SEIP == 0:
        hart.seip_software = 0
    elif hart.mip & SEIP == 0:
        hart.seip_software = hart.mip_mask & SEIP
    hart.mip = (hart.mip & ~mask) | (value & mask)
    vssip = hart.mip_mask & VSSIP
    hart.hvip = (hart.hvip & ~vssip) | (value & vssip)


@cold
def write_mie(hart: Hart, value: U64) -> None:
    hart.mie = value & hart.mie_mask


@cold
def read_sip(hart: Hart) -> U64:
    """sip: what mideleg delegates and what mvien makes virtual, without the VS level."""
    return supervisor_pending(hart) & ~HS_INTERRUPTS


@cold
def write_sip(hart: Hart, value: U64) -> None:
    """sip: SSIP and LCOFIP, where delegated; in mvip what is virtual."""
    mask = hart.mip_mask & hart.mideleg & (SSIP | LCOFIP)
    hart.mip = (hart.mip & ~mask) | (value & mask)
    mask = hart.mvien & ~hart.mideleg & ~SEIP
    hart.mvip = (hart.mvip & ~mask) | (value & mask)


@cold
def read_sie(hart: Hart) -> U64:
    return supervisor_enabled(hart) & ~HS_INTERRUPTS


@cold
def write_sie(hart: Hart, value: U64) -> None:
    mask = hart.mie_mask & hart.mideleg & ~HS_INTERRUPTS
    hart.mie = (hart.mie & ~mask) | (value & mask)
    mask = hart.mvien & ~hart.mideleg
    hart.sie_virtual = (hart.sie_virtual & ~mask) | (value & mask)


@cold
def read_hip(hart: Hart) -> U64:
    return pending(hart) & HS_INTERRUPTS


@cold
def write_hip(hart: Hart, value: U64) -> None:
    """hip: only VSSIP is writable, an alias of hvip's."""
    hart.hvip = (hart.hvip & ~VSSIP) | (value & VSSIP)


@cold
def read_hie(hart: Hart) -> U64:
    return hart.mie & HS_INTERRUPTS


@cold
def write_hie(hart: Hart, value: U64) -> None:
    hart.mie = (hart.mie & ~HS_INTERRUPTS) | (value & HS_INTERRUPTS)


@cold
def write_hvip(hart: Hart, value: U64) -> None:
    """hvip: the interrupts that a hypervisor injects."""
    hart.hvip = value & (VS_INTERRUPTS | hart.hvien_mask)


@cold
def write_hideleg(hart: Hart, value: U64) -> None:
    local = LOCAL_INTERRUPTS & (hart.mideleg | hart.mvien) if hart.has_ssaia != 0 else U64(0)
    hart.hideleg = value & (VS_INTERRUPTS | local)


@cold
def write_hgeie(hart: Hart, value: U64) -> None:
    """hgeie: one bit for each of GEILEN guest external interrupts."""
    hart.hgeie = value & hart.hgeie_mask


@cold
def read_vsip(hart: Hart) -> U64:
    """vsip: what hideleg delegates, one bit further down."""
    return guest_pending(hart)


@cold
def write_vsip(hart: Hart, value: U64) -> None:
    """vsip: SSIP writes hvip.VSSIP, where delegated; from 13 on the bits are sip's or hvip's."""
    mask = hart.hideleg & VSSIP
    hart.hvip = (hart.hvip & ~mask) | ((value << 1) & mask)
    mask = hart.hvien & ~hart.hideleg
    hart.hvip = (hart.hvip & ~mask) | (value & mask)
    local = hart.hideleg & LOCAL_INTERRUPTS
    if local != 0:
        write_sip(hart, (read_sip(hart) & ~local) | (value & local))


@cold
def read_vsie(hart: Hart) -> U64:
    return guest_enabled(hart)


@cold
def write_vsie(hart: Hart, value: U64) -> None:
    mask = hart.hideleg & VS_INTERRUPTS
    hart.mie = (hart.mie & ~mask) | ((value << 1) & mask)
    mask = hart.hvien & ~hart.hideleg
    hart.vsie_virtual = (hart.vsie_virtual & ~mask) | (value & mask)
    local = hart.hideleg & LOCAL_INTERRUPTS
    if local != 0:
        write_sie(hart, (read_sie(hart) & ~local) | (value & local))

"""Which interrupt comes first at each level: mtopi, stopi, vstopi (AIA spec 1.0, chapters 5 and 6).

A result has the layout of those CSRs, IID << 16 | IPRIO, and is 0 where nothing is pending and enabled.
Priorities compare as numbers: 0 above everything, 1 to 255 as software or the interrupt controller gave
them, 256 for an external interrupt without a number, LAST for what defaults to less than that.
"""

from __future__ import annotations

from trapline.lang.functions import cold, inline
from trapline.lang.state import Hart
from trapline.lang.state.words import IMSIC_WORDS
from trapline.lang.values import U64, ctz
from trapline.privilege.fields import (
    HSTATUS_VGEIN_SHIFT,
    HVICTL_DPR,
    HVICTL_IID_SHIFT,
    HVICTL_IPRIO,
    HVICTL_IPRIOM,
    HVICTL_VTI,
)
from trapline.privilege.interrupts import (
    guest_enabled,
    guest_pending,
    highest,
    pending,
    supervisor_enabled,
    supervisor_pending,
)

# Major interrupts, the one that comes first by default in front. What the AIA leaves open: custom ones
# (24 to 31 and from 48 on) and 15 come last.
DEFAULT_ORDER = (
    *(47, 23, 46, 45, 22, 44, 43, 21, 42, 41, 20, 40),
    *(11, 3, 7, 9, 1, 5, 12, 10, 2, 6, 13, 14),
    *(39, 19, 38, 37, 18, 36, 35, 17, 34, 33, 16, 32),
    *(15, 63, 62, 61, 60, 59, 58, 57, 56, 55, 54, 53, 52, 51, 50, 49, 48, 31, 30, 29, 28, 27, 26, 25, 24),
    *(8, 4, 0),
)
UNNUMBERED, LAST, NONE = 256, 300, 400
M_LEVEL, S_LEVEL, VS_LEVEL = 0, 1, 2
MEI, SEI = 11, 9
FIRST_FOURTEEN = 0x3FFF


@cold
def imsic_top(hart: Hart, file: U64) -> U64:
    """Identity of an interrupt file's first interrupt that is pending, enabled and above the threshold; or 0."""
    threshold = hart.imsic_eithreshold[file]
    identity = U64(0)
    for i in range(IMSIC_WORDS):
        at = file * IMSIC_WORDS + i
        bits = hart.imsic_eip[at] & hart.imsic_eie[at]
        if bits != 0:
            identity = ctz(bits) + i * 64
            break
    if threshold != 0 and identity >= threshold:
        return U64(0)
    return identity


@inline
def guest_file(hart: Hart) -> U64:
    """The interrupt file that hstatus.VGEIN selects, or 0 if it is not the number of one."""
    vgein = (hart.hstatus >> HSTATUS_VGEIN_SHIFT) & 63
    if hart.has_imsic == 0 or vgein == 0 or vgein > hart.geilen:
        return U64(0)
    return vgein + 1


@inline
def external_priority(hart: Hart, file: U64) -> U64:
    """The number of an external interrupt: its identity, if the file has one."""
    if hart.has_imsic == 0 or (file < 2 and hart.imsic_eidelivery[file] == 0):
        return U64(UNNUMBERED)
    identity = imsic_top(hart, file)
    return U64(UNNUMBERED) if identity == 0 else identity


@cold
def priority_number(hart: Hart, level: U64, irq: U64) -> U64:
    """The number that software gave a major interrupt at a level: iprio arrays, hviprio1 and hviprio2."""
    shift = (irq & 7) * 8
    if level == M_LEVEL:
        return (hart.miprio[irq >> 3] >> shift) & 255
    if level == S_LEVEL:
        return (hart.siprio[irq >> 3] >> shift) & 255
    if irq == 1:
        return (hart.hviprio1 >> 8) & 255
    if irq == 5:
        return (hart.hviprio1 >> 24) & 255
    if irq >= 13 and irq <= 15:
        return (hart.hviprio1 >> ((irq - 8) * 8 & 63)) & 255
    if irq >= 16 and irq <= 23:
        return (hart.hviprio2 >> shift) & 255
    return U64(0)


@cold
def first(hart: Hart, bits: U64, level: U64, external: U64, external_number: U64) -> U64:
    """The first of the interrupts in `bits` as IID << 16 | its priority, for a level whose external one is given."""
    if bits & ~U64(FIRST_FOURTEEN) == 0 and hart.iprio_used == 0:
        irq = highest(bits)
        return (irq << 16) | (external_number if irq == external else U64(LAST))
    best = U64(0)
    best_priority = U64(NONE)
    above = U64(0)
    for i in range(64):
        irq = U64(DEFAULT_ORDER[i])
        if irq == external:
            above = U64(LAST)
        if (bits >> (irq & 63)) & 1 != 0:
            priority = external_number
            if irq != external:
                priority = priority_number(hart, level, irq)
                if priority == 0:
                    priority = above
            if priority < best_priority:
                best = irq
                best_priority = priority
    return (best << 16) | best_priority


@inline
def shown(top: U64) -> U64:
    """A result of `first` with IPRIO as the CSRs show it: at most 255."""
    priority = top & 0xFFFF
    return (top & ~0xFFFF) | (priority if priority < 255 else U64(255))


@cold
def machine_top(hart: Hart) -> U64:
    """mtopi."""
    bits = pending(hart) & hart.mie & ~hart.mideleg
    if bits == 0:
        return U64(0)
    return shown(first(hart, bits, U64(M_LEVEL), U64(MEI), external_priority(hart, U64(0))))


@cold
def supervisor_top(hart: Hart) -> U64:
    """stopi."""
    bits = supervisor_pending(hart) & supervisor_enabled(hart) & ~hart.hideleg
    if bits == 0:
        return U64(0)
    return shown(first(hart, bits, U64(S_LEVEL), U64(SEI), external_priority(hart, U64(1))))


@cold
def guest_external_number(hart: Hart) -> U64:
    """The priority number of VS level's external interrupt: the file's, hvictl's, or none."""
    file = guest_file(hart)
    if file != 0:
        return external_priority(hart, file)
    vgein = (hart.hstatus >> HSTATUS_VGEIN_SHIFT) & 63
    if vgein == 0 and (hart.hvictl >> HVICTL_IID_SHIFT) & 63 == SEI and hart.hvictl & HVICTL_IPRIO != 0:
        return hart.hvictl & HVICTL_IPRIO
    return U64(UNNUMBERED)


@cold
def guest_injected(hart: Hart, external: U64) -> U64:
    """vstopi's choice under hvictl.VTI: the interrupt in hvictl against the external one."""
    iid = (hart.hvictl >> HVICTL_IID_SHIFT) & 63
    number = U64(NONE)
    if external != 0:
        number = guest_external_number(hart)
    if iid == SEI:
        return (U64(SEI) << 16) | number if external != 0 else U64(0)
    after = hart.hvictl & HVICTL_DPR != 0
    priority = hart.hvictl & HVICTL_IPRIO
    if priority == 0 and after:
        priority = U64(LAST)
    if external != 0 and (number < priority or (number == priority and after)):
        return (U64(SEI) << 16) | number
    return (iid << 16) | priority


@cold
def guest_top(hart: Hart) -> U64:
    """vstopi."""
    bits = guest_pending(hart) & guest_enabled(hart)
    top = U64(0)
    if hart.hvictl & HVICTL_VTI != 0:
        top = guest_injected(hart, bits & (1 << SEI))
    elif bits != 0:
        top = first(hart, bits, U64(VS_LEVEL), U64(SEI), guest_external_number(hart))
    if top == 0:
        return U64(0)
    if hart.hvictl & HVICTL_IPRIOM == 0:
        return (top & ~0xFFFF) | 1
    return shown(top)

"""An IMSIC's interrupt files as the hart sees them (AIA spec 1.0, chapter 3): registers, claims, signals.

Files are numbered 0 for M, 1 for S, and 1 + n for guest external interrupt n.
"""

from __future__ import annotations

from trapline.lang.functions import cold
from trapline.lang.state import Hart
from trapline.lang.state.words import IMSIC_WORDS
from trapline.lang.values import U64
from trapline.privilege.derived import update_derived
from trapline.privilege.fields import MEIP, SEIP
from trapline.privilege.priorities import imsic_top

EIDELIVERY, EITHRESHOLD, EIP, EIE = 0x70, 0x72, 0x80, 0xC0
FIRST_EXTERNAL, LAST_EXTERNAL = 0x70, 0xFF
IMSIC_IDENTITIES = IMSIC_WORDS * 64 - 1
FILE_M, FILE_S, FILE_GUEST = 0, 1, 2


@cold
def imsic_signal(hart: Hart, file: U64) -> None:
    """Drive the file's wire: MEIP, SEIP, or its bit of hgeip."""
    level = hart.imsic_eidelivery[file] != 0 and imsic_top(hart, file) != 0
    if file >= FILE_GUEST:
        bit = U64(1) << (file - 1 & 63)
        hart.hgeip = hart.hgeip | bit if level else hart.hgeip & ~bit
    else:
        bit = U64(MEIP) if file == FILE_M else U64(SEIP)
        hart.mip = hart.mip | bit if level else hart.mip & ~bit
    update_derived(hart)


@cold
def imsic_message(hart: Hart, file: U64, identity: U64) -> None:
    """An MSI: make an identity pending; those that do not exist are ignored."""
    if identity != 0 and identity <= IMSIC_IDENTITIES:
        at = file * IMSIC_WORDS + (identity >> 6)
        hart.imsic_eip[at] = hart.imsic_eip[at] | (U64(1) << (identity & 63))
        imsic_signal(hart, file)


@cold
def imsic_claim(hart: Hart, file: U64) -> None:
    """A write of xtopei: the identity that it shows is no longer pending."""
    identity = imsic_top(hart, file)
    if identity != 0:
        at = file * IMSIC_WORDS + (identity >> 6)
        hart.imsic_eip[at] = hart.imsic_eip[at] & ~(U64(1) << (identity & 63))
        imsic_signal(hart, file)


@cold
def imsic_read(hart: Hart, file: U64, select: U64) -> U64:
    """A register of 0x70 to 0xFF; the even ones of the arrays only (the caller checks). Reserved ones are 0."""
    if select == EIDELIVERY:
        return hart.imsic_eidelivery[file]
    if select == EITHRESHOLD:
        return hart.imsic_eithreshold[file]
    word = (select & 63) >> 1
    if select < EIP or word >= IMSIC_WORDS:
        return U64(0)
    at = file * IMSIC_WORDS + word
    return hart.imsic_eip[at] if select < EIE else hart.imsic_eie[at]


@cold
def imsic_write(hart: Hart, file: U64, select: U64, value: U64) -> None:
    """Write a register; identity 0 and those beyond the last do not exist."""
    word = (select & 63) >> 1
    if select == EIDELIVERY:
        hart.imsic_eidelivery[file] = value & 1
    elif select == EITHRESHOLD:
        hart.imsic_eithreshold[file] = value & IMSIC_IDENTITIES
    elif select >= EIP and word < IMSIC_WORDS:
        at = file * IMSIC_WORDS + word
        bits = value & ~1 if word == 0 else value
        if select < EIE:
            hart.imsic_eip[at] = bits
        else:
            hart.imsic_eie[at] = bits
    imsic_signal(hart, file)

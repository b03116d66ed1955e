"""The CSRs that Smaia and Ssaia add, and who may use them (AIA spec 1.0, chapters 2, 5 and 6; Smstateen)."""

from __future__ import annotations

from trapline.lang.functions import IllegalInstruction, VirtualInstruction, cold, inline
from trapline.lang.state import Hart
from trapline.lang.values import U64
from trapline.privilege.csr_control import require_stateen
from trapline.privilege.derived import update_derived
from trapline.privilege.fields import (
    ENVCFG_STCE,
    HVICTL_VTI,
    HVICTL_WRITABLE,
    LOCAL_INTERRUPTS,
    SEIP,
    SSIP,
    STATEEN_AIA,
    STATEEN_CSRIND,
    STATEEN_IMSIC,
    STIP,
)
from trapline.privilege.imsic import (
    EIP,
    FILE_M,
    FILE_S,
    FIRST_EXTERNAL,
    LAST_EXTERNAL,
    imsic_claim,
    imsic_read,
    imsic_write,
)
from trapline.privilege.modes import SUPERVISOR, USER
from trapline.privilege.priorities import guest_file, guest_top, imsic_top, machine_top, supervisor_top

IPRIO, LAST_IPRIO = 0x30, 0x3F
SELECT_MASK = 0xFFF
HVIPRIO1_WRITABLE = 0xFFFF_FF00_FF00_FF00


# --- virtual interrupts ---


@cold
def virtual_changed(hart: Hart) -> None:
    """After a change of what makes interrupts virtual."""
    hart.virtual_used = hart.mvien | hart.hvien | (hart.hvictl & HVICTL_VTI)
    # Bits of hideleg from 13 on exist where mideleg or mvien pass the interrupt on.
    hart.hideleg = hart.hideleg & (hart.mideleg | hart.mvien | ~U64(LOCAL_INTERRUPTS))
    update_derived(hart)


@cold
def write_mvien(hart: Hart, value: U64) -> None:
    """mvien. Software's SEIP is in mvip's word while bit 9 is one, else in seip_software, which is part of mip."""
    new = value & hart.mvien_mask
    if new & SEIP != 0:
        hart.mvip = hart.mvip | hart.seip_software
        hart.seip_software = 0
    else:
        hart.seip_software = hart.seip_software | (hart.mvip & SEIP)
        hart.mvip = hart.mvip & ~SEIP
    hart.mvien = new
    virtual_changed(hart)


@cold
def read_mvip(hart: Hart) -> U64:
    """mvip: bits 1, 5 and 9 alias mip's where they are not virtual."""
    bits = hart.mvip | hart.seip_software
    if hart.mvien & SSIP == 0:
        bits = (bits & ~SSIP) | (hart.mip & SSIP)
    if hart.menvcfg & ENVCFG_STCE == 0:
        bits = bits | (hart.mip & STIP)
    return bits


@cold
def write_mvip(hart: Hart, value: U64) -> None:
    own = (hart.mvien_mask & LOCAL_INTERRUPTS) | (hart.mvien & (SSIP | SEIP))
    hart.mvip = (hart.mvip & ~own) | (value & own)
    if hart.mvien & SEIP == 0:
        hart.seip_software = value & SEIP
    alias = SSIP & ~hart.mvien
    if hart.menvcfg & ENVCFG_STCE == 0:
        alias = alias | STIP
    hart.mip = (hart.mip & ~alias) | (value & alias)
    update_derived(hart)


@cold
def write_hvien(hart: Hart, value: U64) -> None:
    hart.hvien = value & hart.hvien_mask
    virtual_changed(hart)


@cold
def write_hvictl(hart: Hart, value: U64) -> None:
    hart.hvictl = value & HVICTL_WRITABLE
    virtual_changed(hart)


@cold
def priorities_changed(hart: Hart) -> None:
    """After a change of a priority number."""
    used = hart.hviprio1 | hart.hviprio2
    for i in range(8):
        used = used | hart.miprio[i] | hart.siprio[i]
    hart.iprio_used = used
    update_derived(hart)


@cold
def write_hviprio1(hart: Hart, value: U64) -> None:
    """hviprio1: interrupts 0, 4 and 8 have no priority number."""
    hart.hviprio1 = value & HVIPRIO1_WRITABLE
    priorities_changed(hart)


@cold
def write_hviprio2(hart: Hart, value: U64) -> None:
    hart.hviprio2 = value
    priorities_changed(hart)


# --- what comes first ---


@cold
def read_mtopi(hart: Hart) -> U64:
    return machine_top(hart)


@cold
def read_stopi(hart: Hart) -> U64:
    return supervisor_top(hart)


@cold
def read_vstopi(hart: Hart) -> U64:
    return guest_top(hart)


@inline
def topei(hart: Hart, file: U64) -> U64:
    """An interrupt file's xtopei: the identity, which is also the priority."""
    identity = imsic_top(hart, file)
    return (identity << 16) | identity


@cold
def read_mtopei(hart: Hart) -> U64:
    return topei(hart, U64(FILE_M))


@cold
def write_mtopei(hart: Hart, value: U64) -> None:
    """mtopei: claims, whatever is written."""
    imsic_claim(hart, U64(FILE_M))


@cold
def read_stopei(hart: Hart) -> U64:
    return topei(hart, U64(FILE_S))


@cold
def write_stopei(hart: Hart, value: U64) -> None:
    """stopei: claims."""
    imsic_claim(hart, U64(FILE_S))


@cold
def read_vstopei(hart: Hart) -> U64:
    """vstopei; zero to hosted software where VGEIN selects no file."""
    file = guest_file(hart)
    return U64(0) if file == 0 else topei(hart, file)


@cold
def write_vstopei(hart: Hart, value: U64) -> None:
    """vstopei: claims."""
    file = guest_file(hart)
    if file != 0:
        imsic_claim(hart, file)


# --- the windows: xiselect and xireg ---


@inline
def selects_iprio(select: U64) -> bool:
    """Whether a value of xiselect is a register of an iprio array."""
    return select >= IPRIO and select <= LAST_IPRIO and select & 1 == 0


@inline
def selects_external(select: U64) -> bool:
    """Whether a value of xiselect is in the range of interrupt files."""
    return select >= FIRST_EXTERNAL and select <= LAST_EXTERNAL


@inline
def exists_at_64(select: U64) -> bool:
    """The odd registers of the arrays eip and eie are for 32 bits."""
    return select < EIP or select & 1 == 0


@inline
def settable(word: U64, enabled: U64, external: U64) -> U64:
    """Mask of the priority numbers in a word of an iprio array: what may be enabled, less the external interrupt."""
    mask = U64(0)
    bits = ((enabled & ~external) >> (word * 8 & 63)) & 255
    for i in range(8):
        if (bits >> i) & 1 != 0:
            mask = mask | (U64(255) << (i * 8))
    return mask


@cold
def read_mireg(hart: Hart) -> U64:
    select = hart.miselect
    if selects_iprio(select):
        return hart.miprio[(select & 15) >> 1]
    return imsic_read(hart, U64(FILE_M), select)


@cold
def write_mireg(hart: Hart, value: U64) -> None:
    select = hart.miselect
    if selects_iprio(select):
        word = (select & 15) >> 1
        # What is always delegated never traps to M-mode.
        hart.miprio[word] = value & settable(word, hart.mie_mask & ~hart.mideleg_ones, U64(1 << 11))
        priorities_changed(hart)
    else:
        imsic_write(hart, U64(FILE_M), select, value)


@cold
def read_sireg(hart: Hart) -> U64:
    select = hart.siselect
    if selects_iprio(select):
        return hart.siprio[(select & 15) >> 1]
    return imsic_read(hart, U64(FILE_S), select)


@cold
def write_sireg(hart: Hart, value: U64) -> None:
    select = hart.siselect
    if selects_iprio(select):
        word = (select & 15) >> 1
        enabled = hart.mideleg_mask | hart.mideleg_ones | hart.mvien_mask
        hart.siprio[word] = value & settable(word, enabled, U64(SEIP))
        priorities_changed(hart)
    else:
        imsic_write(hart, U64(FILE_S), select, value)


@cold
def read_vsireg(hart: Hart) -> U64:
    """vsireg; zero to hosted software where there is no register."""
    file = guest_file(hart)
    return U64(0) if file == 0 else imsic_read(hart, file, hart.vsiselect)


@cold
def write_vsireg(hart: Hart, value: U64) -> None:
    file = guest_file(hart)
    if file != 0:
        imsic_write(hart, file, hart.vsiselect, value)


# --- who may ---


@inline
def require_file_stateen(hart: Hart) -> None:
    """The bit for interrupt files; a hart without an IMSIC has none."""
    if hart.has_imsic != 0:
        require_stateen(hart, U64(STATEEN_IMSIC))


@cold
def guard_aia(hart: Hart, csr: U64) -> None:
    """stopi, vstopi, hvien, hvictl, hviprio1, hviprio2."""
    require_stateen(hart, U64(STATEEN_AIA))


@cold
def guard_select(hart: Hart, csr: U64) -> None:
    """siselect and vsiselect."""
    require_stateen(hart, U64(STATEEN_CSRIND))


@cold
def guard_virtual(hart: Hart, csr: U64) -> None:
    """sip and sie: hvictl.VTI keeps VS-mode from them."""
    if hart.virt != 0 and hart.priv == SUPERVISOR and hart.hvictl & HVICTL_VTI != 0:
        raise VirtualInstruction()


@inline
def require_own_file(hart: Hart) -> None:
    """The supervisor-level file: there must be one, and mvien.SEIP keeps S-mode from it."""
    if hart.has_imsic == 0 or (hart.priv == SUPERVISOR and hart.mvien & SEIP != 0):
        raise IllegalInstruction()


@cold
def guard_stopei(hart: Hart, csr: U64) -> None:
    """stopei: the S-level file, or at V=1 the one that VGEIN selects."""
    require_file_stateen(hart)
    if hart.virt == 0:
        require_own_file(hart)
    elif guest_file(hart) == 0:
        raise VirtualInstruction()


@cold
def guard_vstopei(hart: Hart, csr: U64) -> None:
    """vstopei: VGEIN must select a file; what HS-mode could not access is illegal, not virtual, at V=1."""
    if guest_file(hart) == 0:
        raise IllegalInstruction()
    require_file_stateen(hart)


@cold
def guard_mireg(hart: Hart, csr: U64) -> None:
    """mireg: miselect must name a register."""
    select = hart.miselect
    if selects_iprio(select):
        return
    if hart.has_imsic == 0 or not selects_external(select) or not exists_at_64(select):
        raise IllegalInstruction()


@cold
def guard_sireg(hart: Hart, csr: U64) -> None:
    """sireg: siselect must name a register, at V=1 vsiselect."""
    require_stateen(hart, U64(STATEEN_CSRIND))
    if hart.priv == USER:
        return
    if hart.virt != 0:
        guard_guest_register(hart)
        return
    select = hart.siselect
    if selects_iprio(select):
        require_stateen(hart, U64(STATEEN_AIA))
        return
    if not selects_external(select) or not exists_at_64(select):
        raise IllegalInstruction()
    require_file_stateen(hart)
    require_own_file(hart)


@cold
def guard_guest_register(hart: Hart) -> None:
    """sireg from VS-mode: registers that exist nowhere are illegal, the others at least a hypervisor can emulate."""
    select = hart.vsiselect
    if select >= IPRIO and select <= LAST_IPRIO:
        raise VirtualInstruction()
    if not selects_external(select):
        raise IllegalInstruction()
    require_file_stateen(hart)
    if guest_file(hart) == 0 or not exists_at_64(select):
        raise VirtualInstruction()


@cold
def guard_vsireg(hart: Hart, csr: U64) -> None:
    """vsireg: vsiselect must name a register of the file that VGEIN selects."""
    require_stateen(hart, U64(STATEEN_CSRIND))
    if hart.virt != 0 or hart.priv == USER:
        return
    select = hart.vsiselect
    if not selects_external(select) or guest_file(hart) == 0 or not exists_at_64(select):
        raise IllegalInstruction()
    require_file_stateen(hart)

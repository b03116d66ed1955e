"""Access to CSRs: may this mode, which register, its value (Privileged spec, CSRs; Hypervisor chapter).

The three steps stand apart. Instructions take all three; hosted software reads and writes exactly the
register it names, unchecked, in whatever mode the hart is.
"""

from __future__ import annotations

from trapline.lang.functions import IllegalInstruction, VirtualInstruction, cold, dispatch, inline
from trapline.lang.state import Hart
from trapline.lang.values import U64
from trapline.privilege.csr_numbers import STIMECMP, STOPI, VSTOPI
from trapline.privilege.csr_table import CSR_GUARD, CSR_READ, CSR_WRITE
from trapline.privilege.fields import HVICTL_VTI
from trapline.privilege.modes import MACHINE, SUPERVISOR

LEVEL_U, LEVEL_S, LEVEL_H, LEVEL_M = 0, 1, 2, 3
READ_ONLY = 3

# By low byte, the 0x1xx registers that V=1 replaces by 0x2xx: bits of 0x00..0x3F and of 0x40..0x7F.
SHADOWED_LOW = 1 << 0x00 | 1 << 0x04 | 1 << 0x05
SHADOWED_HIGH = 0x1F | 1 << 0x0D | 1 << 0x10 | 1 << 0x11 | 1 << 0x1C
SATP_BYTE = 0x80


@inline
def csr_exists(hart: Hart, csr: U64) -> bool:
    """Whether this hart has the register at all (csr_map: the table's predicates, by isa_string.set_masks)."""
    return (hart.csr_map[(csr >> 6) & 63] >> (csr & 63)) & 1 != 0


@cold
def check_csr(hart: Hart, csr: U64, write: U64) -> None:
    """Raise illegal or virtual instruction unless the hart may access the register; `write` is 0 or 1.

    Virtual instruction is for what HS-mode could have done with TVM=0. So existence, writes of
    read-only registers, M-level registers and M's own switches (illegal) come before the level of
    the register against the mode.
    """
    if not csr_exists(hart, csr):
        raise IllegalInstruction()
    if write != 0 and csr >> 10 == READ_ONLY:
        raise IllegalInstruction()
    if hart.priv == MACHINE:
        if csr in CSR_GUARD:
            dispatch(CSR_GUARD, csr, hart, csr)
        return
    level = (csr >> 8) & 3
    if level == LEVEL_M:
        raise IllegalInstruction()
    if csr in CSR_GUARD:
        dispatch(CSR_GUARD, csr, hart, csr)
    if hart.virt != 0:
        if level == LEVEL_H or (level == LEVEL_S and hart.priv != SUPERVISOR):
            raise VirtualInstruction()
        if csr == STIMECMP and write != 0 and hart.hvictl & HVICTL_VTI != 0:
            raise VirtualInstruction()
    elif level != LEVEL_U and hart.priv != SUPERVISOR:
        raise IllegalInstruction()


@cold
def effective_csr(hart: Hart, csr: U64) -> U64:
    """The register that an instruction reaches: at V=1 the supervisor's names mean vsstatus and its kin."""
    if hart.virt == 0 or csr >> 8 != 1:
        return U64(VSTOPI) if hart.virt != 0 and csr == STOPI else csr
    low = csr & 0xFF
    replaced = False
    if low < 0x40:
        replaced = (SHADOWED_LOW >> (low & 63)) & 1 != 0
    elif low < 0x80:
        replaced = (SHADOWED_HIGH >> (low & 63)) & 1 != 0
    else:
        replaced = low == SATP_BYTE
    return csr + 0x100 if replaced else csr


@cold
def csr_read(hart: Hart, csr: U64) -> U64:
    """Value of a register that exists; no permission check, no renaming."""
    return dispatch(CSR_READ, csr, hart)


@cold
def csr_write(hart: Hart, csr: U64, value: U64) -> None:
    """Write a register that exists, with all its effects; no permission check, no renaming."""
    dispatch(CSR_WRITE, csr, hart, value)

"""Emulation of misaligned loads and stores, one byte at a time at the privilege of the code that trapped.

As OpenSBI does it (sbi_trap_ldst.c): scalar integer and floating point loads and stores with their
compressed forms; atomics, vectors and everything else are not emulated.
"""

from __future__ import annotations

from trapline.engine.decode_block import find_entry, register_bytes, word
from trapline.engine.records import (
    ACCESS,
    ACCESS_FLOAT,
    ACCESS_NOTHING,
    ACCESS_SHIFT,
    ACCESS_SIGNED,
    ACCESS_SIZE,
    ACCESS_STORE,
    ACCESS_ZCB,
)
from trapline.firmware.redirect import EMULATES_ZCB, FIXES_TINST, MARKS_GUEST_FP_DIRTY
from trapline.firmware.unprivileged import fetches, load_bytes, store_bytes
from trapline.lang.control import attempt
from trapline.lang.functions import cold, inline
from trapline.lang.state import Hart
from trapline.lang.values import U64
from trapline.privilege.csr import csr_read, csr_write
from trapline.privilege.csr_numbers import MEPC, MSTATUS, VSSTATUS
from trapline.privilege.fields import MSTATUS_FS
from trapline.privilege.translation import PSEUDO_READ_PTE, PSEUDO_WRITE_PTE

RS1_SHIFT = 15


@inline
def stored_value(hart: Hart, registers: U64, access: U64) -> U64:
    """The register that an emulated store stores, whole."""
    if access & ACCESS_FLOAT != 0:
        return hart.f[registers >> 16 & 31]
    return hart.x[registers >> 16 & 31]


@inline
def write_loaded(hart: Hart, registers: U64, access: U64, data: U64) -> None:
    """Write what an emulated load has found to its register: sign-extended, NaN-boxed, or as it is."""
    bits = (access & ACCESS_SIZE) * 8
    value = data & (U64(0xFFFF_FFFF_FFFF_FFFF) >> ((64 - bits) & 63))
    if access & ACCESS_FLOAT != 0:
        if bits != 64:
            value = value | (U64(0xFFFF_FFFF_FFFF_FFFF) << (bits & 63))
        hart.f[registers & 31] = value
        return
    if access & ACCESS_SIGNED != 0:
        sign = U64(1) << ((bits - 1) & 63)
        value = (value ^ sign) - sign
    if registers & 32 == 0:
        hart.x[registers & 31] = value


@cold
def mark_fp_dirty(hart: Hart, virt: U64) -> None:
    """Set FS to Dirty in sstatus and, if this firmware does, in a guest's vsstatus."""
    csr_write(hart, U64(MSTATUS), csr_read(hart, U64(MSTATUS)) | MSTATUS_FS)
    if virt != 0 and hart.fw_flags & MARKS_GUEST_FP_DIRTY != 0:
        csr_write(hart, U64(VSSTATUS), csr_read(hart, U64(VSSTATUS)) | MSTATUS_FS)


@cold
def fix_tinst(hart: Hart, tval: U64, tinst: U64) -> None:
    """Make a byte access's fault look like one of the original instruction, if this firmware does.

    A pseudo-instruction stays; otherwise htinst is the original's with the distance in Addr. Offset, or 0.
    """
    inner = hart.trap_tinst
    if hart.fw_flags & FIXES_TINST == 0 or inner == PSEUDO_READ_PTE or inner == PSEUDO_WRITE_PTE:
        return
    hart.trap_tinst = tinst | ((hart.trap_tval - tval) << RS1_SHIFT) if tinst != 0 else U64(0)


@cold
def emulate_access(hart: Hart, epc: U64, priv: U64, virt: U64) -> U64:
    """Do the access of the trap in trap_* and step mepc over it; return 1 + its place among isa.lookup.scalar_accesses.

    0 if there is nothing to emulate or the access faults: trap_* is then the trap to redirect. mtval is the address: it
    is not computed again.
    """
    va = hart.trap_tval
    tinst = hart.trap_tinst
    # A transformed instruction has bit 0 set; bit 1 is clear if the original was compressed.
    bits = tinst | 2
    length = U64(2) if tinst & 2 == 0 else U64(4)
    if tinst & 1 == 0 or tinst >> 32 != 0:
        if not fetches(hart, epc, priv, virt):
            return U64(0)
        bits = hart.attempted
        length = U64(4) if bits & 3 == 3 else U64(2)
    entry = find_entry(hart, bits)
    if entry == 0:
        return U64(0)
    access = word(entry, U64(ACCESS))
    size = access & ACCESS_SIZE
    half = access & ACCESS_FLOAT != 0 and size == 2
    if access == 0 or access & ACCESS_NOTHING != 0 or half:
        return U64(0)
    if access & ACCESS_ZCB != 0 and hart.fw_flags & EMULATES_ZCB == 0:
        return U64(0)
    registers = register_bytes(bits, entry)
    if access & ACCESS_STORE != 0:
        failed = attempt(hart, store_bytes, va, size, stored_value(hart, registers, access), priv, virt)
    else:
        failed = attempt(hart, load_bytes, va, size, priv, virt)
    if failed:
        fix_tinst(hart, va, tinst)
        return U64(0)
    if access & ACCESS_STORE == 0:
        write_loaded(hart, registers, access, hart.attempted)
        if access & ACCESS_FLOAT != 0:
            mark_fp_dirty(hart, virt)
    csr_write(hart, U64(MEPC), epc + length)
    return access >> ACCESS_SHIFT

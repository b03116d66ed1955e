"""The access behind a guest page fault outside the slots: decoded with the policy's limits, and completed."""

from __future__ import annotations

from trapline.engine.decode_block import find_entry, immediate, register_bytes, word
from trapline.engine.records import (
    ACCESS,
    ACCESS_FLOAT,
    ACCESS_NOTHING,
    ACCESS_SIZE,
    ACCESS_SP,
    ACCESS_STORE,
    NUMBER,
)
from trapline.firmware.misaligned import stored_value, write_loaded
from trapline.kvm.exits.guest_fetch import fetches_guest
from trapline.kvm.flags import CHECKS_ADDRESS, DECODES_IMPLICIT, REFUSES_SP_ZERO
from trapline.lang.functions import cold, hosted
from trapline.lang.state import Hart
from trapline.lang.values import U64
from trapline.privilege.csr import csr_read
from trapline.privilege.csr_numbers import VSSTATUS
from trapline.privilege.csr_status import new_vsstatus
from trapline.privilege.fields import MSTATUS_FS
from trapline.privilege.translation import PSEUDO_READ_PTE, PSEUDO_WRITE_PTE

# What decode_access says.
DECODED, IMPLICIT, UNFETCHED, UNSUPPORTED, MISALIGNED = range(5)


@hosted
def decode_access(hart: Hart, store: U64, gpa: U64, htinst: U64) -> U64:
    """Decode the access to hart.kvm_mmio_access, kvm_mmio_registers and kvm_mmio_length: DECODED, or why not.

    The instruction must go with the fault: a load for a load fault, a store for a store fault. UNFETCHED: hart.trap_*
    is the fault of its fetch.
    """
    if (htinst == PSEUDO_READ_PTE or htinst == PSEUDO_WRITE_PTE) and hart.kvm_flags & DECODES_IMPLICIT == 0:
        return U64(IMPLICIT)
    # A transformed instruction: bit 1 tells its length, a compressed one was expanded.
    bits = htinst | 3
    length = U64(2) if htinst & 2 == 0 else U64(4)
    if htinst & 1 == 0:
        if not fetches_guest(hart):
            return U64(UNFETCHED)
        bits = hart.attempted
        length = U64(4) if bits & 3 == 3 else U64(2)
    entry = find_entry(hart, bits)
    if entry == 0:
        return U64(UNSUPPORTED)
    access = word(entry, U64(ACCESS))
    number = word(entry, U64(NUMBER))
    known = (hart.kvm_mmio_known[number >> 6 & 7] >> (number & 63)) & 1 != 0
    if access == 0 or not known:
        return U64(UNSUPPORTED)
    # KVM tests bits 11:7 of these as if they were rd.
    if access & ACCESS_SP != 0 and bits >> 7 & 31 == 0 and hart.kvm_flags & REFUSES_SP_ZERO != 0:
        return U64(UNSUPPORTED)
    if access & ACCESS_NOTHING == 0:
        if (access & ACCESS_STORE != 0) != (store != 0):
            return U64(UNSUPPORTED)
        if gpa & ((access & ACCESS_SIZE) - 1) != 0:
            return U64(MISALIGNED)
        if hart.kvm_flags & CHECKS_ADDRESS != 0 and is_later_part(hart, bits, entry, htinst):
            return U64(MISALIGNED)
    hart.kvm_mmio_access = access
    hart.kvm_mmio_registers = register_bytes(bits, entry)
    hart.kvm_mmio_length = length
    return U64(DECODED)


@cold
def is_later_part(hart: Hart, bits: U64, entry: U64, htinst: U64) -> bool:
    """Whether the fault is not at the access's own address: whoever split a misaligned access found it further on."""
    if htinst & 1 != 0:
        return htinst >> 15 & 31 != 0  # the address offset (Hypervisor chapter, transformed instructions)
    base = hart.x[register_bytes(bits, entry) >> 8 & 31]
    return base + immediate(bits, entry) != hart.stval


@hosted
def stored_data(hart: Hart) -> U64:
    """What the decoded store stores, zero-extended."""
    access = hart.kvm_mmio_access
    unused = (64 - (access & ACCESS_SIZE) * 8) & 63
    return stored_value(hart, hart.kvm_mmio_registers, access) & (U64(0xFFFF_FFFF_FFFF_FFFF) >> unused)


@cold
def mark_guest_fp_dirty(hart: Hart) -> None:
    """The guest's own kernel must see that FS is Dirty."""
    hart.guest_sstatus = hart.guest_sstatus | MSTATUS_FS
    hart.vsstatus = new_vsstatus(hart, csr_read(hart, U64(VSSTATUS)) | MSTATUS_FS)


@hosted
def finish_access(hart: Hart, data: U64) -> None:
    """Write the value of a load and step over the instruction."""
    access = hart.kvm_mmio_access
    if access & (ACCESS_STORE | ACCESS_NOTHING) == 0:
        write_loaded(hart, hart.kvm_mmio_registers, access, data)
        if access & ACCESS_FLOAT != 0:
            mark_guest_fp_dirty(hart)
    hart.guest_sepc = hart.guest_sepc + hart.kvm_mmio_length
    hart.kvm_mmio_open = 0

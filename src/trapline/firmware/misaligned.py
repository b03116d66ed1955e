"""Emulation of misaligned loads and stores, one byte at a time at the privilege of the code that trapped.

As OpenSBI does it (sbi_trap_ldst.c): scalar integer and floating point loads and stores with their
compressed forms; atomics, vectors and everything else are not emulated.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from trapline.firmware.models import FirmwareModel
from trapline.firmware.trap import MachineTrap
from trapline.firmware.unprivileged import fetch_instruction, load_bytes, store_bytes
from trapline.lang.functions import Trap
from trapline.privilege import csr_numbers as csr
from trapline.privilege.csr import csr_read, csr_write
from trapline.privilege.fields import MSTATUS_FS

if TYPE_CHECKING:
    from trapline.isa.decode import Decoded, Decoder

PSEUDO_READ_PTE, PSEUDO_WRITE_PTE = 0x3000, 0x3020
RS1_SHIFT = 15
NAN_BOX = 0xFFFF_FFFF_0000_0000


# Extensions whose loads and stores are emulated.
EMULATED = frozenset(("I", "F", "D"))


@lru_cache(maxsize=8)
def _decoder(enabled: frozenset[str]) -> Decoder:
    from trapline.isa.decode import Decoder

    return Decoder(enabled)


def decode(hart: Any, bits: int) -> Decoded | None:
    """Decode with the extensions of this hart."""
    from trapline.isa.decode import enabled_extensions

    return _decoder(frozenset(enabled_extensions(hart))).decode(bits)


def trapped_instruction(hart: Any, trap: MachineTrap) -> tuple[int, int]:
    """Return bits and length of the instruction: from mtinst if it holds one, else fetched.

    A transformed instruction has bit 0 set; bit 1 is clear if the original was compressed. Raises the
    Trap of a failed fetch.
    """
    if trap.tinst & 1 and trap.tinst < 1 << 32:
        return trap.tinst | 2, 4 if trap.tinst & 2 else 2
    bits = fetch_instruction(hart, trap.epc)
    return bits, 4 if bits & 3 == 3 else 2


def fix_tinst(model: FirmwareModel, trap: MachineTrap, inner: Trap) -> MachineTrap:
    """Make a byte access's fault look like one of the original instruction.

    A pseudo-instruction stays; otherwise htinst is the original's with the distance in Addr. Offset, or 0.
    """
    fault = trap.replaced_by(inner)
    if not model.fixes_tinst or inner.tinst in (PSEUDO_READ_PTE, PSEUDO_WRITE_PTE):
        return fault
    tinst = trap.tinst | inner.tval - trap.tval << RS1_SHIFT if trap.tinst else 0
    return replace(fault, tinst=tinst & (1 << 64) - 1)


def emulate(hart: Any, model: FirmwareModel, trap: MachineTrap) -> str | MachineTrap:
    """Do the access that trapped; return its mnemonic, or the trap to redirect instead.

    The caller steps over the instruction. mtval is the address: it is not computed again.
    """
    try:
        bits, length = trapped_instruction(hart, trap)
    except Trap as inner:
        return trap.replaced_by(inner)
    found = decode(hart, bits)
    if found is None or (found.spelling.extension.startswith("Zcb") and not model.emulates_zcb):
        return trap
    instruction = found.instruction
    access = instruction.access
    if access is None or instruction.extension not in EMULATED:
        return trap
    try:
        if access.is_store:
            file = hart.f if instruction.is_float("rs2") else hart.x
            store_bytes(hart, trap.tval, access.size, int(file[found.operands["rs2"]]))
        else:
            write_register(model, hart, trap, found, load_bytes(hart, trap.tval, access.size))
    except Trap as inner:
        return fix_tinst(model, trap, inner)
    hart.call(csr_write, csr.MEPC, trap.epc + length)
    return instruction.name


def write_register(model: FirmwareModel, hart: Any, trap: MachineTrap, found: Decoded, value: int) -> None:
    """Write a loaded value: sign-extended, NaN-boxed, or as it is."""
    access, rd = found.instruction.access, found.operands["rd"]
    assert access is not None
    if found.instruction.is_float("rd"):
        hart.f[rd] = value | (NAN_BOX if access.size == 4 else 0)
        mark_fp_dirty(model, hart, trap)
        return
    sign = 1 << 8 * access.size - 1
    hart.x[rd] = (value ^ sign) - sign if access.signed else value


def mark_fp_dirty(model: FirmwareModel, hart: Any, trap: MachineTrap) -> None:
    """Set FS to Dirty in sstatus and, if this firmware does, in a guest's vsstatus."""
    for number in (csr.MSTATUS, csr.VSSTATUS) if trap.virt and model.marks_guest_fp_dirty else (csr.MSTATUS,):
        hart.call(csr_write, number, int(hart.call(csr_read, number)) | MSTATUS_FS)

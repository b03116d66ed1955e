"""Illegal instructions that firmware emulates: reads of counters that the hart does not implement.

(OpenSBI sbi_illegal_insn.c, sbi_emulate_csr.c.) Everything else is truly illegal and is redirected.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from trapline.firmware.models import FirmwareModel
from trapline.firmware.trap import MachineTrap
from trapline.firmware.unprivileged import fetch_instruction
from trapline.lang.functions import Trap
from trapline.privilege import csr_numbers as csr
from trapline.privilege.counters import read_time
from trapline.privilege.csr import csr_read, csr_write
from trapline.privilege.modes import MACHINE, SUPERVISOR, USER

OPCODE, SYSTEM = 0x7F, 0x73
CSRRS, CSRRC, CSRRSI, CSRRCI = 2, 3, 6, 7
CYCLE, TIME, HPMCOUNTER31 = 0xC00, 0xC01, 0xC1F
MCYCLE = 0xB00
HTIMEDELTA = 0x605


def emulate(hart: Any, model: FirmwareModel, trap: MachineTrap) -> MachineTrap | None:
    """Emulate the instruction and step over it (None), or return the trap to redirect.

    A truly illegal instruction is redirected with its bits in xtval, xtval2 and xtinst 0, GVA 0.
    """
    bits = trap.tval
    if bits & 3 != 3:
        if bits == 0:
            try:
                bits = fetch_instruction(hart, trap.epc)
            except Trap as inner:
                return trap.replaced_by(inner)
    illegal = replace(trap, tval=bits, tval2=0, tinst=0, gva=False)
    if bits & OPCODE != SYSTEM:
        return illegal
    value = read_counter(hart, model, trap, bits)
    if value is None:
        return illegal
    hart.x[bits >> 7 & 31] = value
    hart.call(csr_write, csr.MEPC, trap.epc + 4)
    return None


def read_counter(hart: Any, model: FirmwareModel, trap: MachineTrap, bits: int) -> int | None:
    """Return the value of the CSR that a csrrs or csrrc with x0 reads, if firmware provides it."""
    number, funct3, rs1 = bits >> 20 & 0xFFF, bits >> 12 & 7, bits >> 15 & 31
    if funct3 not in (CSRRS, CSRRC, CSRRSI, CSRRCI) or rs1 != 0 or trap.priv == MACHINE:
        return None
    if number == HTIMEDELTA and hart.has_h == 0:
        return None
    if number == HTIMEDELTA:
        return int(hart.call(csr_read, csr.HTIMEDELTA)) if trap.priv == SUPERVISOR and not trap.virt else None
    if not CYCLE <= number <= HPMCOUNTER31 or not allowed_counters(hart, trap) >> (number - CYCLE) & 1:
        return None
    if number == TIME:
        now = int(hart.call(read_time))
        return now + (int(hart.call(csr_read, csr.HTIMEDELTA)) if trap.virt else 0) & (1 << 64) - 1
    return int(hart.call(csr_read, MCYCLE + number - CYCLE))


def allowed_counters(hart: Any, trap: MachineTrap) -> int:
    """Return the counters that mcounteren, hcounteren (V=1) and scounteren (U, VU) open to the code."""
    allowed = int(hart.call(csr_read, csr.MCOUNTEREN))
    if trap.virt:
        allowed &= int(hart.call(csr_read, csr.HCOUNTEREN))
    if trap.priv == USER:
        allowed &= int(hart.call(csr_read, csr.SCOUNTEREN))
    return allowed

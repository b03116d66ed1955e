"""Illegal instructions that firmware emulates: reads of counters that the hart does not implement.

(OpenSBI sbi_illegal_insn.c, sbi_emulate_csr.c.) Everything else is truly illegal and is redirected.
"""

from __future__ import annotations

from trapline.firmware.redirect import EMULATES_TIME_ALWAYS
from trapline.firmware.unprivileged import fetches
from trapline.isa.system import SYSTEM
from trapline.lang.functions import cold
from trapline.lang.state import Hart
from trapline.lang.values import U64
from trapline.privilege.counters import read_time
from trapline.privilege.csr import csr_read, csr_write
from trapline.privilege.csr_numbers import HTIMEDELTA, MCYCLE, MEPC
from trapline.privilege.modes import SUPERVISOR, USER

CYCLE, TIME, HPMCOUNTER31 = 0xC00, 0xC01, 0xC1F


@cold
def emulate_illegal(hart: Hart, epc: U64, priv: U64, virt: U64) -> bool:
    """Emulate the instruction and step over it, or make trap_* the trap to redirect: False.

    A truly illegal instruction is redirected with its bits in xtval, xtval2 and xtinst 0, GVA 0.
    """
    bits = hart.trap_tval
    if bits == 0:
        if not fetches(hart, epc, priv, virt):
            return False
        bits = hart.attempted
    if bits & 0x7F == SYSTEM and reads_counter(hart, bits, priv, virt):
        csr_write(hart, U64(MEPC), epc + 4)
        return True
    hart.trap_tval = bits
    hart.trap_tval2 = 0
    hart.trap_tinst = 0
    hart.trap_gva = 0
    return False


@cold
def reads_counter(hart: Hart, bits: U64, priv: U64, virt: U64) -> bool:
    """Do a csrrs or csrrc with x0 of a CSR that firmware provides; False if it is something else."""
    number = bits >> 20 & 0xFFF
    if bits >> 12 & 2 == 0 or bits >> 15 & 31 != 0:
        return False
    value = U64(0)
    if number == HTIMEDELTA:
        if hart.has_h == 0 or priv != SUPERVISOR or virt != 0:
            return False
        value = hart.htimedelta
    elif number < CYCLE or number > HPMCOUNTER31 or not is_open(hart, number, priv, virt):
        return False
    elif number == TIME:
        value = read_time(hart)
        if virt != 0:
            value = value + hart.htimedelta
    else:
        value = csr_read(hart, number - CYCLE + MCYCLE)
    hart.x[bits >> 7 & 31] = value
    return True


@cold
def is_open(hart: Hart, number: U64, priv: U64, virt: U64) -> bool:
    """Whether the firmware reads this counter for the code: by the counter-enables, but for time up to OpenSBI 1.1."""
    if number == TIME and hart.fw_flags & EMULATES_TIME_ALWAYS != 0:
        return True
    return (allowed_counters(hart, priv, virt) >> (number & 31)) & 1 != 0


@cold
def allowed_counters(hart: Hart, priv: U64, virt: U64) -> U64:
    """The counters that mcounteren, hcounteren (V=1) and scounteren (U, VU) open to the code."""
    allowed = hart.mcounteren
    if virt != 0:
        allowed = allowed & hart.hcounteren
    if priv == USER:
        allowed = allowed & hart.scounteren
    return allowed

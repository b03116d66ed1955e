"""Counters (Privileged spec, hardware performance monitor; Zicntr, Zihpm, Sscofpmf).

Every instruction that retires takes one cycle. The programmable counters are read-only zero: no event can be
selected, so only the filter and overflow bits of mhpmevent exist.
"""

from __future__ import annotations

from typing import Any

from trapline.lang.functions import IllegalInstruction, VirtualInstruction, cold, inline
from trapline.lang.values import U64
from trapline.privilege.interrupts import time_now
from trapline.privilege.modes import MACHINE, USER

# Slots of mhpmcounter: an offset to the retired instructions while the counter counts, its value while it is inhibited.
CYCLE_SLOT, INSTRET_SLOT = 0, 2


@cold
def guard_counter(hart: Any, csr: U64) -> None:
    """mcounteren, then hcounteren when V=1, then scounteren in U and VU."""
    number = csr & 31
    if hart.priv == MACHINE:
        return
    if (hart.mcounteren >> number) & 1 == 0:
        raise IllegalInstruction()
    user_blocked = hart.priv == USER and hart.has_s != 0 and (hart.scounteren >> number) & 1 == 0
    if hart.virt != 0:
        if (hart.hcounteren >> number) & 1 == 0 or user_blocked:
            raise VirtualInstruction()
    elif user_blocked:
        raise IllegalInstruction()


@inline
def retired(hart: Any) -> U64:
    """Instructions retired since reset; the one that runs is not among them."""
    return hart.instret - hart.not_retired


@cold
def read_counter(hart: Any, slot: U64) -> U64:
    """mcycle (slot 0) or minstret (slot 2), before the reading instruction itself is counted."""
    if (hart.mcountinhibit >> slot) & 1 != 0:
        return hart.mhpmcounter[slot]
    return retired(hart) + hart.mhpmcounter[slot]


@cold
def write_counter(hart: Any, slot: U64, value: U64) -> None:
    """The next instruction reads `value`: the write takes the place of this instruction's increment."""
    if (hart.mcountinhibit >> slot) & 1 != 0:
        hart.mhpmcounter[slot] = value
    else:
        hart.mhpmcounter[slot] = value - (retired(hart) + 1)


@cold
def write_mcountinhibit(hart: Any, value: U64) -> None:
    """Stop or start mcycle and minstret; the others have nothing to stop."""
    new = value & hart.mcountinhibit_mask
    changed = new ^ hart.mcountinhibit
    for i in range(0, 3, 2):
        if (changed >> i) & 1 != 0:
            if (new >> i) & 1 != 0:
                hart.mhpmcounter[i] = hart.mhpmcounter[i] + retired(hart)
            else:
                hart.mhpmcounter[i] = hart.mhpmcounter[i] - retired(hart)
    hart.mcountinhibit = new


@cold
def read_cycle(hart: Any) -> U64:
    """cycle and mcycle."""
    return read_counter(hart, U64(CYCLE_SLOT))


@cold
def read_instret(hart: Any) -> U64:
    """instret and minstret."""
    return read_counter(hart, U64(INSTRET_SLOT))


@cold
def write_mcycle(hart: Any, value: U64) -> None:
    """mcycle."""
    write_counter(hart, U64(CYCLE_SLOT), value)


@cold
def write_minstret(hart: Any, value: U64) -> None:
    """minstret."""
    write_counter(hart, U64(INSTRET_SLOT), value)


@cold
def read_time(hart: Any) -> U64:
    """time: at V=1 plus htimedelta."""
    now = time_now(hart)
    if hart.virt != 0:
        return now + hart.htimedelta
    return now


@cold
def read_scountovf(hart: Any) -> U64:
    """The OF bits of mhpmevent, as far as mcounteren and, when V=1, hcounteren let this mode see them."""
    bits = U64(0)
    for i in range(3, 32):
        bits = bits | ((hart.mhpmevent[i] >> 63) << i)
    if hart.priv != MACHINE:
        bits = bits & hart.mcounteren
    if hart.virt != 0:
        bits = bits & hart.hcounteren
    return bits

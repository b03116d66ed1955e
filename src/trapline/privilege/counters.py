"""Counters (Privileged spec, hardware performance monitor; Zicntr, Zihpm, Sscofpmf).

Every instruction that retires takes one cycle. What the programmable counters count stands in privilege.hpm.
"""

from __future__ import annotations

from trapline.lang.control import EXIT_TIMER, flush_translations, leave
from trapline.lang.functions import IllegalInstruction, VirtualInstruction, cold
from trapline.lang.state import Hart
from trapline.lang.values import U64
from trapline.privilege.derived import update_derived
from trapline.privilege.hpm import HPM_END, HPM_FIRST, find_selected, read_hpm, retired, set_hpm
from trapline.privilege.interrupts import time_now
from trapline.privilege.modes import MACHINE, USER
from trapline.privilege.tlb_misses import forget_all

# Slots of mhpmcounter: an offset to the retired instructions while the counter counts, its value while it is inhibited.
CYCLE_SLOT, INSTRET_SLOT = 0, 2


@cold
def guard_counter(hart: Hart, csr: U64) -> None:
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


@cold
def read_counter(hart: Hart, slot: U64) -> U64:
    """mcycle (slot 0) or minstret (slot 2), before the reading instruction itself is counted."""
    if (hart.mcountinhibit >> slot) & 1 != 0:
        return hart.mhpmcounter[slot]
    return retired(hart) + hart.mhpmcounter[slot]


@cold
def write_counter(hart: Hart, slot: U64, value: U64) -> None:
    """The next instruction reads `value`: the write takes the place of this instruction's increment."""
    if (hart.mcountinhibit >> slot) & 1 != 0:
        hart.mhpmcounter[slot] = value
    else:
        hart.mhpmcounter[slot] = value - (retired(hart) + 1)


@cold
def counters_changed(hart: Hart) -> None:
    """After a change of what a programmable counter counts, of its value or its overflow bit."""
    counted = hart.hpm_tlb
    find_selected(hart)
    if hart.hpm_tlb != 0 and counted == 0:
        forget_all(hart)
        flush_translations(hart)
    due = hart.hpm_due
    hart.hpm_due = 0
    update_derived(hart)
    if hart.hpm_due < due:
        leave(hart, EXIT_TIMER)


@cold
def write_mcountinhibit(hart: Hart, value: U64) -> None:
    """Stop and start counters."""
    changed = (value & hart.mcountinhibit_mask) ^ hart.mcountinhibit
    for i in range(0, 3, 2):
        if (changed >> i) & 1 != 0:
            if (hart.mcountinhibit >> i) & 1 == 0:
                hart.mhpmcounter[i] = hart.mhpmcounter[i] + retired(hart)
            else:
                hart.mhpmcounter[i] = hart.mhpmcounter[i] - retired(hart)
    hart.mcountinhibit = hart.mcountinhibit ^ (changed & 7)
    if changed >> HPM_FIRST != 0:
        for i in range(HPM_FIRST, HPM_END):
            if (changed >> i) & 1 != 0:
                now = read_hpm(hart, U64(i))
                hart.mcountinhibit = hart.mcountinhibit ^ (U64(1) << i)
                set_hpm(hart, U64(i), now, U64(0))
        counters_changed(hart)


@cold
def write_mhpmevent(hart: Hart, number: U64, value: U64) -> None:
    """mhpmevent: the counter goes on from its value."""
    now = read_hpm(hart, number)
    hart.mhpmevent[number] = value & hart.mhpmevent_mask
    set_hpm(hart, number, now, U64(0))
    counters_changed(hart)


@cold
def write_mhpmcounter(hart: Hart, number: U64, value: U64) -> None:
    """mhpmcounter: read-only zero without Zihpm."""
    if hart.has_zihpm != 0:
        set_hpm(hart, number, value, U64(1))
        counters_changed(hart)


@cold
def read_cycle(hart: Hart) -> U64:
    """cycle and mcycle."""
    return read_counter(hart, U64(CYCLE_SLOT))


@cold
def read_instret(hart: Hart) -> U64:
    """instret and minstret."""
    return read_counter(hart, U64(INSTRET_SLOT))


@cold
def write_mcycle(hart: Hart, value: U64) -> None:
    write_counter(hart, U64(CYCLE_SLOT), value)


@cold
def write_minstret(hart: Hart, value: U64) -> None:
    write_counter(hart, U64(INSTRET_SLOT), value)


@cold
def read_time(hart: Hart) -> U64:
    """time: at V=1 plus htimedelta."""
    now = time_now(hart)
    if hart.virt != 0:
        return now + hart.htimedelta
    return now


@cold
def read_scountovf(hart: Hart) -> U64:
    """The OF bits of mhpmevent, as far as mcounteren and, when V=1, hcounteren let this mode see them."""
    bits = U64(0)
    for i in range(3, 32):
        bits = bits | ((hart.mhpmevent[i] >> 63) << i)
    if hart.priv != MACHINE:
        bits = bits & hart.mcounteren
    if hart.virt != 0:
        bits = bits & hart.hcounteren
    return bits

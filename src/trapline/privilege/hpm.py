"""The programmable counters: what each counts, its value, and its overflow (Privileged spec, hardware performance
monitor; Sscofpmf; the events have the numbers of the SBI specification's PMU extension, as on QEMU's virt).

Instructions are counted by nobody: a counter holds an offset to what the modes that it looks at have retired, which
changes of mode account anyway. Traps and misses of the TLB are counted where they happen, and only while a counter
has selected them.
"""

from __future__ import annotations

from trapline.lang.control import ATTENTION_LEAVE, EXIT_TIMER, leave
from trapline.lang.functions import cold, inline
from trapline.lang.state import Hart
from trapline.lang.values import U64
from trapline.privilege.fields import (
    ALL_ONES,
    HPMEVENT_FILTERS,
    HPMEVENT_OF,
    LCOFIP,
)
from trapline.privilege.modes import mode_index

HPM_FIRST, HPM_END = 3, 32

EVENT_MASK = 0xF_FFFF  # event_idx of the SBI specification: its type in bits 19:16
EVENT_CYCLES, EVENT_INSTRUCTIONS = 0x1, 0x2
EVENT_DTLB_LOAD_MISS, EVENT_DTLB_STORE_MISS, EVENT_ITLB_MISS = 0x1_0019, 0x1_001B, 0x1_0021
# Raw: bit 0 for exceptions, bit 1 for interrupts.
EVENT_TRAPS, EVENT_TRAP_KINDS = 0x2_0000, 3

# By mode index: the bit of mhpmevent that keeps the mode's events from being counted (there is no mode 2).
_INHIBIT = (60, 61, 61, 62, 58, 59)

# Closer to its overflow than this, a counter with filters is looked at when the mode changes.
NEAR = 0x1_0000


@inline
def retired(hart: Hart) -> U64:
    """Instructions retired since reset; the one that runs is not among them."""
    return hart.instret - hart.not_retired


@inline
def hpm_event(hart: Hart, number: U64) -> U64:
    """The event that a counter has selected."""
    return hart.mhpmevent[number] & EVENT_MASK


@inline
def counts_retired(hart: Hart, number: U64) -> bool:
    """Whether the counter counts instructions; each takes one cycle."""
    event = hpm_event(hart, number)
    return event == EVENT_CYCLES or event == EVENT_INSTRUCTIONS


@inline
def runs(hart: Hart, number: U64) -> bool:
    """Whether mcountinhibit lets the counter count."""
    return (hart.mcountinhibit >> number) & 1 == 0


@inline
def counts_mode(hart: Hart, number: U64, mode: U64) -> bool:
    """Whether the filters of a counter let events of a mode pass."""
    return (hart.mhpmevent[number] >> _INHIBIT[mode]) & 1 == 0


@cold
def retired_for(hart: Hart, number: U64) -> U64:
    """Instructions retired in the modes that a counter looks at."""
    total = U64(0)
    for mode in range(6):
        if counts_mode(hart, number, U64(0) + mode):
            total = total + hart.mode_instret[mode]
    now = mode_index(hart)
    # Negative for a moment after a change of mode, which accounts its own instruction ahead.
    since = retired(hart) - hart.mode_since
    if since >> 63 == 0 and counts_mode(hart, number, now):
        total = total + since
    return total


@cold
def read_hpm(hart: Hart, number: U64) -> U64:
    """mhpmcounter: an offset while the counter counts instructions, else its value."""
    if counts_retired(hart, number) and runs(hart, number):
        return hart.mhpmcounter[number] + retired_for(hart, number)
    return hart.mhpmcounter[number]


@cold
def set_hpm(hart: Hart, number: U64, value: U64, own: U64) -> None:
    """Let a counter go on from `value`; `own` is 1 where the write takes the place of its instruction's increment."""
    hart.hpm_start[number] = value
    if counts_retired(hart, number) and runs(hart, number):
        if own != 0 and counts_mode(hart, number, mode_index(hart)):
            value = value - 1
        hart.mhpmcounter[number] = value - retired_for(hart, number)
    else:
        hart.mhpmcounter[number] = value


@inline
def overflowed(hart: Hart, number: U64) -> None:
    """OF is set; the interrupt is raised where it was clear."""
    if hart.has_sscofpmf != 0 and hart.mhpmevent[number] & HPMEVENT_OF == 0:
        hart.mhpmevent[number] = hart.mhpmevent[number] | HPMEVENT_OF
        hart.mip = hart.mip | LCOFIP


@inline
def count_one(hart: Hart, number: U64, mode: U64) -> None:
    """One more event of those that a counter has selected happened in `mode`."""
    if runs(hart, number) and counts_mode(hart, number, mode):
        hart.mhpmcounter[number] = hart.mhpmcounter[number] + 1
        if hart.mhpmcounter[number] == 0:
            overflowed(hart, number)


@cold
def count_event(hart: Hart, event: U64) -> None:
    """An event happened in the mode of now."""
    mode = mode_index(hart)
    for i in range(HPM_FIRST, HPM_END):
        if hpm_event(hart, U64(i)) == event:
            count_one(hart, U64(i), mode)


@inline
def selects_traps(event: U64) -> bool:
    """Whether an event is traps of some kind."""
    return event & ~U64(EVENT_TRAP_KINDS) == EVENT_TRAPS and event & EVENT_TRAP_KINDS != 0


@cold
def count_trap_event(hart: Hart, interrupt: U64, mode: U64) -> None:
    """A trap was taken from `mode`: an exception, or (1) an interrupt."""
    for i in range(HPM_FIRST, HPM_END):
        event = hpm_event(hart, U64(i))
        if selects_traps(event) and (event >> interrupt) & 1 != 0:
            count_one(hart, U64(i), mode)


@cold
def settle_counters(hart: Hart) -> None:
    """Notice the overflow of counters of instructions, and find out when to look again.

    hpm_due is the instret at which update_derived is to be called; hpm_near says that changes of mode must, too.
    Nobody counts more than one in an attempt, so neither comes late. A run that was to go on until later ends.
    """
    before = hart.hpm_due
    hart.hpm_due = ALL_ONES
    hart.hpm_near = 0
    if hart.has_sscofpmf == 0:
        return
    for i in range(HPM_FIRST, HPM_END):
        if counts_retired(hart, U64(i)) and runs(hart, U64(i)) and hart.mhpmevent[i] & HPMEVENT_OF == 0:
            value = read_hpm(hart, U64(i))
            passed = value - hart.hpm_start[i]
            whole = -hart.hpm_start[i]
            if passed >> 63 == 0 and whole != 0 and passed >= whole:
                overflowed(hart, U64(i))
            else:
                look_again(hart, U64(i), -value)
    if hart.hpm_due < before and hart.attention & ATTENTION_LEAVE == 0:
        leave(hart, EXIT_TIMER)


@inline
def look_again(hart: Hart, number: U64, left: U64) -> None:
    """Note when a counter may overflow that has so many events left; 0 stands for 2**64."""
    if left != 0:
        wait = left
        if hart.mhpmevent[number] & HPMEVENT_FILTERS != 0:
            if left > NEAR:
                wait = left - NEAR
            else:
                hart.hpm_near = 1
                if not counts_mode(hart, number, mode_index(hart)):
                    wait = U64(ALL_ONES)
        due = hart.instret + wait
        if due >= hart.instret and due < hart.hpm_due:
            hart.hpm_due = due


@cold
def find_selected(hart: Hart) -> None:
    """Which events are counted where they happen: hpm_traps, hpm_tlb."""
    traps = U64(0)
    misses = U64(0)
    for i in range(HPM_FIRST, HPM_END):
        event = hpm_event(hart, U64(i))
        if runs(hart, U64(i)):
            if selects_traps(event):
                traps = U64(1)
            if event == EVENT_DTLB_LOAD_MISS or event == EVENT_DTLB_STORE_MISS or event == EVENT_ITLB_MISS:
                misses = U64(1)
    hart.hpm_traps = traps
    hart.hpm_tlb = misses

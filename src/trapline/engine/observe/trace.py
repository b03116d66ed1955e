"""A ring of the traps and returns of a hart, written where they happen (subset): every level's, delegated ones too.

`hart.trace_base` is the host address of a ring: words, then entries of eight words each.
"""

from __future__ import annotations

from trapline.lang.control import EXIT_STOP, leave
from trapline.lang.functions import cold, hosted
from trapline.lang.memory import host_load, host_store
from trapline.lang.state import Hart
from trapline.lang.values import U64
from trapline.privilege.mode_change import origin_of_trap
from trapline.privilege.modes import TO_HS, TO_M, mode_index

# Entries written, those that were read, number of entries less 1 (a power of two less 1), and how many unread ones make
# the hart come back (0: it never does).
COUNT, READ, MASK, ENOUGH, ENTRIES = 0, 8, 16, 24, 32
# Of an entry: what it is, attempts since the beginning. A trap: xcause, xepc, xtval, xtval2. A return: 0, pc, 0, a1.
# Then a0, and a6 and a7 (their low words, a7 the lower one): of a trap what is asked for, of a return the answer.
WHAT, INSTRET, CAUSE, EPC, TVAL, TVAL2, A0, A6_A7, ENTRY_BYTES = 0, 8, 16, 24, 32, 40, 48, 56, 64
TRAP, RETURN = 0, 1  # of WHAT: bit 16; the level (M 0, HS 1, VS 2) from bit 8; the other mode's index from bit 0


@cold
def take_entry(hart: Hart, what: U64) -> U64:
    """Host address of the next entry, which is begun; the hart comes back soon if many are unread."""
    ring = hart.trace_base
    count = host_load(ring + COUNT, 8)
    entry = ring + ENTRIES + (count & host_load(ring + MASK, 8)) * ENTRY_BYTES
    host_store(ring + COUNT, 8, count + 1)
    host_store(entry + WHAT, 8, what)
    host_store(entry + INSTRET, 8, hart.instret)
    host_store(entry + A0, 8, hart.x[10])
    host_store(entry + A6_A7, 8, hart.x[16] << 32 | hart.x[17] & 0xFFFF_FFFF)
    return entry


@hosted
def is_much_unread(hart: Hart) -> bool:
    """Whether a traced hart has to come back before the ring overflows; `trace_base` is not 0."""
    ring = hart.trace_base
    enough = host_load(ring + ENOUGH, 8)
    return enough != 0 and host_load(ring + COUNT, 8) - host_load(ring + READ, 8) >= enough


@cold
def ask_for_reader(hart: Hart) -> None:
    """Come back to be read if there is much; not from where hosted software is to go on, which looks by itself."""
    if is_much_unread(hart):
        leave(hart, EXIT_STOP)


@cold
def trace_trap(hart: Hart, to: U64, cause: U64, epc: U64, hosted: U64) -> None:
    """A trap was taken to a level."""
    entry = take_entry(hart, to << 8 | origin_of_trap(hart))
    host_store(entry + CAUSE, 8, cause)
    host_store(entry + EPC, 8, epc)
    if to == TO_M:
        host_store(entry + TVAL, 8, hart.mtval)
        host_store(entry + TVAL2, 8, hart.mtval2)
    elif to == TO_HS:
        host_store(entry + TVAL, 8, hart.stval)
        host_store(entry + TVAL2, 8, hart.htval)
    else:
        host_store(entry + TVAL, 8, hart.vstval)
        host_store(entry + TVAL2, 8, U64(0))
    if hosted == 0:
        ask_for_reader(hart)


@cold
def trace_return(hart: Hart, level: U64) -> None:
    """A level has returned to the mode of now."""
    entry = take_entry(hart, U64(RETURN << 16) | level << 8 | mode_index(hart))
    host_store(entry + CAUSE, 8, U64(0))
    host_store(entry + EPC, 8, hart.next_pc)
    host_store(entry + TVAL, 8, U64(0))
    host_store(entry + TVAL2, 8, hart.x[11])
    ask_for_reader(hart)

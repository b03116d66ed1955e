"""Round trips of traps, measured where they happen: from trap entry until the hart is back where the trap came from.

Nothing of this is architecture. `hart.observe_base` is 0, and traps and returns pay one test of it; or it is the host
address of the tables below, which session.observe.observer allocates, names and reads.

A trap is *open* from its entry to the return to the mode that it came from; in between, software may hand it
on to the handler of another level (a redirect) or let user space serve it (a VMM). Each mode has a few places for
open traps: a kernel traps while it handles a trap, and its threads take turns. A return closes the trap of its
mode that the returning level holds and whose pc fits, else the last one. Guests are kept apart by hgatp: a trap of a
guest's guest that is handed to the VS-mode of its hypervisor is open until that guest itself goes on. Time is
instructions retired on the hart in between by all levels; for a trap from V=0 without those of a guest that ran
meanwhile (the ioctl that runs it).
"""

from __future__ import annotations

from trapline.lang.control import EXIT_OBSERVE, leave
from trapline.lang.functions import cold, inline
from trapline.lang.memory import host_load, host_store
from trapline.lang.state import Hart
from trapline.lang.values import U64, clz
from trapline.privilege.causes import trap_index
from trapline.privilege.mode_change import origin_of_trap
from trapline.privilege.modes import MACHINE, MODE_VS, MODE_VU, SUPERVISOR, TO_HS, TO_M, TO_VS, USER, mode_index

# Where things lie, in bytes from observe_base.
LOST = 0  # traps that found no place, or no row
ROWS_USED = 8
PLACES_LOST = 16
SAMPLED = 24  # the slot of the trap for which the hart was left
OPEN = 4096  # 8 modes, OPEN_SLOTS slots each, of SLOT_BYTES
OPEN_SLOTS = 8
SLOT_BYTES = 64
SLOT_KIND, SLOT_EPC, SLOT_START, SLOT_GUEST, SLOT_PATH, SLOT_HOLDER, SLOT_SPACE = 0, 8, 16, 24, 32, 40, 48
# A slot's holder beside TO_M, TO_HS and TO_VS: VS-mode under another hgatp, a hypervisor that is a guest itself.
OUTER_VS = 3
KINDS = OPEN + 8 * OPEN_SLOTS * SLOT_BYTES  # 2048 kinds (causes.trap_index), of 32 bytes
KIND_COUNT, KIND_HANDLER, KIND_SAMPLE = 0, 8, 16  # times taken, where its handler began, leave at this count
KIND_COUNT_MAX = 2048
ROW_OF = KINDS + KIND_COUNT_MAX * 32  # a row's number for each kind and way
WAYS = 32
ROWS = ROW_OF + KIND_COUNT_MAX * WAYS * 8
ROW_LIMIT = 1024
ROW_BYTES = 2048
ROW_KEY, ROW_COUNT, ROW_SUM, ROW_MIN, ROW_MAX, ROW_BUCKETS = 0, 8, 16, 24, 32, 40
BUCKETS = (ROW_BYTES - ROW_BUCKETS) // 8
PLACES = ROWS + ROW_LIMIT * ROW_BYTES  # where traps are raised: a hash table
PLACE_SLOTS = 16384
PLACE_KIND, PLACE_PC, PLACE_COUNT = 0, 8, 16
PLACE_BYTES = 32
PROBES = 8
TOTAL_BYTES = PLACES + PLACE_SLOTS * PLACE_BYTES

# A way: what happened between entry and return, and where the return went.
BY_HS, BY_VS, BY_USER = 1, 2, 4  # handed on to HS, to VS; user space ran
SAME, NEXT, ELSEWHERE = 0, 1, 2  # to the instruction itself, to the one behind it, anywhere else
END_SHIFT = 3

_GOLDEN = 0x9E37_79B9_7F4A_7C15


@inline
def slot_address(hart: Hart, mode: U64, number: U64) -> U64:
    """An open trap of a mode."""
    return hart.observe_base + OPEN + (mode * OPEN_SLOTS + number) * SLOT_BYTES


@inline
def guest_instructions(hart: Hart) -> U64:
    """Instructions of V=1 so far; exact after a change of mode."""
    return hart.mode_instret[MODE_VU] + hart.mode_instret[MODE_VS]


@cold
def observe_place(hart: Hart, kind: U64, pc: U64) -> None:
    """One more trap of this kind was raised at this pc."""
    at = ((pc ^ (kind << 48)) * _GOLDEN) >> 50
    for i in range(PROBES):
        place = hart.observe_base + PLACES + ((at + i) & (PLACE_SLOTS - 1)) * PLACE_BYTES
        known = host_load(place, 8)
        if known == 0:
            host_store(place, 8, kind + 1)
            host_store(place + PLACE_PC, 8, pc)
            known = kind + 1
        if known == kind + 1 and host_load(place + PLACE_PC, 8) == pc:
            host_store(place + PLACE_COUNT, 8, host_load(place + PLACE_COUNT, 8) + 1)
            return
    host_store(hart.observe_base + PLACES_LOST, 8, host_load(hart.observe_base + PLACES_LOST, 8) + 1)


@cold
def free_slot(hart: Hart, mode: U64) -> U64:
    """A place for an open trap of a mode: a free one, else that of the oldest, which is lost.

    User modes have one: a trap from there means that the last one is over, wherever it went.
    """
    oldest = slot_address(hart, mode, U64(0))
    if mode & 3 != USER:
        for i in range(OPEN_SLOTS):
            slot = slot_address(hart, mode, U64(0) + i)
            if host_load(slot, 8) == 0:
                return slot
            if host_load(slot + SLOT_START, 8) < host_load(oldest + SLOT_START, 8):
                oldest = slot
    if host_load(oldest, 8) != 0:
        host_store(hart.observe_base + LOST, 8, host_load(hart.observe_base + LOST, 8) + 1)
    return oldest


@cold
def observe_trap(hart: Hart, cause: U64, epc: U64) -> None:
    """A trap has been taken: everything but the derived state is as its handler will find it."""
    origin = origin_of_trap(hart)
    destination = U64(TO_HS)
    if hart.priv == MACHINE:
        destination = U64(TO_M)
    elif hart.virt != 0:
        destination = U64(TO_VS)
    kind = U64(trap_index(cause, origin, destination))
    known = hart.observe_base + KINDS + kind * 32
    host_store(known, 8, host_load(known, 8) + 1)
    host_store(known + KIND_HANDLER, 8, hart.next_pc)
    observe_place(hart, kind, epc)
    slot = free_slot(hart, origin)
    host_store(slot, 8, kind + 1)
    host_store(slot + SLOT_EPC, 8, epc)
    host_store(slot + SLOT_START, 8, hart.mode_since)
    host_store(slot + SLOT_GUEST, 8, guest_instructions(hart))
    host_store(slot + SLOT_PATH, 8, U64(0))
    host_store(slot + SLOT_HOLDER, 8, destination)
    host_store(slot + SLOT_SPACE, 8, hart.hgatp if origin >= MODE_VU else U64(0))
    if host_load(known + KIND_SAMPLE, 8) == host_load(known, 8) and hart.hosted_m | hart.hosted_hs == 0:
        host_store(hart.observe_base + SAMPLED, 8, slot)
        leave(hart, EXIT_OBSERVE)


@inline
def fits(pc: U64, epc: U64) -> bool:
    """Whether a return goes to the instruction that trapped, or to the next."""
    return pc == epc or pc == epc + 4 or pc == epc + 2


@inline
def of_this_guest(hart: Hart, slot: U64) -> bool:
    """Whether an open trap is of the guest that goes on, or of no guest, or none goes on."""
    space = host_load(slot + SLOT_SPACE, 8)
    return space == 0 or hart.virt == 0 or space == hart.hgatp


@cold
def held_slot(hart: Hart, mode: U64, level: U64) -> U64:
    """The open trap of `mode` that this return from `level` ends: one that fits, else the last; 0 for none."""
    found = U64(0)
    good = U64(0)
    for i in range(OPEN_SLOTS):
        slot = slot_address(hart, mode, U64(0) + i)
        if host_load(slot, 8) != 0 and host_load(slot + SLOT_HOLDER, 8) == level and of_this_guest(hart, slot):
            score = U64(1) if fits(hart.next_pc, host_load(slot + SLOT_EPC, 8)) else U64(0)
            later = found == 0 or host_load(slot + SLOT_START, 8) > host_load(found + SLOT_START, 8)
            if score > good or (score == good and later):
                found = slot
                good = score
    return found


@cold
def last_held(hart: Hart, level: U64) -> U64:
    """The trap that `level` took last of all that it holds; 0 for none."""
    found = U64(0)
    for i in range(8 * OPEN_SLOTS):
        slot = slot_address(hart, U64(0), U64(0) + i)
        if host_load(slot, 8) != 0 and host_load(slot + SLOT_HOLDER, 8) == level:
            if found == 0 or host_load(slot + SLOT_START, 8) >= host_load(found + SLOT_START, 8):
                found = slot
    return found


@inline
def handed_on(slot: U64, bits: U64) -> None:
    """Note what happens to an open trap."""
    host_store(slot + SLOT_PATH, 8, host_load(slot + SLOT_PATH, 8) | bits)


@cold
def kept_outside(hart: Hart) -> U64:
    """The last trap of the guest that goes on which its own hypervisor, a guest, has; 0 for none."""
    found = U64(0)
    for i in range(8 * OPEN_SLOTS):
        slot = slot_address(hart, U64(0), U64(0) + i)
        if host_load(slot, 8) != 0 and host_load(slot + SLOT_HOLDER, 8) == OUTER_VS:
            if host_load(slot + SLOT_SPACE, 8) == hart.hgatp:
                if found == 0 or host_load(slot + SLOT_START, 8) >= host_load(found + SLOT_START, 8):
                    found = slot
    return found


@cold
def bucket_of(value: U64) -> U64:
    """Eight buckets for each power of two, one for each value below eight."""
    if value < 8:
        return value
    top = 63 - clz(value)
    bucket = ((top - 2) << 3) + ((value >> ((top - 3) & 63)) & 7)
    return bucket if bucket < BUCKETS else U64(BUCKETS - 1)


@cold
def row_for(hart: Hart, kind: U64, way: U64) -> U64:
    """The row of a kind and a way; 0 if there is none left."""
    number_at = hart.observe_base + ROW_OF + (kind * WAYS + way) * 8
    number = host_load(number_at, 8)
    if number == 0:
        used = host_load(hart.observe_base + ROWS_USED, 8)
        if used >= ROW_LIMIT:
            return U64(0)
        number = used + 1
        host_store(hart.observe_base + ROWS_USED, 8, number)
        host_store(number_at, 8, number)
        row = hart.observe_base + ROWS + (number - 1) * ROW_BYTES
        host_store(row, 8, kind * WAYS + way)
        host_store(row + ROW_MIN, 8, U64(0xFFFF_FFFF_FFFF_FFFF))
    return hart.observe_base + ROWS + (number - 1) * ROW_BYTES


@cold
def close_slot(hart: Hart, slot: U64, mode: U64) -> None:
    """The hart is back in `mode`: account for the round trip."""
    pc = hart.next_pc
    epc = host_load(slot + SLOT_EPC, 8)
    end = U64(ELSEWHERE)
    if pc == epc:
        end = U64(SAME)
    elif fits(pc, epc):
        end = U64(NEXT)
    way = host_load(slot + SLOT_PATH, 8) | (end << END_SHIFT)
    row = row_for(hart, host_load(slot, 8) - 1, way)
    host_store(slot, 8, U64(0))
    if row == 0:
        host_store(hart.observe_base + LOST, 8, host_load(hart.observe_base + LOST, 8) + 1)
        return
    spent = hart.mode_since - host_load(slot + SLOT_START, 8)
    if mode < 4:
        spent = spent - (guest_instructions(hart) - host_load(slot + SLOT_GUEST, 8))
    host_store(row + ROW_COUNT, 8, host_load(row + ROW_COUNT, 8) + 1)
    host_store(row + ROW_SUM, 8, host_load(row + ROW_SUM, 8) + spent)
    if spent < host_load(row + ROW_MIN, 8):
        host_store(row + ROW_MIN, 8, spent)
    if spent > host_load(row + ROW_MAX, 8):
        host_store(row + ROW_MAX, 8, spent)
    bucket = row + ROW_BUCKETS + bucket_of(spent) * 8
    host_store(bucket, 8, host_load(bucket, 8) + 1)


@cold
def change_guest(hart: Hart, at_handler: bool) -> bool:
    """HS-mode goes on with another guest than the one whose trap it took last: True if that trap is handed to it."""
    other = last_held(hart, U64(TO_HS))
    foreign = other != 0 and not of_this_guest(hart, other)
    inner = kept_outside(hart)
    if inner != 0:
        if foreign:  # the hypervisor's own trap was its return into its guest
            close_slot(hart, other, U64(MODE_VS))
        host_store(inner + SLOT_HOLDER, 8, U64(TO_HS))
        return False
    if foreign and at_handler:
        handed_on(other, U64(BY_VS))
        host_store(other + SLOT_HOLDER, 8, U64(OUTER_VS))
        return True
    return False


@cold
def observe_return(hart: Hart, level: U64) -> None:
    """mret or sret from `level` (0 M, 1 HS, 2 VS): priv, virt and next_pc are those of the place returned to."""
    mode = mode_index(hart)
    at_handler = mode == MODE_VS and hart.next_pc == hart.vstvec & ~3
    if level == TO_HS and hart.virt != 0 and change_guest(hart, at_handler):
        return
    back = held_slot(hart, mode, level)
    exact = back != 0 and fits(hart.next_pc, host_load(back + SLOT_EPC, 8))
    to_hs = level == TO_M and mode == SUPERVISOR and hart.next_pc == hart.stvec & ~3
    to_vs = level != TO_VS and at_handler
    if (to_hs or to_vs) and not exact:
        slot = last_held(hart, level)
        if slot != 0:
            handed_on(slot, U64(BY_HS) if to_hs else U64(BY_VS))
            host_store(slot + SLOT_HOLDER, 8, U64(TO_HS) if to_hs else U64(TO_VS))
        return
    if back != 0:
        close_slot(hart, back, mode)
    if level == TO_HS and mode == USER:
        for i in range(OPEN_SLOTS * 2):
            slot = slot_address(hart, U64(MODE_VU), U64(0) + i)
            if host_load(slot, 8) != 0 and host_load(slot + SLOT_HOLDER, 8) == TO_HS:
                handed_on(slot, U64(BY_USER))

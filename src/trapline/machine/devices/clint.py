"""Core-local interruptor: software interrupts, mtimecmp, mtime (SiFive CLINT; ACLINT spec, MSWI and MTIMER).

Time is not a counter of its own: mtime is what the reading hart's time CSR shows, so that it
follows the instruction count. Reading a clock through the bus takes time too: after CLOCK_READS of them a hart's time
passes as for so many times CLOCK_COST instructions. So a program that waits by reading mtime does not have to execute
all the instructions of the time that it waits for.
"""

from __future__ import annotations

from collections.abc import Sequence

from trapline.lang.control import EXIT_TIMER, leave
from trapline.lang.devices import DeviceState, Registers, on_hart
from trapline.lang.functions import cold, hosted, inline
from trapline.lang.state import Hart
from trapline.lang.state.words import LAYOUT
from trapline.lang.values import MASK64, U64, udiv
from trapline.machine.lines import set_line, set_line_of
from trapline.privilege.derived import update_derived
from trapline.privilege.fields import MSIP, MTIP
from trapline.privilege.interrupts import deadline, time_now, update_timers
from trapline.privilege.passing import pass_time

MTIMECMP = 0x4000
MTIME = 0xBFF8
CLOCK_READS, CLOCK_COST = 256, 100  # 100 ns a read, where a second is 10^9 instructions
_NEVER = MASK64
_INSTRET, _RATIO, _OFFSET, _MIP = (
    LAYOUT.fields[name].index for name in ("instret", "time_ratio", "time_offset", "mip")
)


def time_of(hart: Hart) -> int:
    """Return the hart's time CSR, in ticks."""
    # Asked many times a turn: the words themselves are several times faster than the fields.
    words = hart.mem
    return words[_INSTRET] // words[_RATIO] + words[_OFFSET] & MASK64


def advance(hart: Hart, tick: int) -> None:
    """The same, for what is not compiled."""
    hart.call(pass_time, tick)


@inline
def part(word: U64, offset: U64, size: U64) -> U64:
    """The bytes of a 64-bit register that an access reads."""
    return (word >> (8 * (offset & 7))) & (U64(MASK64) >> ((64 - 8 * size) & 63))


@inline
def merged(word: U64, offset: U64, size: U64, value: U64) -> U64:
    """A 64-bit register after a write to some of its bytes."""
    shift = 8 * (offset & 7)
    mask = (U64(MASK64) >> ((64 - 8 * size) & 63)) << shift
    return (word & ~mask) | ((value << shift) & mask)


@hosted
def clint_tick(hart: Hart, io: DeviceState, number: U64) -> None:
    """Bring MTIP of a hart, which has this number, up to date with its time."""
    set_line(hart, U64(MTIP), time_now(hart) >= io.mtimecmp[number])


@cold
def move_time(hart: Hart, io: DeviceState, number: U64, change: U64) -> None:
    """Set the clock of a hart, which has this number, forward."""
    hart.time_offset = hart.time_offset + change
    update_timers(hart)
    update_derived(hart)
    clint_tick(hart, io, number)


@inline
def clock_is_calm(hart: Hart, io: DeviceState) -> bool:
    """Whether the next read of a clock moves no time."""
    return io.clint_harts == 0 or io.clock_reads[hart.mhartid] + 1 < CLOCK_READS


@inline
def clock_read(hart: Hart, io: DeviceState) -> None:
    """A hart of a board read a clock. (The exit of a guest has its own cost.)"""
    if io.clint_harts != 0:
        reads = io.clock_reads[hart.mhartid] + 1
        if reads >= CLOCK_READS and reads * CLOCK_COST >= hart.time_ratio:
            clock_moves(hart, io, udiv(reads * CLOCK_COST, hart.time_ratio))
            reads = U64(0)
        io.clock_reads[hart.mhartid] = reads


@cold
def clock_moves(hart: Hart, io: DeviceState, ticks: U64) -> None:
    """The time that reads took passes: the turn ends so much sooner, and its deadlines are looked at again.

    Native code need not go back to the schedule for that.
    """
    move_time(hart, io, hart.mhartid, ticks)
    passed = ticks * hart.time_ratio
    left = hart.ic_end - hart.instret
    hart.ic_end = hart.instret + (left - passed if left > passed else U64(0))
    hart.clock_moved = 1
    leave(hart, EXIT_TIMER)


@inline
def in_mtime(offset: U64) -> bool:
    """Whether a register is mtime."""
    return offset >= MTIME and offset < MTIME + 8


@hosted
def clint_calm(hart: Hart, io: DeviceState, offset: U64, size: U64) -> bool:
    """Whether a read moves no time."""
    return not in_mtime(offset) or clock_is_calm(hart, io)


@hosted
def clint_load(hart: Hart, io: DeviceState, offset: U64, size: U64) -> U64:
    """Read msip, mtimecmp or mtime; the rest of the window is zero."""
    if in_mtime(offset):
        now = part(time_now(hart), offset, size)
        clock_read(hart, io)
        return now
    if offset < io.clint_harts * 4:
        return io.msip[offset >> 2] if offset & 3 == 0 else U64(0)
    if offset >= MTIMECMP and offset < MTIMECMP + io.clint_harts * 8:
        return part(io.mtimecmp[(offset - MTIMECMP) >> 3], offset, size)
    return U64(0)


@hosted
def clint_store(hart: Hart, io: DeviceState, offset: U64, size: U64, value: U64) -> None:
    """Write msip, mtimecmp or mtime. The schedule looks again if a deadline comes before the hart's turn ends."""
    if offset < io.clint_harts * 4:
        if offset & 3 == 0:
            io.msip[offset >> 2] = value & 1
            set_line_of(hart, io, offset >> 2, U64(MSIP), value & 1 != 0)
    elif offset >= MTIMECMP and offset < MTIMECMP + io.clint_harts * 8:
        number = (offset - MTIMECMP) >> 3
        io.mtimecmp[number] = merged(io.mtimecmp[number], offset, size, value)
        if number == hart.mhartid:
            clint_tick(hart, io, number)
            due = deadline(hart, time_now(hart), io.mtimecmp[number])
            if due != 0 and (due < hart.turn_end or hart.turn_end == 0):
                leave(hart, EXIT_TIMER)
        else:
            on_hart(io.hart_at[number], clint_tick, io, number)
    elif in_mtime(offset):
        now = time_now(hart)
        change = merged(now, offset, size, value) - now
        for i in range(64):
            if i < io.clint_harts and i != hart.mhartid:
                on_hart(io.hart_at[i], move_time, io, i, change)
        move_time(hart, io, hart.mhartid, change)
        leave(hart, EXIT_TIMER)


class Clint(Registers):
    """The device; one for all harts of a board, hart number = index."""

    on_load, on_store, on_calm = clint_load, clint_store, clint_calm

    def __init__(self, harts: Sequence[Hart], io: DeviceState) -> None:
        super().__init__(io)
        self.harts = harts
        io.clint_harts = len(harts)
        for number, hart in enumerate(harts):
            io.hart_at[number] = hart.address
        self.mtimecmp = [_NEVER] * len(harts)

    @property
    def mtimecmp(self) -> list[int]:
        """The comparators by hart."""
        return [int(self.io.mtimecmp[number]) for number in range(len(self.harts))]

    @mtimecmp.setter
    def mtimecmp(self, values: Sequence[int]) -> None:
        for number, value in enumerate(values):
            self.io.mtimecmp[number] = value

    def tick(self, index: int) -> None:
        """Bring MTIP of one hart up to date with its time."""
        hart = self.harts[index]
        due = time_of(hart) >= self.io.mtimecmp[index]
        if due != (hart.mem[_MIP] & MTIP != 0):
            hart.call(clint_tick, self.io, index)

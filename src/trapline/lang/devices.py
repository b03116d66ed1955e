"""The declared state of a machine's devices: one flat block that both engines work on, as on a hart's.

A device's registers are read and written by subset functions `(hart, io, offset, size)` and
`(hart, io, offset, size, value)`, which native code calls where a hart's access leads there. What only the host can do
(send a byte, hand out more input) they ask of it.
"""

from __future__ import annotations

import ctypes
import weakref
from array import array
from collections.abc import Callable
from typing import Any, ClassVar

from trapline.lang.functions import Trap, primitive
from trapline.lang.host_pages import anonymous
from trapline.lang.layout import Kind, Layout
from trapline.lang.state import Hart
from trapline.lang.values import U64
from trapline.lang.words import Words, word

DEVICES = Layout()
HARTS, SOURCES, SOURCE_WORDS, FIFO, LINE = 64, 128, 2, 64, 256


class DeviceFields:
    """Every word of the devices by name, in the order in which they lie."""

    # The harts of the machine, by number: their host addresses.
    hart_at = DEVICES.array(HARTS, kind=Kind.HOST)

    # CLINT.
    clint_harts = DEVICES.word(kind=Kind.MADE)
    msip = DEVICES.array(HARTS, most=1)
    mtimecmp = DEVICES.array(HARTS)
    # of mtime and the RTC by each hart, since its time passed for them
    clock_reads = DEVICES.array(HARTS, most=1 << 32)

    # PLIC: sources 64 a word. Contexts are M and S of each hart; or those that the host drives (plic_wired).
    plic_contexts, plic_sources, plic_wired = DEVICES.words(3, kind=Kind.MADE)
    plic_exists = DEVICES.array(SOURCE_WORDS, kind=Kind.MADE)
    plic_priority = DEVICES.array(SOURCES, most=7)
    plic_pending = DEVICES.array(SOURCE_WORDS)
    plic_claimed = DEVICES.array(SOURCE_WORDS)
    plic_again = DEVICES.array(SOURCE_WORDS)  # asked for again while claimed
    plic_enable = DEVICES.array(2 * HARTS * SOURCE_WORDS)
    plic_threshold = DEVICES.array(2 * HARTS, most=7)

    # UART. uart_more: the host holds input for which the FIFO has no room.
    uart_ier, uart_fcr, uart_lcr, uart_mcr, uart_scr = DEVICES.words(5, most=255)
    uart_divisor = DEVICES.word(most=65535)
    uart_thr_empty, uart_pin, uart_more = DEVICES.words(3, most=1)
    uart_modem, uart_modem_delta = DEVICES.words(2, most=255)
    uart_first = DEVICES.word(most=FIFO - 1)
    uart_count = DEVICES.word(most=FIFO)
    uart_fifo = DEVICES.array(FIFO, most=255)

    # RTC: ticks of the machine's time in a second, and the half of the time that was latched.
    rtc_timebase = DEVICES.word(kind=Kind.MADE)
    rtc_high = DEVICES.word(most=4294967295)

    DEVICES.kind = Kind.HOST
    # Of the UART: what it has transmitted and the host does not have yet, and how much that may be.
    uart_line = DEVICES.array(LINE)
    uart_held, uart_most = DEVICES.words(2)

    # The schedule of harts or vCPUs (session.turns), while it runs; between runs a board's and a VM's schedule hold it.
    turn_asleep = DEVICES.array(HARTS)  # 1: waits for an interrupt
    # Ticks: where the last round ended, where the one under way ends by itself, and where it ends now.
    turn_now, turn_round, turn_until = DEVICES.words(3)
    turn_next = DEVICES.word()  # 1 + the hart whose turn it is, in a round that was cut short
    turn_ticks, turn_slice, turn_rounds = DEVICES.words(3)  # of a round, attempts of a run, rounds until Python looks
    turn_latest, turn_due = DEVICES.words(2)  # ticks at which Python wants to look, and devices want to go on
    turn_skips = DEVICES.word()  # 1: where all sleep, time may pass to the next event without Python
    turn_tired = DEVICES.word()  # 1: devices have done much
    turn_budget, turn_done = DEVICES.words(2)  # attempts
    turn_stop = DEVICES.word()  # 1: end at the next boundary
    turn_goal_of, turn_goal = DEVICES.words(2)  # 1 + a hart, and the instret at which the run ends for it
    turn_state = DEVICES.array(HARTS)  # of a vCPU: whether its turns need Python (kvm.turns)
    turn_alone = DEVICES.word()  # 1 + the only vCPU that can run; 0: there are more, or none
    turn_together = DEVICES.word()  # how many rounds of it may be one turn
    turn_reason = DEVICES.word()  # why a vCPU came back, where only Python knows what to do; 0: it did not
    turn_found = DEVICES.word()  # what was asked of a hart
    DEVICES.kind = Kind.STATE


# What a device asks of the host, and the schedule: a turn of devices is due, a hart left the engine, it is at its goal.
ASK_TRANSMIT, ASK_REFILL, ASK_SOURCE, ASK_CONTEXT, ASK_DEVICES, ASK_LEFT, ASK_ARRIVED = range(7)

Answer = Callable[[int], object]


class DeviceState(DeviceFields):
    """The words of one machine's devices. Fields are those of DEVICES, as a hart's are those of its layout.

    `answers` maps what a device asks of the host (ASK_) to who does it, with the value that goes with it.
    """

    at: ClassVar[weakref.WeakValueDictionary[int, DeviceState]] = weakref.WeakValueDictionary()  # by address

    def __init__(self) -> None:
        self.block = anonymous(-(-DEVICES.words_used * 8 // 4096) * 4096)
        self.mem = memoryview(self.block).cast("Q")
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.block))
        self.answers: dict[int, Answer] = {}
        DeviceState.at[self.address] = self
        for f in DEVICES.fields.values():
            if f.array:
                self.__dict__[f.name] = Words(self.mem, f.index, f.count)

    def __int__(self) -> int:
        return self.address

    def ask(self, what: int, value: int) -> None:
        """Let the host do what a device asks for."""
        self.answers[what](value)

    # --- snapshots ---
    def state(self) -> dict[str, list[int]]:
        """Return what means something outside this process."""
        return {f.name: list(self.mem[f.index : f.index + f.count]) for f in DEVICES.fields.values() if not f.host}

    def set_state(self, state: dict[str, list[int]]) -> None:
        """Take over what was saved; ValueError for what devices made like these cannot hold."""
        for f in DEVICES.fields.values():
            if f.host:
                continue
            words, now = state[f.name], self.mem[f.index : f.index + f.count].tolist()
            if len(words) != f.count or not all(type(word) is int and 0 <= word <= f.most for word in words):
                raise ValueError(f"{f.name} is not what it can be")
            if f.kind is Kind.MADE and words != now:
                raise ValueError(f"{f.name} is not that of this machine")
        for name, words in state.items():
            f = DEVICES.fields[name]
            self.mem[f.index : f.index + f.count] = memoryview(array("Q", words))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"devices have no field {name!r}")


class Registers:
    """A device whose registers are words of `io`: `on_load` and `on_store` are subset functions on both engines.

    `on_calm` says whether a read drives no line and asks for nothing, so that regions go on behind it (None: always).
    """

    on_load: ClassVar[Callable[..., U64]]
    on_store: ClassVar[Callable[..., None]]
    on_calm: ClassVar[Callable[..., bool] | None] = None

    def __init__(self, io: DeviceState) -> None:
        self.io = io

    def load(self, hart: Hart, offset: int, size: int) -> int:
        """Read a register for hosted software, or for a hart of the reference engine."""
        return int(hart.call(type(self).on_load, self.io, offset, size))

    def store(self, hart: Hart, offset: int, size: int, value: int) -> None:
        """Write a register."""
        hart.call(type(self).on_store, self.io, offset, size, value)


for _field in DEVICES.fields.values():
    if not _field.array:
        setattr(DeviceState, _field.name, word(_field.index))


@primitive
def ask_host(hart: Hart, io: DeviceState, what: int, value: U64) -> None:
    """Let the host do something for a device: one of the ASK_ numbers."""
    io.ask(int(what), int(value))


@primitive
def call_registers(hart: Hart, function: U64, io: U64, offset: U64, size: U64, value: U64) -> U64:
    """Call a compiled function of a device at a host address; on_store alone takes a value, and gives none."""
    raise LookupError("the reference engine asks the device itself")


@primitive
def on_hart(address: U64, function: Callable[..., None], *args: Any) -> None:
    """Call a subset function, which gives no value and cannot trap, on the hart at a host address.

    Not on the caller's own hart: native code takes the two for different memory.
    """
    function(Hart.at[int(address)], *args)


@primitive
def traps_on_hart(address: U64, function: Callable[..., None], *args: Any) -> bool:
    """Call a subset function that gives no value on another hart, and say whether it trapped (its trap_* say how)."""
    hart = Hart.at[int(address)]
    try:
        function(hart, *args)
    except Trap as trap:
        trap.note(hart)
        return True
    return False

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
from typing import TYPE_CHECKING, Any, ClassVar

from trapline.lang.functions import Trap, primitive
from trapline.lang.host_pages import anonymous
from trapline.lang.layout import Kind, Layout
from trapline.lang.state import Hart
from trapline.lang.values import U64
from trapline.lang.words import Words, word

DEVICES = Layout()
HARTS, SOURCES, SOURCE_WORDS, FIFO = 64, 128, 2, 64

# The harts of the machine, by number: their host addresses.
DEVICES.array("hart_at", HARTS, kind=Kind.HOST)

# CLINT.
DEVICES.word("clint_harts", kind=Kind.MADE)
DEVICES.array("msip", HARTS, most=1)
DEVICES.array("mtimecmp", HARTS)
DEVICES.array("clock_reads", HARTS, most=1 << 32)  # of mtime and the RTC by each hart, since its time passed for them

# PLIC: sources 64 a word. Contexts are M and S of each hart; or those that the host drives (plic_wired).
DEVICES.word("plic_contexts", "plic_sources", "plic_wired", kind=Kind.MADE)
DEVICES.array("plic_exists", SOURCE_WORDS, kind=Kind.MADE)
DEVICES.array("plic_priority", SOURCES, most=7)
DEVICES.array("plic_pending", SOURCE_WORDS)
DEVICES.array("plic_claimed", SOURCE_WORDS)
DEVICES.array("plic_again", SOURCE_WORDS)  # asked for again while claimed
DEVICES.array("plic_enable", 2 * HARTS * SOURCE_WORDS)
DEVICES.array("plic_threshold", 2 * HARTS, most=7)

# UART. uart_more: the host holds input for which the FIFO has no room.
DEVICES.word("uart_ier", "uart_fcr", "uart_lcr", "uart_mcr", "uart_scr", most=0xFF)
DEVICES.word("uart_divisor", most=0xFFFF)
DEVICES.word("uart_thr_empty", "uart_pin", "uart_more", most=1)
DEVICES.word("uart_modem", "uart_modem_delta", most=0xFF)
DEVICES.word("uart_first", most=FIFO - 1)
DEVICES.word("uart_count", most=FIFO)
DEVICES.array("uart_fifo", FIFO, most=0xFF)

# RTC: ticks of the machine's time in a second, and the half of the time that was latched.
DEVICES.word("rtc_timebase", kind=Kind.MADE)
DEVICES.word("rtc_high", most=0xFFFF_FFFF)

# What a device asks of the host.
ASK_TRANSMIT, ASK_REFILL, ASK_SOURCE, ASK_CONTEXT = range(4)

Answer = Callable[[int], object]


class DeviceState:
    """The words of one machine's devices. Fields are those of DEVICES, as a hart's are those of its layout.

    `answers` maps what a device asks of the host (ASK_) to who does it, with the value that goes with it.
    """

    at: ClassVar[weakref.WeakValueDictionary[int, DeviceState]] = weakref.WeakValueDictionary()  # by address

    def __init__(self) -> None:
        self.block = anonymous(-(-DEVICES.words * 8 // 4096) * 4096)
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

    if TYPE_CHECKING:

        def __setattr__(self, name: str, value: Any) -> None:
            """Fields are properties made from DEVICES."""

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
def ask_host(hart: Any, io: DeviceState, what: int, value: U64) -> None:
    """Let the host do something for a device: one of the ASK_ numbers."""
    io.ask(int(what), int(value))


@primitive
def call_registers(hart: Any, function: U64, io: U64, offset: U64, size: U64, value: U64) -> U64:
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
        hart.trap_cause, hart.trap_tval, hart.trap_tval2 = trap.cause, trap.tval, trap.tval2
        hart.trap_tinst, hart.trap_gva = trap.tinst, trap.gva
        return True
    return False

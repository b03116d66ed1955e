"""The port: a page on the board's bus through which the KVM user program says where it is.

A store to register 0 takes a snapshot of the hart at that instruction: instructions by mode, the compiled
trap counters, the CSRs of M- and HS-mode. Those at 8, 12 and 16 hand over memory of the program, its address in two
halves and its size; the one at 24 a byte that its guest wrote on its console.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from trapline.lang.state import Hart
from trapline.lang.state.words import LAYOUT
from trapline.privilege.causes import INTERRUPT
from trapline.session.observe.trap_counts import Trap, counted, instructions_by_mode, trap_at
from trapline.session.regions import Regions
from trapline.session.tables import pages, translate

PORT = 0x10_2000
MARK, END = 1, 2
CSRS = ("medeleg", "mideleg", "mcounteren", "menvcfg", "hedeleg", "hideleg", "hcounteren", "henvcfg")
_MODES = LAYOUT.fields["mode_instret"].index

Step = tuple[int, int]  # pc and mode index of an instruction that retired


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A hart at one instruction."""

    code: int
    traps: Counter[int]  # by causes.trap_index
    modes: dict[str, int]
    csrs: dict[str, int]


@dataclass(frozen=True, slots=True)
class Window:
    """What a hart did between the mark before an event and the one behind it."""

    instructions: dict[str, int]
    traps: dict[Trap, int]
    csrs: dict[str, int]
    profile: tuple[Step, ...] = field(default=(), repr=False)  # if it was stepped

    @property
    def guest_traps(self) -> dict[Trap, int]:
        """Exceptions that hardware took from the guest."""
        return {t: n for t, n in self.traps.items() if t[1] in ("VS", "VU") and not t[0] & INTERRUPT}

    @property
    def interrupts(self) -> int:
        """Interrupts of any level."""
        return sum(n for t, n in self.traps.items() if t[0] & INTERRUPT)


def take(hart: Hart, code: int) -> Snapshot:
    """Return the hart's counters, up to and with the last instruction."""
    csrs = {name: int(getattr(hart, name)) for name in CSRS}
    return Snapshot(code, Counter(counted(hart)), instructions_by_mode(hart), csrs)


def between(first: Snapshot, last: Snapshot, profile: tuple[Step, ...] = ()) -> Window:
    """Return what happened from one snapshot to another."""
    traps = {trap_at(index): n for index, n in (last.traps - first.traps).items()}
    modes = {name: n - first.modes[name] for name, n in last.modes.items() if n != first.modes[name]}
    return Window(modes, traps, first.csrs, profile)


class Port:
    """The device."""

    def __init__(self, regions: Regions, on_mark: Callable[[Snapshot, Hart], None]) -> None:
        self._regions, self._on_mark = regions, on_mark
        self._address = 0
        self.handed_over: list[bytes] = []
        self.written = bytearray()

    def load(self, hart: Hart, offset: int, size: int) -> int:
        """Reads are zero."""
        return 0

    def store(self, hart: Hart, offset: int, size: int, value: int) -> None:
        """Take a snapshot, or the program's memory."""
        if offset == 0:
            self._on_mark(self._taken(hart, value), hart)
        elif offset == 8:
            self._address = value
        elif offset == 12:
            self._address |= value << 32
        elif offset == 16:
            self.handed_over.append(self._handed(hart, self._address, value))
        elif offset == 24:
            self.written.append(value & 0xFF)

    def _taken(self, hart: Hart, code: int) -> Snapshot:
        return take(hart, code)

    def _handed(self, hart: Hart, address: int, size: int) -> bytes:
        return read_virtual(self._regions.read, int(hart.satp), address, size)


def read_virtual(read: Callable[[int, int], bytes], satp: int, address: int, size: int) -> bytes:
    """Read memory as the address space of `satp` has it; pages that are not mapped read as zeros."""

    def piece(at: int, length: int) -> bytes:
        try:
            return read(translate(lambda entry: int.from_bytes(read(entry, 8), "little"), satp, at), length)
        except ValueError:
            return bytes(length)

    return b"".join(piece(*part) for part in pages(address, size))


def port_device(port: Port) -> Any:
    """Return the arguments of Machine.add_device for a port."""
    return "conformance port", PORT, 0x1000, port

"""The reference engine: CPython runs the semantics as they stand."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trapline.engine import decode_table
from trapline.engine.observe.notes import NOTES
from trapline.engine.stop_points import Stops
from trapline.isa.decode import Decoder
from trapline.isa.transform import transformed
from trapline.lang.control import ATTENTION_LEAVE, EXIT_BREAK, EXIT_LIMIT
from trapline.lang.functions import IllegalInstruction, Trap
from trapline.lang.values import U64
from trapline.privilege.deliver import deliver_exception
from trapline.privilege.derived import update_derived
from trapline.privilege.interrupts import update_timers
from trapline.privilege.memory import fetch
from trapline.privilege.trap import take_interrupt

if TYPE_CHECKING:
    from trapline.lang.state import Hart

REGISTERS = frozenset({"rd", "rs1", "rs2", "rs3"})


class ReferenceEngine:
    """Fetch, decode, execute, one instruction at a time; no cache of any kind but decoding."""

    name = "reference"
    turn = 1_000
    compiles = False

    def __init__(self) -> None:
        self.on_asked: Callable[[], None] = lambda: None  # never: a turn of this engine is short
        self._decoders: dict[int, Decoder] = {}
        self.stops = Stops()
        self._tables: dict[int, tuple[int, mmap.mmap]] = {}  # for hosted software that looks instructions up

    def attach(self, hart: Hart, decoder: Decoder | None = None) -> None:
        """Prepare a hart whose extensions are configured; with a decoder, one that has an instruction table already."""
        if decoder is None:
            decoder = Decoder(hart)
            self._tables[id(hart)] = decode_table.build(decoder, {}, {})
            hart.decode_base = self._tables[id(hart)][0]
        self._decoders[id(hart)] = decoder
        self.stops.attach(hart)
        hart.on_note = lambda what, *args: NOTES[what](hart, *args)  # type: ignore[method-assign]
        hart.on_transform = lambda: transformed(hart, decoder)  # type: ignore[method-assign]

    def registers_of(self, device: object) -> tuple[int, int, int, int]:
        """Nothing is compiled."""
        return 0, 0, 0, 0

    def regions_changed(self, hart: Hart) -> None:
        """Each access looks for its region."""

    def call_turns(self, function: Callable[..., None], hart: Hart, *args: Any) -> None:
        """Call it as it stands."""
        function(hart, *args)

    def code_written(self, pa: int, size: int) -> None:
        """Nothing is cached."""

    def infos_at(self, host: int, size: int) -> int:
        """Nothing is decoded ahead."""
        return 0

    def notes(self) -> list[str]:
        """Nothing can be missing."""
        return []

    def step(self, hart: Hart) -> None:
        """Execute one instruction, or take the trap that it raises; counts one attempt."""
        decoder = self._decoders.get(id(hart)) or Decoder(hart)
        self._decoders[id(hart)] = decoder
        try:
            bits = int(fetch(hart))
            found = decoder.decode(bits)
            if found is None or found.instruction.function is None:
                raise IllegalInstruction
            hart.next_pc = hart.pc + found.length
            given = found.operands
            function = found.instruction.function
            function(hart, *[given[n] if n in REGISTERS else U64(given[n]) for n in found.instruction.operands])
        except Trap as trap:
            hart.trap_cause, hart.trap_tval, hart.trap_tval2 = trap.cause, trap.tval, trap.tval2
            hart.trap_tinst, hart.trap_gva = trap.tinst, trap.gva
            deliver_exception(hart)
        hart.instret = hart.instret + 1
        hart.pc = hart.next_pc

    def run(self, hart: Hart, limit: int) -> int:
        """Run until `limit` more attempts or another reason to leave (EXIT_*)."""
        if hart.time_offset != hart.timer_offset or hart.time_ratio != hart.timer_ratio:
            update_timers(hart)
            update_derived(hart)
        self.stops.apply()
        end = int(hart.instret) + limit
        hart.attention = 0
        while True:
            if hart.instret >= hart.hpm_due:
                update_derived(hart)
            if hart.irq_cause != 0:
                take_interrupt(hart)
                hart.pc = hart.next_pc
            if hart.attention & ATTENTION_LEAVE != 0:
                hart.attention = 0
                return int(hart.exit_reason)
            if int(hart.instret) >= end:
                return EXIT_LIMIT
            if hart.stops_base != 0 and self.stops.before(hart):
                return EXIT_BREAK
            self.step(hart)

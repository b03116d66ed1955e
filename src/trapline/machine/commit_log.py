"""The log of retired instructions, in the format of Spike's --log-commits.

One line an instruction: hart, privilege, pc, bits, then the registers written (x, f and CSRs in
Spike's order), then the memory read (address) and written (address, value). An instruction that traps
has no line. It works by running any engine one instruction at a time.
"""

from __future__ import annotations

from collections.abc import Callable

from trapline.engine.api import Before, Engine
from trapline.isa.decode import Decoded, Decoder
from trapline.isa.lookup import csr_written, destination, needs_float
from trapline.lang.control import ATTENTION_LEAVE, EXIT_LIMIT
from trapline.lang.facts import Kind
from trapline.lang.functions import Trap
from trapline.lang.state import Hart
from trapline.lang.values import MASK64, U64
from trapline.machine.commit_effects import (
    LOG_NAMES,
    LOGGED_AS,
    MVIP,
    write_is_refused,
)
from trapline.privilege import csr_numbers as csr
from trapline.privilege.csr import csr_read, effective_csr
from trapline.privilege.memory import fetch
from trapline.privilege.translation import ACCESS_STORE, translate
from trapline.privilege.trap import take_interrupt
from trapline.session.regions import Regions

_COUNTERS = (csr.MCYCLE, csr.MINSTRET)  # they run on: the log has what was written, not what is read
_HVIP_REST = 1 << 6 | 1 << 10  # VSTIP, VSEIP


class CommitLog(Before):
    """An engine that steps another one and writes a line for each instruction that retires."""

    name, turn = "commit log", 1_000

    def __init__(self, engine: Engine, regions: Regions, write: Callable[[str], object]) -> None:
        super().__init__(engine)
        self._regions, self._write = regions, write
        self._decoders: dict[int, Decoder] = {}

    def run(self, hart: Hart, limit: int) -> int:
        """Run until `limit` more attempts or another reason to leave (EXIT_*)."""
        end = int(hart.instret) + limit
        while int(hart.instret) < end:
            reason = self._step(hart)
            if reason != EXIT_LIMIT:
                return reason
        return EXIT_LIMIT

    def _step(self, hart: Hart) -> int:
        if hart.irq_cause != 0:
            hart.call(take_interrupt)
            hart.pc = hart.next_pc
            if hart.attention & ATTENTION_LEAVE != 0:
                return int(hart.exit_reason)
        decoded = self._decode(hart)
        if decoded is None:
            return int(self.engine.run(hart, 1))
        step = _Step(hart, decoded, self._regions)
        not_retired = int(hart.not_retired)
        reason = int(self.engine.run(hart, 1))
        retired = int(hart.not_retired) == not_retired
        line = step.finish(retired)
        if retired:
            self._write(line)
        return reason

    def _decode(self, hart: Hart) -> Decoded | None:
        decoder = self._decoders.get(id(hart))
        if decoder is None:
            decoder = self._decoders[id(hart)] = Decoder(hart)
        try:
            return decoder.decode(int(fetch(hart)))
        except Trap:
            return None


class _Step:
    """One instruction: what must be known before it runs, and its line afterwards."""

    def __init__(self, hart: Hart, decoded: Decoded, regions: Regions) -> None:
        self.hart, self.decoded, self.regions = hart, decoded, regions
        self.head = f"core {int(hart.mhartid):3}: {int(hart.priv)} {int(hart.pc):#018x}"
        bits = decoded.bits & 0xFFFF if decoded.length == 2 else decoded.bits
        self.head += f" (0x{bits:0{2 * decoded.length}x})"
        self.status = int(hart.mstatus), int(hart.vsstatus)
        self.virt, self.mip, self.reservation = int(hart.virt), int(hart.mip), int(hart.reservation)
        self.hvip = int(hart.hvip)
        self.hstatus_logged = decoded.instruction.name == "sret" and hart.virt == 0 and hart.has_h != 0
        operands = decoded.operands
        self.base = int(hart.x[operands["rs1"]]) if "rs1" in operands else 0
        self.csr = self._find_csr()
        self.float = needs_float(decoded.instruction)
        self.old_flags = int(hart.fflags)
        if self.float:
            hart.fflags = 0
        self._find_access()

    def _find_csr(self) -> int | None:
        number = csr_written(self.decoded)
        if number is None:
            return None
        try:
            self.old_csr = int(csr_read(self.hart, U64(number))) if number in _COUNTERS else 0
        except KeyError:
            return None
        number = int(effective_csr(self.hart, U64(number)))
        return None if write_is_refused(self.hart, number) else number

    def _find_access(self) -> None:
        self.access = self.decoded.instruction.access
        operands = self.decoded.operands
        self.address = self.base + operands.get("imm", 0) & MASK64
        if self.access and "rs2" in operands:
            file = self.hart.f if self.decoded.instruction.is_float("rs2") else self.hart.x
            self.stored = int(file[operands["rs2"]])

    def finish(self, retired: bool) -> str:
        """Put the state right and return the line."""
        hart = self.hart
        raised = int(hart.fflags) if self.float else 0
        if self.float:
            hart.fflags = self.old_flags | raised
        if not retired:
            return ""
        registers = self._csr_values()
        if raised:
            registers[csr.FFLAGS << 4 | 4] = f"c1_fflags {self.old_flags | raised:#018x}"
        target = destination(self.decoded)
        if target is not None:
            kind, number = target
            value = int((hart.f if kind == "f" else hart.x)[number])
            registers[number << 4 | (kind == "f")] = f"{kind + str(number):<3} {value:#018x}"
        words = [registers[key] for key in sorted(registers)] + self._memory()
        return f"{self.head} {' '.join(words)}".rstrip() + "\n"

    def _csr_values(self) -> dict[int, str]:
        values: dict[int, int] = {}
        name = self.decoded.instruction.name
        if self.csr is not None:
            for number in LOGGED_AS.get(self.csr, (self.csr,)):
                values[number] = self._csr_value(number)
        for number in self._status_writes(name):
            values[number] = int(csr_read(self.hart, U64(number)))
        if self.hstatus_logged:
            values[csr.HSTATUS] = int(self.hart.hstatus)
        return {n << 4 | 4: f"c{n}_{LOG_NAMES.get(n, hex(n))} {v:#018x}" for n, v in values.items()}

    def _status_writes(self, name: str) -> tuple[int, ...]:
        """What a trap return, or the first floating-point write, changes besides its own registers."""
        hart = self.hart
        if name in ("mret", "sret"):
            if self.virt:
                return (csr.VSSTATUS,)
            to_guest_user = hart.virt != 0 and hart.priv == 0  # Spike clears vsstatus.SDT there
            return (csr.MSTATUS, csr.VSSTATUS) if to_guest_user else (csr.MSTATUS,)
        if (int(hart.mstatus), int(hart.vsstatus)) == self.status or self.csr in (csr.MSTATUS, csr.VSSTATUS):
            return ()
        return (csr.MSTATUS, csr.VSSTATUS) if self.virt else (csr.MSTATUS,)

    def _csr_value(self, number: int) -> int:
        hart = self.hart
        if number == MVIP:
            software = int(hart.seip_software) if self.csr == csr.MIP else 0
            return software & 0x200 | self.mip & 0x22
        if number in _COUNTERS:
            return self._counter_value()
        if number == csr.MIP and self.csr == csr.HVIP:
            # Spike writes VSSIP to mip, logs it, and only then writes the rest of hvip.
            return int(csr_read(hart, U64(number))) & ~_HVIP_REST | self.hvip & _HVIP_REST
        return int(csr_read(hart, U64(number)))

    def _counter_value(self) -> int:
        name = self.decoded.instruction.name
        operand = self.decoded.operands["rs1"] if name.endswith("i") else self.base
        match name.removesuffix("i"):
            case "csrrs":
                return self.old_csr | operand
            case "csrrc":
                return self.old_csr & ~operand
        return operand

    def _memory(self) -> list[str]:
        if self.access is None or self.access.kind is Kind.MANAGE:
            return []
        kind, size = self.access.kind, self.access.size
        read = f"mem {self.address:#018x}"
        if kind in (Kind.LOAD, Kind.RESERVE):
            return [read]
        if kind is Kind.ZERO:
            block = int(self.hart.cache_block)
            return [f"mem {(self.address & -block) + i:#018x} 0x00" for i in range(block)]
        if kind is Kind.CONDITIONAL and self.reservation != self._physical():
            return []
        value = self._after_amo(size) if kind is Kind.AMO else self.stored & (1 << 8 * size) - 1
        written = f"{read} 0x{value:0{2 * size}x}"
        return [read, written] if kind is Kind.AMO else [written]

    def _physical(self) -> int:
        hart = self.hart
        return int(hart.call(translate, self.address, ACCESS_STORE, int(hart.data_priv), int(hart.data_virt), 0))

    def _after_amo(self, size: int) -> int:
        return int.from_bytes(self.regions.read(self._physical(), size), "little")

"""Hardware that deals with each access in a way of its own, and which of these ways the guest may have seen.

An implementation may do one misaligned access, let another trap, and leave a third to firmware; a hypervisor may hand
an access to where nothing is to user space, and keep a counter to itself. What a store leaves in part may be the next
value of a register, or an entry of a table, so the ways of one program cannot be judged apart: the machine runs it
again until all that the guest noted is what a row of ways gives, or none does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from trapline.engine.api import Engine
from trapline.firmware.handler import leave_machine
from trapline.firmware.outcome import HUNG, REDIRECT, STOPPED
from trapline.firmware.redirect import redirect_trap
from trapline.firmware.trap import MachineTrap, read_trap
from trapline.fuzz import image as layout
from trapline.fuzz.hardware import Hardware
from trapline.fuzz.image import Image
from trapline.fuzz.target import LIMIT
from trapline.isa.decode import Decoder, enabled_extensions
from trapline.isa.system import SYSTEM
from trapline.lang.control import EXIT_HOSTED_M, EXIT_LIMIT, EXIT_STOP
from trapline.privilege.causes import (
    ECALL_HS,
    ILLEGAL_INST,
    LOAD_ACCESS,
    LOAD_MISALIGNED,
    STORE_ACCESS,
    STORE_MISALIGNED,
)
from trapline.privilege.csr import csr_write
from trapline.privilege.csr_numbers import MCOUNTEREN, MEDELEG, MEPC, STIMECMP
from trapline.privilege.fields import ALL_ONES
from trapline.privilege.modes import USER

TRIES = 600  # runs of one program
_HANDLER = 24  # instructions in which the kernel notes a trap
COUNTERS = range(0xC00, 0xC20)
_OPEN = (ILLEGAL_INST, LOAD_MISALIGNED, LOAD_ACCESS, STORE_MISALIGNED, STORE_ACCESS)

Agrees = Callable[[Sequence[int], int], int | None]
"""Told what a machine noted, and how many of its traps count: how far it is what the guest noted, None if all of it is.
4 for each trap, and of the first that differs 1 each for epc, cause and tval, up to the one that differs."""


class Mixed(Hardware):
    """A machine whose firmware is asked at each access that may go several ways."""

    def __init__(self, image: Image, envcfg: int, *, isa: str, firmware: str, engine: str | Engine = "native") -> None:
        super().__init__(image, envcfg, isa=isa, firmware=firmware, engine=engine)
        self._decoder = Decoder(enabled_extensions(self.hart))
        self._ways: list[int] = []
        self._made: list[tuple[int, int]] = []  # how many ways there were, and how many traps were noted before
        self._until = layout.RECORDS
        self._ended = False
        self.nearest: list[int] = []
        self.served: int | None = None  # the pc of a call that was, where the last run ended

    def _open(self) -> None:
        hart = self.hart
        hart.call(csr_write, MEDELEG, int(hart.medeleg) & ~sum(1 << cause for cause in _OPEN))
        hart.call(csr_write, MCOUNTEREN, 0)

    def gives(self, program: bytes, zoo: int, agrees: Agrees) -> bool:
        """Whether some row of ways gives what the guest noted; if not, `nearest` is what came nearest to it."""
        self._ways, longest = [], -1
        for _ in range(TRIES):
            noted = self._noted(program, zoo)
            alike = agrees(noted, self._until)
            if alike is None:
                return True
            if alike > longest:
                self.nearest, longest = noted, alike
            made = [(ways, at) for ways, at in self._made if at <= alike // 4]
            taken = self._ways[: len(made)]
            while taken and taken[-1] + 1 == made[len(taken) - 1][0]:
                taken.pop()
            if not taken:
                return False
            taken[-1] += 1
            self._ways = taken
        return False

    def _noted(self, program: bytes, zoo: int) -> list[int]:
        """Run a program along the row of ways, the first of those behind it."""
        self._begin([program], zoo)
        self._made, self._until, self._ended, self.served = [], layout.RECORDS, False, None
        hart = self.hart
        self.firmware.write_model(hart)
        end = int(hart.instret) + 5 * LIMIT
        while not (self.finisher.ended or self._ended) and int(hart.instret) < end:
            self._step(end - int(hart.instret))
        if not self.came_to_the_end:
            self._until = self._traps()
        return memoryview(self.regions.read(layout.LOG, layout.STRIDE)).cast("Q").tolist()

    def _step(self, limit: int) -> None:
        reason = self.engine.run(self.hart, limit)
        if reason == EXIT_HOSTED_M:
            self._serve()
        elif reason not in (EXIT_LIMIT, EXIT_STOP):
            self._ended = True

    def _traps(self) -> int:
        log = memoryview(self.regions.read(layout.LOG, 32 * layout.RECORDS)).cast("Q")
        return sum(log[n] != 0 for n in range(1, 4 * layout.RECORDS, 4))

    # --- ways ---
    def _serve(self) -> None:
        trap = read_trap(self.hart)
        if trap.cause in (LOAD_MISALIGNED, STORE_MISALIGNED):
            self._way(self._trap, self._do, self._leave_to_firmware)(trap)
        elif trap.cause in (LOAD_ACCESS, STORE_ACCESS):
            self._way(self._trap, self._read_as_zero)(trap)
        elif trap.cause == ILLEGAL_INST and trap.tval & 0x7F == SYSTEM and trap.tval >> 20 in (*COUNTERS, STIMECMP):
            self._way(self._trap, self._count)(trap)
        elif trap.cause == ECALL_HS:
            self._call(trap)
        else:
            self._leave_to_firmware(trap)

    def _way(self, *ways: Callable[[MachineTrap], None]) -> Callable[[MachineTrap], None]:
        return ways[self._chosen(len(ways), self._traps())]

    def _chosen(self, ways: int, before: int) -> int:
        number = len(self._made)
        self._made.append((ways, before))
        if number == len(self._ways):
            self._ways.append(0)
        return self._ways[number]

    def _trap(self, trap: MachineTrap) -> None:
        self.hart.call(redirect_trap, trap.cause, trap.epc, trap.tval, 0, 0, 0, trap.priv, 0)
        self.hart.call(leave_machine)

    def _do(self, trap: MachineTrap) -> None:
        self.hart.call(leave_machine)
        self.hart.misaligned_hardware = 1
        self._step(1)
        self.hart.misaligned_hardware = 0

    def _leave_to_firmware(self, trap: MachineTrap) -> None:
        self._ended |= self.firmware.handle(self.hart).destination in (HUNG, STOPPED)

    def _read_as_zero(self, trap: MachineTrap) -> None:
        """What user space does with an access that a hypervisor hands to it; it hands no AMO on."""
        bits, hart = self._code(trap.epc), self.hart
        found = self._decoder.decode(bits if bits & 3 == 3 else bits & 0xFFFF)
        access = found.instruction.access if found is not None else None
        if found is None or access is None or found.instruction.extension == "A":
            self._trap(trap)
            return
        rd = found.operands.get("rd", 0)
        if not access.is_store and found.instruction.is_float("rd"):
            hart.f[rd] = ALL_ONES << 8 * access.size & ALL_ONES
        elif not access.is_store and rd:
            hart.x[rd] = 0
        self._go_on(trap.epc + found.length)

    def _count(self, trap: MachineTrap) -> None:
        """What a counter says depends on who else runs: nothing is known behind an instruction that keeps it."""
        number = trap.tval >> 20
        if trap.priv == USER and (number == STIMECMP or not int(self.hart.scounteren) >> (number & 31) & 1):
            self._trap(trap)
        elif number == STIMECMP or trap.tval >> 7 & 31:
            self._stop()
        elif trap.tval >> 12 & 3 == 1 or trap.tval >> 15 & 31:  # it writes
            self._trap(trap)
        else:
            self._go_on(trap.epc + 4)

    def _call(self, trap: MachineTrap) -> None:
        """What lies behind a call is another SBI's: its own fault alone counts, which a hypervisor need not have."""
        before = self._traps()
        faults = self.firmware.handle(self.hart).how == REDIRECT
        if faults and int(self.hart.scause) in (LOAD_ACCESS, STORE_ACCESS):
            faults = self._chosen(2, before) == 0
        if faults:
            self._step(_HANDLER)
        else:
            self.served = trap.epc
        self._stop()

    def _go_on(self, pc: int) -> None:
        self.hart.call(csr_write, MEPC, pc)
        self.hart.call(leave_machine)

    def _stop(self) -> None:
        self._ended = True

    def _code(self, pc: int) -> int:
        with suppress(ValueError):
            return int.from_bytes(self.regions.read(pc - self.image.window, 4), "little")
        return 0

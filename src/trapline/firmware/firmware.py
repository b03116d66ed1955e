"""Hosted M-mode: sets a hart up, hands it to HS-mode, and handles every trap that comes back.

It does what firmware does, in the way firmware does it: it reads the machine CSRs that the trap wrote,
writes CSRs, and returns with mret.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

from trapline.firmware import cost, exit_log, illegal, misaligned, outcome
from trapline.firmware.board import Board, FirmwareSbi, HartRecord, change_bits
from trapline.firmware.cost import Cost, redirect_event
from trapline.firmware.dump import dump
from trapline.firmware.models import ALL_ONES, DEFAULT_MODEL, FirmwareModel, model
from trapline.firmware.outcome import Outcome
from trapline.firmware.redirect import redirect
from trapline.firmware.trap import MachineTrap, read_trap
from trapline.firmware.unprivileged import fetch_instruction
from trapline.lang.functions import Trap
from trapline.privilege import causes
from trapline.privilege import csr_numbers as csr
from trapline.privilege.csr import csr_write
from trapline.privilege.fields import (
    MSTATUS_FS,
    MSTATUS_MPP_SHIFT,
    MTIP,
    PMP_A_SHIFT,
    PMP_NAPOT,
    PMP_R,
    PMP_W,
    PMP_X,
    STIP,
)
from trapline.privilege.modes import MACHINE, SUPERVISOR
from trapline.privilege.returns import mret
from trapline.sbi.call import Effect, SbiCall
from trapline.sbi.numbers import Feature, FirmwareEvent, HartState
from trapline.sbi.serve import name_of, serve

NOT_SUPPORTED, FAILED, NO_ENTRY = -2, -1, -1008
PMPCFG0, PMPADDR0 = 0x3A0, 0x3B0
OPEN_PMP = PMP_NAPOT << PMP_A_SHIFT | PMP_R | PMP_W | PMP_X
A0, A1 = 10, 11

_EVENTS = {
    causes.LOAD_MISALIGNED: FirmwareEvent.MISALIGNED_LOAD,
    causes.STORE_MISALIGNED: FirmwareEvent.MISALIGNED_STORE,
    causes.LOAD_ACCESS: FirmwareEvent.ACCESS_LOAD,
    causes.STORE_ACCESS: FirmwareEvent.ACCESS_STORE,
    causes.ILLEGAL_INST: FirmwareEvent.ILLEGAL_INSN,
}


_NATIVE = {
    exit_log.FIRMWARE_EMULATE: (outcome.EMULATE, outcome.RESUME),
    exit_log.FIRMWARE_TO_VS: (outcome.REDIRECT, outcome.TO_VS),
    exit_log.FIRMWARE_TO_HS: (outcome.REDIRECT, outcome.TO_HS),
    exit_log.FIRMWARE_ACTION: (outcome.REDIRECT, outcome.TO_HS),
    exit_log.FIRMWARE_ACTION_REDIRECT: (outcome.REDIRECT, outcome.TO_HS),
}


class Counted(NamedTuple):
    """A row of the statistics: mcause, mode index of the origin, what was done, where it went."""

    cause: int
    origin: int
    how: str
    destination: str


class Firmware:
    """One hosted firmware for all harts of a board.

    `host_fwft` says whether the host kernel has asked for misaligned exceptions to be delegated (FWFT);
    `host_fwft_granted` whether this firmware on this hart could.
    """

    snapshot_skips = ("host_fwft", "host_fwft_granted")
    snapshot_types: ClassVar = {"_stats": Counter[Counted]}

    def __init__(
        self, name: str | FirmwareModel = DEFAULT_MODEL, *, host_fwft: bool = False, board: Board | None = None
    ) -> None:
        self.model = model(name) if isinstance(name, str) else name
        self.host_fwft, self.host_fwft_granted = host_fwft, False
        self._stats: Counter[Counted] = Counter()
        self._instructions = 0
        self.records: dict[int, HartRecord] = {}
        self._board = board
        self._sbi: dict[int, FirmwareSbi] = {}

    # --- set-up ---
    def setup(self, hart: Any, pc: int, opaque: int = 0) -> None:
        """Set delegation and the rest of M-mode up, then enter HS-mode at `pc` with a0 hartid, a1 `opaque`."""
        hartid = int(hart.mhartid)
        hart.hosted_m = 1
        hart.priv, hart.virt = MACHINE, 0
        hart.medeleg_mask = hart.medeleg_mask & (ALL_ONES ^ self.model.tied_zero)
        self._write_machine_csrs(hart)
        self.records[hartid] = HartRecord(hart)
        self._sbi[hartid] = FirmwareSbi(self.model.sbi, self.records, hartid, self._board)
        feature = self._sbi[hartid].feature(Feature.MISALIGNED_EXC_DELEG)
        if self.host_fwft and feature is not None:
            feature.write(1)
            self.host_fwft_granted = feature.read() == 1
        self.enter_supervisor(hart, pc, opaque)

    def _write_machine_csrs(self, hart: Any) -> None:
        m = self.model
        for number, value in (
            (csr.MEDELEG, m.medeleg),
            (csr.MIDELEG, m.mideleg),
            (csr.MCOUNTEREN, m.mcounteren),
            (csr.SCOUNTEREN, m.scounteren),
            (csr.MENVCFG, m.menvcfg),
            (csr.MIE, 0),
        ):
            hart.call(csr_write, number, value)
        if hart.has_smstateen != 0:
            hart.call(csr_write, csr.MSTATEEN0, m.mstateen0)
        if hart.pmp_count != 0:
            hart.call(csr_write, PMPADDR0, ALL_ONES)
            hart.call(csr_write, PMPCFG0, OPEN_PMP)

    def enter_supervisor(self, hart: Any, pc: int, opaque: int) -> None:
        """Enter HS-mode at `pc` as HSM's hart_start says: satp 0, SIE 0, a0 hartid, a1 `opaque`."""
        hart.priv, hart.virt = MACHINE, 0
        hart.call(csr_write, csr.SATP, 0)
        hart.call(csr_write, csr.MSTATUS, SUPERVISOR << MSTATUS_MPP_SHIFT | MSTATUS_FS)
        hart.call(csr_write, csr.MEPC, pc)
        hart.x[A0], hart.x[A1] = int(hart.mhartid), opaque
        self._return(hart)

    def start_pending(self, hart: Any) -> bool:
        """Start a hart that another one asked to start, or whose suspension ended; return whether it runs."""
        record = self.records[int(hart.mhartid)]
        if record.entry is not None and record.state is not HartState.STOPPED:
            pc, opaque = record.entry
            record.entry = None
            self.enter_supervisor(hart, pc, opaque)
        elif record.state is not HartState.SUSPENDED:
            return record.state is HartState.STARTED
        record.state = HartState.STARTED
        return True

    @staticmethod
    def _return(hart: Any) -> None:
        hart.call(mret)
        hart.pc = hart.next_pc

    # --- traps ---
    def handle(self, hart: Any) -> Outcome:
        """Handle the trap that entered M-mode (engine.run gave EXIT_HOSTED_M) and leave M-mode again."""
        trap = read_trap(hart)
        if trap.cause in _EVENTS:
            self.records[int(hart.mhartid)].pmu.count(_EVENTS[trap.cause])
        if trap.is_interrupt:
            done = self._interrupt(hart, trap)
        else:
            done = HANDLERS.get(trap.cause, Firmware._redirect)(self, hart, trap)
        if done.destination not in (outcome.HUNG, outcome.STOPPED):
            self._return(hart)
        self._stats[Counted(trap.cause, trap.origin, done.how, done.destination)] += 1
        self._instructions += done.instructions
        return done

    def fold(self) -> None:
        """Take over what native code has counted, before somebody clears that."""
        self._stats, self._instructions = self.stats, self.estimated_instructions

    @property
    def stats(self) -> Counter[Counted]:
        """Count entries into M-mode by cause, origin, what was done and where it went."""
        found = self._stats.copy()
        for record in self.records.values():
            for done, n in exit_log.counted(record.hart):
                if done.kind in _NATIVE:
                    how, destination = _NATIVE[done.kind]
                    found[Counted(done.cause, 4 | done.origin, how, destination)] += n
        return found

    @property
    def estimated_instructions(self) -> int:
        """Instructions that real firmware would have executed."""
        return self._instructions + sum(n for r in self.records.values() for _, n in exit_log.spent(r.hart))

    def _redirect(self, hart: Any, trap: MachineTrap, original: MachineTrap | None = None) -> Outcome:
        """Hand a trap to VS or HS; one from M-mode itself is the end."""
        original = original or trap
        destination = redirect(hart, self.model, trap)
        if destination is None:
            return self._hang(hart, original, "trap redirect failed", NOT_SUPPORTED)
        event = redirect_event(original.cause, to_vs=destination == outcome.TO_VS)
        return Outcome(outcome.REDIRECT, destination, original, self.cost_of(event), trap)

    def _hang(self, hart: Any, trap: MachineTrap, message: str, error: int) -> Outcome:
        return Outcome(outcome.HANG, outcome.HUNG, trap, cost.NOTHING, dump=dump(hart, trap, message, error))

    def _illegal(self, hart: Any, trap: MachineTrap) -> Outcome:
        if trap.from_machine:
            return self._hang(hart, trap, "illegal instruction handler failed", NOT_SUPPORTED)
        truly = illegal.emulate(hart, self.model, trap)
        if truly is None:
            return Outcome(outcome.EMULATE, outcome.RESUME, trap, self.cost_of(cost.CSR_READ))
        return self._redirect(hart, truly, trap)

    def _misaligned(self, hart: Any, trap: MachineTrap) -> Outcome:
        if trap.from_machine:
            return self._hang(hart, trap, "misaligned handler failed", NOT_SUPPORTED)
        if not self.model.emulates_misaligned:
            return self._redirect(hart, trap)
        result = misaligned.emulate(hart, self.model, trap)
        if isinstance(result, MachineTrap):
            return self._redirect(hart, result, trap)
        return Outcome(outcome.EMULATE, outcome.RESUME, trap, self.cost_of(result))

    def _access_fault(self, hart: Any, trap: MachineTrap) -> Outcome:
        """Redirect; newer firmware first fetches the instruction for a platform's own emulation (there is none)."""
        if trap.from_machine:
            return self._hang(hart, trap, "access fault handler failed", FAILED)
        if self.model.fetches_on_access_fault and not trap.tinst & 1:
            try:
                fetch_instruction(hart, trap.epc)
            except Trap as inner:
                return self._redirect(hart, trap.replaced_by(inner), trap)
        return self._redirect(hart, trap)

    def _ecall(self, hart: Any, trap: MachineTrap) -> Outcome:
        """Serve the SBI; a fault on the caller's memory is the caller's."""
        call = SbiCall.of(hart.x)
        price = self.cost_of(f"{cost.SBI} {name_of(call.eid)}")
        result = serve(self._sbi[int(hart.mhartid)], call)
        if result.effect is Effect.TRAP and result.trap is not None:
            return self._redirect(hart, trap.replaced_by(result.trap), trap)
        if result.effect is Effect.GONE:
            return Outcome(outcome.SBI, outcome.STOPPED, trap, price)
        result.write_to(hart.x)
        hart.call(csr_write, csr.MEPC, trap.epc + 4)
        state = self.records[int(hart.mhartid)].state
        if state is HartState.SUSPENDED:
            self._return(hart)
            return Outcome(outcome.SBI, outcome.STOPPED, trap, price)
        return Outcome(outcome.SBI, outcome.RESUME, trap, price)

    def _interrupt(self, hart: Any, trap: MachineTrap) -> Outcome:
        """Pass the machine timer interrupt on to S-mode; no other is ever enabled (IPIs set SSIP directly)."""
        if trap.cause & 63 != causes.IRQ_MTI:
            return self._hang(hart, trap, "unhandled local interrupt", NO_ENTRY)
        change_bits(hart, csr.MIE, clear=MTIP)
        change_bits(hart, csr.MIP, set=STIP)
        return Outcome(outcome.FORWARD, outcome.RESUME, trap, self.cost_of(cost.MTIMER))

    def cost_of(self, event: str) -> Cost:
        """Return the estimate for an event (firmware.cost) on this firmware."""
        return cost.cost_of(event, self.model.measured_on)


HANDLERS: dict[int, Callable[[Firmware, Any, MachineTrap], Outcome]] = {
    causes.ILLEGAL_INST: Firmware._illegal,
    causes.LOAD_MISALIGNED: Firmware._misaligned,
    causes.STORE_MISALIGNED: Firmware._misaligned,
    causes.LOAD_ACCESS: Firmware._access_fault,
    causes.STORE_ACCESS: Firmware._access_fault,
    causes.ECALL_HS: Firmware._ecall,
    causes.ECALL_M: Firmware._ecall,
}

"""Hosted M-mode: sets a hart up, hands it to HS-mode, and handles every trap that comes back.

It does what firmware does, in the way firmware does it: it reads the machine CSRs that the trap wrote,
writes CSRs, and returns with mret.
"""

from __future__ import annotations

from collections import Counter
from typing import ClassVar, NamedTuple

from trapline.firmware import cost, exit_log, outcome
from trapline.firmware.board import Board, FirmwareSbi, HartRecord, change_bits
from trapline.firmware.cost import Cost
from trapline.firmware.dump import dump
from trapline.firmware.handler import NOT_SERVED, WENT_BACK, leave_machine, serve_trap
from trapline.firmware.models import DEFAULT_MODEL, FirmwareModel, model
from trapline.firmware.outcome import Outcome
from trapline.firmware.redirect import WENT_TO_HS, WENT_TO_VS, flags_of, redirect_trap
from trapline.firmware.trap import MachineTrap, last_trap, read_trap
from trapline.lang.state import Hart
from trapline.privilege import causes
from trapline.privilege import csr_numbers as csr
from trapline.privilege.csr import csr_write
from trapline.privilege.fields import (
    ALL_ONES,
    ENVCFG_ADUE,
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
from trapline.sbi.call import Effect, SbiCall
from trapline.sbi.numbers import Feature, FirmwareEvent, HartState
from trapline.sbi.serve import name_of, serve

NOT_SUPPORTED, FAILED, NO_ENTRY = -2, -1, -1008
OPEN_PMP = PMP_NAPOT << PMP_A_SHIFT | PMP_R | PMP_W | PMP_X
A0, A1 = 10, 11

_EVENTS = {
    causes.LOAD_MISALIGNED: FirmwareEvent.MISALIGNED_LOAD,
    causes.STORE_MISALIGNED: FirmwareEvent.MISALIGNED_STORE,
    causes.LOAD_ACCESS: FirmwareEvent.ACCESS_LOAD,
    causes.STORE_ACCESS: FirmwareEvent.ACCESS_STORE,
    causes.ILLEGAL_INST: FirmwareEvent.ILLEGAL_INSN,
}


# What firmware says of traps from M-mode itself, and its error.
_FATAL = {
    causes.ILLEGAL_INST: ("illegal instruction handler failed", NOT_SUPPORTED),
    causes.LOAD_MISALIGNED: ("misaligned handler failed", NOT_SUPPORTED),
    causes.STORE_MISALIGNED: ("misaligned handler failed", NOT_SUPPORTED),
    causes.LOAD_ACCESS: ("access fault handler failed", FAILED),
    causes.STORE_ACCESS: ("access fault handler failed", FAILED),
}

_HOW = {
    WENT_TO_VS: (outcome.REDIRECT, outcome.TO_VS),
    WENT_TO_HS: (outcome.REDIRECT, outcome.TO_HS),
    WENT_BACK: (outcome.EMULATE, outcome.RESUME),
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
    def setup(self, hart: Hart, pc: int, opaque: int = 0) -> None:
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

    def _write_machine_csrs(self, hart: Hart) -> None:
        m = self.model
        kept = int(hart.menvcfg) & ENVCFG_ADUE
        menvcfg = m.menvcfg & ~ENVCFG_ADUE | kept if m.keeps_adue else m.menvcfg
        for number, value in (
            (csr.MEDELEG, m.medeleg),
            (csr.MIDELEG, m.mideleg),
            (csr.MCOUNTEREN, m.mcounteren),
            (csr.SCOUNTEREN, m.scounteren),
            (csr.MENVCFG, menvcfg),
            (csr.MIE, 0),
        ):
            hart.call(csr_write, number, value)
        if hart.has_smstateen != 0:
            hart.call(csr_write, csr.MSTATEEN0, m.mstateen0)
        if hart.pmp_count != 0:
            hart.call(csr_write, csr.PMPADDR0, ALL_ONES)
            hart.call(csr_write, csr.PMPCFG0, OPEN_PMP)

    def write_model(self, hart: Hart) -> None:
        """Write into the hart what the compiled handler must know of the model."""
        hart.fw_flags = flags_of(self.model)
        for n, event in enumerate(cost.firmware_events()):
            hart.fw_cost[n] = self.cost_of(event).instructions if cost.is_known(event) else 0

    def enter_supervisor(self, hart: Hart, pc: int, opaque: int) -> None:
        """Enter HS-mode at `pc` as HSM's hart_start says: satp 0, SIE 0, a0 hartid, a1 `opaque`."""
        hart.priv, hart.virt = MACHINE, 0
        hart.call(csr_write, csr.SATP, 0)
        hart.call(csr_write, csr.MSTATUS, SUPERVISOR << MSTATUS_MPP_SHIFT | MSTATUS_FS)
        hart.call(csr_write, csr.MEPC, pc)
        hart.x[A0], hart.x[A1] = int(hart.mhartid), opaque
        hart.call(leave_machine)

    def start_pending(self, hart: Hart) -> bool:
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

    # --- traps ---
    def handle(self, hart: Hart) -> Outcome:
        """Handle the trap that entered M-mode (engine.run gave EXIT_HOSTED_M) and leave M-mode again."""
        trap = read_trap(hart)
        if trap.cause in _EVENTS:
            self.records[int(hart.mhartid)].pmu.count(_EVENTS[trap.cause])
        if trap.is_interrupt:
            done = self._interrupt(hart, trap)
        else:
            done = (self._ecall if trap.cause in (causes.ECALL_HS, causes.ECALL_M) else self._serve)(hart, trap)
        self._stats[Counted(trap.cause, trap.origin, done.how, done.destination)] += 1
        self._instructions += done.instructions
        return done

    def fold(self) -> None:
        """Take over what the compiled handler has counted, before somebody clears that."""
        self._stats, self._instructions = self.stats, self.estimated_instructions
        for record in self.records.values():
            exit_log.clear_firmware(record.hart)

    @property
    def stats(self) -> Counter[Counted]:
        """Count entries into M-mode by cause, origin, what was done and where it went."""
        found = self._stats.copy()
        for record in self.records.values():
            for (went, cause, origin), n in exit_log.firmware_counted(record.hart):
                found[Counted(cause, 4 | origin, *_HOW[went])] += n
        return found

    @property
    def estimated_instructions(self) -> int:
        """Instructions that real firmware would have executed."""
        return self._instructions + sum(int(r.hart.fw_instructions) for r in self.records.values())

    def _serve(self, hart: Hart, trap: MachineTrap) -> Outcome:
        """What the compiled handler does: redirect or emulate."""
        self.write_model(hart)
        went = int(hart.call(serve_trap))
        if went == NOT_SERVED:
            return self._hang(hart, trap, *_FATAL.get(trap.cause, ("trap redirect failed", NOT_SUPPORTED)))
        price = self.cost_of(cost.firmware_events()[int(hart.fw_event) - 1])
        if went == WENT_BACK:
            return Outcome(outcome.EMULATE, outcome.RESUME, trap, price)
        destination = outcome.TO_VS if went == WENT_TO_VS else outcome.TO_HS
        return Outcome(outcome.REDIRECT, destination, trap, price, trap.replaced_by(last_trap(hart)))

    def _hang(self, hart: Hart, trap: MachineTrap, message: str, error: int) -> Outcome:
        return Outcome(outcome.HANG, outcome.HUNG, trap, cost.NOTHING, dump=dump(hart, trap, message, error))

    def _ecall(self, hart: Hart, trap: MachineTrap) -> Outcome:
        """Serve the SBI; a fault on the caller's memory is the caller's."""
        call = SbiCall.of(hart.x)
        price = self.cost_of(f"{cost.SBI} {name_of(call.eid)}")
        result = serve(self._sbi[int(hart.mhartid)], call)
        if result.effect is Effect.TRAP and result.trap is not None:
            return self._fault_of_call(hart, trap, trap.replaced_by(result.trap))
        if result.effect is Effect.GONE:
            return Outcome(outcome.SBI, outcome.STOPPED, trap, price)
        result.write_to(hart.x)
        hart.call(csr_write, csr.MEPC, trap.epc + 4)
        hart.call(leave_machine)
        suspended = self.records[int(hart.mhartid)].state is HartState.SUSPENDED
        return Outcome(outcome.SBI, outcome.STOPPED if suspended else outcome.RESUME, trap, price)

    def _fault_of_call(self, hart: Hart, trap: MachineTrap, fault: MachineTrap) -> Outcome:
        """Hand the fault of an access that the firmware made for a call to the caller."""
        self.write_model(hart)
        f = fault
        hart.call(redirect_trap, f.cause, f.epc, f.tval, f.tval2, f.tinst, int(f.gva), f.priv, f.virt)
        hart.call(leave_machine)
        return Outcome(outcome.REDIRECT, outcome.TO_HS, trap, self.cost_of(cost.PLAIN), fault)

    def _interrupt(self, hart: Hart, trap: MachineTrap) -> Outcome:
        """Pass the machine timer interrupt on to S-mode; no other is ever enabled (IPIs set SSIP directly)."""
        if trap.cause & 63 != causes.IRQ_MTI:
            return self._hang(hart, trap, "unhandled local interrupt", NO_ENTRY)
        change_bits(hart, csr.MIE, clear=MTIP)
        change_bits(hart, csr.MIP, set=STIP)
        hart.call(leave_machine)
        return Outcome(outcome.FORWARD, outcome.RESUME, trap, self.cost_of(cost.MTIMER))

    def cost_of(self, event: str) -> Cost:
        """Return the estimate for an event (firmware.cost) on this firmware."""
        return cost.cost_of(event, self.model.measured_on)

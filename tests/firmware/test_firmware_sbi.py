"""The SBI as hosted firmware serves it to HS-mode."""

from __future__ import annotations

from firmware_bench import CODE, DATA, HOLE, STVEC, Bench

from trapline.privilege import csr_numbers as csr
from trapline.privilege.csr import csr_read
from trapline.privilege.fields import MTIP, SSIP, STIP
from trapline.privilege.isa_string import DEFAULT_ISA
from trapline.sbi.numbers import Eid, HartState, SbiError

ECALL = 0x73
A0, A1, A6, A7 = 10, 11, 16, 17


class Terminal:
    """A board with a console, a timer and a reset line."""

    def __init__(self) -> None:
        self.output, self.input, self.deadline, self.reset = b"", b"", None, None

    def set_machine_timer(self, hartid: int, deadline: int) -> None:
        self.deadline = deadline

    def console_write(self, data: bytes) -> int:
        self.output += data
        return len(data)

    def console_read(self, limit: int) -> bytes:
        data, self.input = self.input[:limit], self.input[limit:]
        return data

    def system_reset(self, kind: int, reason: int) -> None:
        self.reset = (kind, reason)


def call(bench: Bench, eid: int, fid: int = 0, *args: int) -> tuple[int, int]:
    """Make an SBI call from HS-mode; return a0 (signed) and a1."""
    x = bench.hart.x
    for n, value in enumerate((*args, 0, 0, 0)[:6]):
        x[A0 + n] = value
    x[A6], x[A7] = fid, eid
    outcome = bench.trap("HS", 9, instruction=ECALL)
    assert outcome is not None
    assert (outcome.how, bench.hart.pc, bench.mode) == ("sbi", CODE + 4, "HS")
    error = int(x[A0])
    return error - (1 << 64 if error >> 63 else 0), int(x[A1])


def test_base_answers_as_the_model_does() -> None:
    """OpenSBI 1.6 implements SBI 2.0 under implementation number 1."""
    bench = Bench("opensbi-1.6")
    assert [call(bench, Eid.BASE, n) for n in (0, 1, 2)] == [(0, 0x200_0000), (0, 1), (0, 0x1_0006)]
    assert call(bench, Eid.BASE, 3, Eid.FWFT) == (0, 1)
    assert call(Bench("opensbi-1.1"), Eid.BASE, 3, Eid.FWFT) == (0, 0)
    assert call(bench, 0xB00_0000) == (SbiError.NOT_SUPPORTED, 0)


def test_timer_uses_sstc_where_there_is_one() -> None:
    """stimecmp is written; without Sstc mtimecmp is, and the machine timer interrupt is passed on."""
    bench = Bench()
    assert call(bench, Eid.TIME, 0, 12345) == (0, 0)
    assert bench.hart.stimecmp == 12345
    board = Terminal()
    bench = Bench(isa=DEFAULT_ISA.replace("_sstc", ""), board=board)
    assert call(bench, Eid.TIME, 0, 777) == (0, 0)
    assert (board.deadline, int(bench.hart.mie) & MTIP) == (777, MTIP)
    outcome = bench.trap("HS", 1 << 63 | 7)
    assert outcome is not None
    assert (outcome.how, outcome.destination) == ("firmware-interrupt", "resume")
    assert int(bench.hart.call(csr_read, csr.MIP)) & STIP
    assert int(bench.hart.mie) & MTIP == 0


def test_ipi_and_clear_ipi_change_ssip() -> None:
    """SSIP becomes pending and is cleared by the legacy call."""
    bench = Bench()
    assert call(bench, Eid.IPI, 0, 1, 0) == (0, 0)
    assert int(bench.hart.call(csr_read, csr.MIP)) & SSIP
    assert call(bench, Eid.CLEAR_IPI)[0] == 0  # OpenSBI does not tell
    assert int(bench.hart.call(csr_read, csr.MIP)) & SSIP == 0
    assert call(bench, Eid.IPI, 0, 2, 0) == (SbiError.INVALID_PARAM, 0)


def test_console_reads_and_writes_physical_memory() -> None:
    """DBCN moves bytes between memory and the board's console and refuses what is no memory."""
    board = Terminal()
    bench = Bench(board=board)
    bench.put(DATA, b"trap")
    assert call(bench, Eid.DBCN, 0, 4, DATA, 0) == (0, 4)
    assert call(bench, Eid.DBCN, 0, 1, HOLE, 0) == (SbiError.INVALID_PARAM, 0)
    board.input = b"line"
    assert call(bench, Eid.DBCN, 1, 16, DATA, 0) == (0, 4)
    assert (board.output, bench.get(DATA, 5)) == (b"trap", b"line\0")


def test_feature_controls_medeleg() -> None:
    """FWFT feature 0 sets and clears medeleg[4,6]; a hart without the bits keeps them clear."""
    bench = Bench()
    assert call(bench, Eid.FWFT, 0, 0, 1, 0) == (0, 0)
    assert int(bench.hart.medeleg) & 0x50 == 0x50
    assert call(bench, Eid.FWFT, 1, 0) == (0, 1)
    assert call(bench, Eid.FWFT, 0, 0, 0, 1) == (0, 0)
    assert call(bench, Eid.FWFT, 0, 0, 1, 0) == (SbiError.DENIED_LOCKED, 0)
    bench = Bench("hard-wired")
    assert call(bench, Eid.FWFT, 0, 0, 1, 0) == (0, 0)
    assert call(bench, Eid.FWFT, 1, 0) == (0, 0)


def test_fault_on_a_legacy_hart_mask_is_the_callers_fault() -> None:
    """The load fault is entered into HS-mode at the ecall."""
    bench = Bench()
    bench.hart.x[A0], bench.hart.x[A7] = HOLE, Eid.SEND_IPI
    outcome = bench.trap("HS", 9, instruction=ECALL)
    assert outcome is not None
    assert outcome.how == "firmware-redirect"
    assert (bench.hart.pc, bench.hart.scause, bench.hart.sepc, bench.hart.stval) == (STVEC, 5, CODE, HOLE)


def test_reset_stops_the_hart_and_reaches_the_board() -> None:
    """The caller does not go on."""
    board = Terminal()
    bench = Bench(board=board)
    bench.hart.x[A0], bench.hart.x[A1], bench.hart.x[A6], bench.hart.x[A7] = 0, 1, 0, Eid.SRST
    outcome = bench.trap("HS", 9, instruction=ECALL)
    assert outcome is not None
    assert (outcome.destination, board.reset) == ("stopped", (0, 1))
    assert bench.firmware.records[0].state is HartState.STOPPED


def test_suspended_hart_resumes_where_it_asked_to() -> None:
    """Retentive suspend returns 0 behind the ecall; non-retentive starts at the address with a0 and a1 set."""
    bench = Bench()
    bench.hart.x[A0], bench.hart.x[A6], bench.hart.x[A7] = 0, 3, Eid.HSM
    outcome = bench.trap("HS", 9, instruction=ECALL)
    assert outcome is not None
    assert (outcome.destination, bench.hart.pc, bench.hart.x[A0]) == ("stopped", CODE + 4, 0)
    assert bench.firmware.start_pending(bench.hart)
    assert bench.hart.pc == CODE + 4
    bench.hart.x[A0], bench.hart.x[A1], bench.hart.x[12] = 0x8000_0000, DATA, 99
    bench.trap("HS", 9, instruction=ECALL)
    assert bench.firmware.start_pending(bench.hart)
    assert (bench.mode, bench.hart.pc, bench.hart.x[A0], bench.hart.x[A1]) == ("HS", DATA, 0, 99)
    assert bench.firmware.records[0].state is HartState.STARTED


def test_stopped_hart_stays_stopped_until_it_is_started() -> None:
    """start_pending says whether the hart runs."""
    bench = Bench()
    bench.hart.x[A6], bench.hart.x[A7] = 1, Eid.HSM
    bench.trap("HS", 9, instruction=ECALL)
    assert not bench.firmware.start_pending(bench.hart)

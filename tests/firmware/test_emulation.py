"""What firmware does itself: misaligned accesses, counters, and the faults on the way."""

from __future__ import annotations

import pytest
from firmware_bench import CODE, DATA, HOLE, RAM, SIZE, STVEC, VSTVEC, Bench

from trapline.privilege import csr_numbers as csr
from trapline.privilege.fields import HSTATUS_GVA, MSTATUS_FS, MSTATUS_MPRV, MSTATUS_MXR
from trapline.privilege.isa_string import DEFAULT_ISA

PATTERN = bytes(range(0x81, 0x91))
A0, A1 = 10, 11
ALL_ONES = (1 << 64) - 1
ADDRESS = DATA + 1

# rd or rs2 is a0 (fa0), the base a1.
LOADS = {
    "lh": (0x0005_9503, 0xFFFF_FFFF_FFFF_8382),
    "lhu": (0x0005_D503, 0x8382),
    "lw": (0x0005_A503, 0xFFFF_FFFF_8584_8382),
    "lwu": (0x0005_E503, 0x8584_8382),
    "ld": (0x0005_B503, 0x8988_8786_8584_8382),
    "c.lw": (0x4188, 0xFFFF_FFFF_8584_8382),
    "c.ld": (0x6188, 0x8988_8786_8584_8382),
}
FP_LOADS = {
    "flw": (0x0005_A507, 0xFFFF_FFFF_8584_8382),
    "fld": (0x0005_B507, 0x8988_8786_8584_8382),
    "c.fld": (0x2188, 0x8988_8786_8584_8382),
}
STORES = {
    "sh": (0x00A5_9023, 2),
    "sw": (0x00A5_A023, 4),
    "sd": (0x00A5_B023, 8),
    "c.sw": (0xC188, 4),
    "c.sd": (0xE188, 8),
}
FP_STORES = {"fsw": (0x00A5_A027, 4), "fsd": (0x00A5_B027, 8)}


def length(instruction: int) -> int:
    """Return 2 or 4."""
    return 4 if instruction & 3 == 3 else 2


@pytest.mark.parametrize("mode", ["VU", "VS", "U", "HS"])
@pytest.mark.parametrize("name", LOADS)
def test_misaligned_load_is_emulated(name: str, mode: str) -> None:
    """The register gets the extended value, the code goes on after the instruction, nobody else notices."""
    instruction, value = LOADS[name]
    bench = Bench()
    bench.put(DATA, PATTERN)
    bench.hart.x[A1] = ADDRESS
    before = int(bench.hart.mstatus)
    outcome = bench.trap(mode, 4, ADDRESS, instruction=instruction, gva=int(mode[0] == "V"))
    assert outcome is not None
    assert (outcome.how, outcome.destination, bench.mode) == ("firmware-emulate", "resume", mode)
    assert (bench.hart.x[A0], bench.hart.pc) == (value, CODE + length(instruction))
    assert int(bench.hart.mstatus) & (MSTATUS_MPRV | MSTATUS_MXR) == before & (MSTATUS_MPRV | MSTATUS_MXR)
    assert bench.hart.vscause == 0


@pytest.mark.parametrize("name", FP_LOADS)
def test_misaligned_fp_load_is_boxed_and_dirties_both_levels(name: str) -> None:
    """A single is NaN-boxed; FS becomes Dirty in sstatus and vsstatus."""
    instruction, value = FP_LOADS[name]
    bench = Bench()
    bench.put(DATA, PATTERN)
    bench.write(csr.VSSTATUS, 1 << 13)
    bench.trap("VU", 4, ADDRESS, instruction=instruction, gva=1)
    assert bench.hart.f[A0] == value
    assert int(bench.hart.vsstatus) & MSTATUS_FS == MSTATUS_FS == int(bench.hart.mstatus) & MSTATUS_FS


@pytest.mark.parametrize("name", [*STORES, *FP_STORES])
def test_misaligned_store_is_emulated(name: str) -> None:
    """Exactly the bytes of the access are written."""
    instruction, size = {**STORES, **FP_STORES}[name]
    bench = Bench()
    (bench.hart.f if name in FP_STORES else bench.hart.x)[A0] = 0x1122_3344_5566_7788
    outcome = bench.trap("VS", 6, ADDRESS, instruction=instruction, gva=1)
    assert outcome is not None
    assert outcome.how == "firmware-emulate"
    assert bench.get(DATA, 10) == b"\0" + (0x1122_3344_5566_7788).to_bytes(8, "little")[:size] + bytes(9 - size)


@pytest.mark.parametrize(
    ("name", "cause", "instruction"),
    [("lr.d", 4, 0x1005_B52F), ("sc.d", 6, 0x18A5_B52F), ("amoadd.d", 6, 0x00A5_B52F)],
)
def test_atomics_are_redirected_as_they_are(name: str, cause: int, instruction: int) -> None:
    """mtval2, mtinst and GVA of the trap are kept."""
    bench = Bench()
    outcome = bench.trap("VU", cause, ADDRESS, instruction=instruction, tval2=0x11, tinst=0, gva=1)
    assert outcome is not None
    assert (outcome.how, outcome.destination) == ("firmware-redirect", "HS")
    h = bench.hart
    assert (h.pc, h.scause, h.stval, h.htval) == (STVEC, cause, ADDRESS, 0x11)
    assert int(h.hstatus) & HSTATUS_GVA


def test_fault_of_a_byte_is_redirected_as_itself() -> None:
    """A store over the end of memory is an access fault at the first byte that failed; earlier bytes stay written."""
    bench = Bench()
    bench.hart.x[A0] = ALL_ONES
    end = RAM + SIZE
    outcome = bench.trap("VS", 6, end - 3, instruction=STORES["sd"][0], gva=1)
    assert outcome is not None
    assert outcome.delivered is not None
    assert (outcome.trap.cause, outcome.delivered.cause, outcome.destination) == (6, 7, "HS")
    assert (bench.hart.scause, bench.hart.stval, bench.hart.sepc) == (7, end, CODE)
    assert bench.get(end - 4, 4) == b"\0\xff\xff\xff"
    assert int(bench.hart.hstatus) & HSTATUS_GVA


def test_fault_of_a_byte_follows_hedeleg_of_its_own_cause() -> None:
    """The inner cause decides where the trap goes, and the original's tinst is fixed up with the distance."""
    bench = Bench()
    bench.write(csr.HEDELEG, 1 << 5)
    transformed = LOADS["ld"][0] & ~(31 << 15)
    outcome = bench.trap("VU", 4, RAM + SIZE - 2, instruction=LOADS["ld"][0], tinst=transformed, gva=1)
    assert outcome is not None
    assert outcome.delivered is not None
    assert (bench.mode, bench.hart.pc, bench.hart.vscause) == ("VS", VSTVEC, 5)
    assert outcome.delivered.tinst == transformed | 2 << 15


def test_old_firmware_does_not_fix_tinst_up() -> None:
    """1.0 passes the byte access's own tinst on."""
    bench = Bench("opensbi-1.0")
    transformed = LOADS["ld"][0] & ~(31 << 15)
    outcome = bench.trap("VU", 4, RAM + SIZE - 2, instruction=LOADS["ld"][0], tinst=transformed, gva=1)
    assert outcome is not None
    assert outcome.delivered is not None
    assert outcome.delivered.tinst == 0


@pytest.mark.parametrize("cause", [2, 4, 5])
def test_fault_while_fetching_the_instruction_is_a_fetch_fault(cause: int) -> None:
    """The load access fault of the fetch becomes cause 1 at the instruction's address."""
    bench = Bench()
    outcome = bench.trap("VS", cause, 0 if cause == 2 else ADDRESS, epc=HOLE)
    assert outcome is not None
    assert (bench.hart.scause, bench.hart.stval, bench.hart.sepc) == (1, HOLE, HOLE)


def test_instruction_comes_from_mtinst_where_it_is_valid() -> None:
    """A transformed compressed instruction is two bytes long and nothing is fetched."""
    bench = Bench()
    bench.put(DATA, PATTERN)
    bench.trap("VS", 4, ADDRESS, epc=HOLE, tinst=LOADS["lw"][0] & ~(31 << 15) & ~2, gva=1)
    assert (bench.hart.x[A0], bench.hart.pc) == (LOADS["lw"][1], HOLE + 2)


@pytest.mark.parametrize(("model", "granted"), [("opensbi-1.6", True), ("opensbi-1.1", False), ("hard-wired", False)])
def test_host_fwft_delegates_misaligned_exceptions(model: str, granted: bool) -> None:
    """medeleg[4,6] are set where the firmware offers FWFT and the hart has the bits; else it emulates on."""
    bench = Bench(model, host_fwft=True)
    assert bench.firmware.host_fwft_granted is granted
    bench.put(DATA, PATTERN)
    outcome = bench.trap("VS", 4, ADDRESS, instruction=LOADS["lw"][0], gva=1)
    assert (outcome is None) is granted
    assert bench.mode == ("HS" if granted else "VS")


RDTIME, RDCYCLE, RDTIME_U, WRITE_TIME = 0xC010_2573, 0xC000_2573, 0xC010_2573, 0xC010_1573
NO_COUNTERS = DEFAULT_ISA.replace("_zicntr", "")


@pytest.mark.parametrize("mode", ["HS", "U", "VS", "VU"])
def test_time_of_a_hart_without_it_is_emulated(mode: str) -> None:
    """The counter is provided where mcounteren, hcounteren and scounteren allow; a guest's has htimedelta."""
    bench = Bench(isa=NO_COUNTERS)
    bench.hart.instret = 5000
    bench.hart.mcounteren = bench.hart.hcounteren = bench.hart.scounteren = 7
    bench.write(csr.HTIMEDELTA, 1000)
    outcome = bench.trap(mode, 2, RDTIME, instruction=RDTIME)
    assert outcome is not None
    assert (outcome.how, bench.mode, bench.hart.pc) == ("firmware-emulate", mode, CODE + 4)
    assert bench.hart.x[A0] == 500 + (1000 if mode[0] == "V" else 0)


@pytest.mark.parametrize(
    ("closed", "mode"), [("mcounteren", "HS"), ("hcounteren", "VS"), ("scounteren", "U"), ("scounteren", "VU")]
)
def test_closed_counter_is_truly_illegal(closed: str, mode: str) -> None:
    """Each level's counteren closes the counter for the modes below it."""
    bench = Bench(isa=NO_COUNTERS)
    bench.hart.mcounteren = bench.hart.hcounteren = bench.hart.scounteren = 7
    setattr(bench.hart, closed, 5)
    outcome = bench.trap(mode, 2, RDTIME, instruction=RDTIME)
    assert outcome is not None
    assert outcome.how == "firmware-redirect"


@pytest.mark.parametrize("instruction", [WRITE_TIME, 0x3400_2573, 0x1050_0073, 0x0000_100F, 0xFFFF_FFFF])
def test_truly_illegal_instruction_is_redirected_with_its_bits(instruction: int) -> None:
    """Writes of counters, other CSRs, wfi and everything else: xtval is the instruction, xtval2 and GVA are 0."""
    bench = Bench(isa=NO_COUNTERS)
    bench.hart.mcounteren = bench.hart.hcounteren = 7
    bench.trap("VS", 2, instruction, instruction=instruction, tval2=9)
    h = bench.hart
    assert (h.scause, h.stval, h.htval, int(h.hstatus) & HSTATUS_GVA) == (2, instruction, 0, 0)


def test_illegal_instruction_without_tval_is_fetched() -> None:
    """mtval 0 makes the firmware read the instruction itself."""
    bench = Bench()
    bench.trap("VS", 2, 0, instruction=0xFFFF_FFFF)
    assert bench.hart.stval == 0xFFFF_FFFF

"""The guest's PMU under the hosted KVM: counters, firmware events, snapshots, what it reads as CSRs."""

from __future__ import annotations

import pytest
from guest import BASE, run_event

from trapline.kvm.entry import enter_vcpu
from trapline.kvm.exits.native_exit import BY_REDIRECT, GO_ON, hosted_exit
from trapline.kvm.pmu.vcpu_pmu import VcpuPmu
from trapline.kvm.vm import Vm
from trapline.lang.values import MASK64, U64
from trapline.machine.aia import Aia
from trapline.privilege.isa_string import DEFAULT_ISA
from trapline.privilege.trap import take_trap
from trapline.sbi.call import SbiCall
from trapline.sbi.numbers import (
    AUTO_START,
    CLEAR_VALUE,
    INIT_SNAPSHOT,
    SET_INIT_VALUE,
    SKIP_MATCH,
    STOP_RESET,
    TAKE_SNAPSHOT,
    Eid,
    FirmwareEvent,
    SbiError,
)

NUM, INFO, CONFIG, START, STOP, READ, READ_HI, SNAPSHOT, EVENT_INFO = range(9)
CYCLES, INSTRUCTIONS, CACHE_MISSES, ILLEGAL, IPI_SENT = 1, 2, 4, 0xF0004, 0xF0006
LOAD_MISSES, RAW = 0x10019, 0x20000
MEMORY = BASE + 0x4000
FIRST = 32  # of the firmware's counters
COUNTERS = FIRST + 22


def pmu_of(policy: str = "linux-7.2") -> VcpuPmu:
    """The PMU of a vCPU that has not run."""
    vm = Vm(policy, engine="reference")
    vm.add_memory(BASE, 0x10000)
    found = vm.vcpus[0].sbi.counters
    assert found is not None
    return found


def call(pmu: VcpuPmu, function: int, *args: int) -> tuple[int, int]:
    """One SBI call: (error, value)."""
    a = (*args, 0, 0, 0, 0, 0, 0)[:6]
    done = pmu.serve(SbiCall(Eid.PMU, function, (a[0], a[1], a[2], a[3], a[4], a[5])))
    return done.error, done.value


def test_counters_are_those_of_the_hart_and_one_for_each_firmware_event() -> None:
    """54 counters, the second a hole; a hardware counter names its CSR, all are 64 bits wide."""
    pmu = pmu_of()
    assert call(pmu, NUM) == (0, COUNTERS)
    assert call(pmu, INFO, 0) == (0, 63 << 12 | 0xC00)
    assert call(pmu, INFO, 2) == (0, 63 << 12 | 0xC02)
    assert call(pmu, INFO, 3) == (0, 63 << 12 | 0xC03)
    assert call(pmu, INFO, FIRST) == (0, 1 << 63 | 63 << 12)
    assert call(pmu, INFO, 1) == call(pmu, INFO, 64) == (SbiError.INVALID_PARAM, 0)
    assert call(pmu, INFO, COUNTERS) == (0, 0)


def test_no_pmu_without_sscofpmf_and_before_6_3() -> None:
    """On a host without privilege filters, and before 6.3, the extension is not there."""
    assert Vm("linux-7.2", isa=DEFAULT_ISA.replace("_sscofpmf", "")).vcpus[0].sbi.counters is None
    assert Vm("linux-6.2").vcpus[0].sbi.counters is None
    probe = "li a7, 0x10\n li a6, 3\n li a0, 0x504d55\n ecall\n mv a2, a1"
    assert run_event("linux-7.2", probe).x("a2") == 1
    assert run_event("linux-7.2", probe, isa=DEFAULT_ISA.replace("_sscofpmf", "")).x("a2") == 0


def test_matching_an_event() -> None:
    """Fixed counters for cycles and instructions, the first free one for the rest, none for what the host lacks."""
    pmu = pmu_of()
    everything = (1 << COUNTERS) - 1
    assert call(pmu, CONFIG, 0, everything, 0, CYCLES) == (0, 0)
    assert call(pmu, CONFIG, 3, 1, 0, INSTRUCTIONS) == (0, 2)
    assert call(pmu, CONFIG, 0, everything, 0, LOAD_MISSES) == (0, 3)
    assert call(pmu, CONFIG, 0, everything, 0, RAW, 0x20003) == (0, 4)
    assert call(pmu, CONFIG, 0, everything, 0, ILLEGAL) == (0, FIRST)
    assert call(pmu, CONFIG, 0, everything, 0, IPI_SENT) == (0, FIRST + 1)
    assert call(pmu, CONFIG, FIRST, 1, 0, IPI_SENT)[0] == SbiError.NOT_SUPPORTED
    for event in (CACHE_MISSES, 0x10000, 0x10018, 0xF0016):
        assert call(pmu, CONFIG, 0, everything, 0, event)[0] == SbiError.NOT_SUPPORTED
    assert call(pmu, CONFIG, 0, 1 << COUNTERS, 0, CYCLES)[0] == SbiError.INVALID_PARAM
    assert call(pmu, CONFIG, 0, 0, 0, CYCLES)[0] == SbiError.INVALID_PARAM
    assert call(pmu, CONFIG, 5, 1, SKIP_MATCH, ILLEGAL)[0] == SbiError.FAILED
    assert call(pmu, CONFIG, FIRST, 1, SKIP_MATCH, ILLEGAL) == (0, FIRST)


@pytest.mark.parametrize(("policy", "found"), [("linux-6.12", SbiError.NOT_SUPPORTED), ("linux-7.2", SbiError.SUCCESS)])
def test_raw_events_of_the_second_kind(policy: str, found: SbiError) -> None:
    """KVM knows them since it implements version 3.0 of the extension."""
    assert call(pmu_of(policy), CONFIG, 0, (1 << COUNTERS) - 1, 0, 0x30000)[0] == found


COUNT_TRAPS = """
    li a7, 0x504d55
    li a6, 2
    li a0, 0
    li a1, -1
    srli a1, a1, 10
    li a2, {flags}
    li a3, 0x20000
    li a4, 0x20001
    ecall
    csrr a2, hpmcounter3
    {traps}
    csrr a3, hpmcounter3
    sub a2, a3, a2
"""


@pytest.mark.parametrize(("flags", "counted"), [(CLEAR_VALUE | AUTO_START, 4), (CLEAR_VALUE | AUTO_START | 1 << 6, 0)])
@pytest.mark.parametrize("engine", ["native", "reference"])
def test_the_hart_counts_other_events_of_the_guest(engine: str, flags: int, counted: int) -> None:
    """Three calls and the reading itself are exceptions of VS-mode; with SINH none of them counts."""
    calls = "li a7, 0x10\n li a6, 0\n ecall\n ecall\n ecall"
    outcome = run_event("linux-7.2.9", COUNT_TRAPS.format(flags=flags, traps=calls), engine=engine)
    assert outcome.guest_sees is None
    assert outcome.x("a2") == counted


def test_a_reset_counter_leaves_the_hart() -> None:
    """A counter of the hart counts for the guest's modes alone, and for nobody once it is reset."""
    pmu = pmu_of()
    hart = pmu.vcpu.hart
    assert call(pmu, CONFIG, 3, 1, AUTO_START, LOAD_MISSES) == (0, 3)
    assert int(hart.mhpmevent[3]) == 7 << 60 | LOAD_MISSES
    call(pmu, STOP, 3, 1, STOP_RESET)
    assert int(hart.mhpmevent[3]) == 0


def test_a_firmware_event_is_counted_while_started() -> None:
    """It starts at the given value, and once; a stopped or reset counter counts no more."""
    pmu = pmu_of()
    call(pmu, CONFIG, FIRST, 1, 0, ILLEGAL)
    pmu.count(FirmwareEvent.ILLEGAL_INSN)
    assert call(pmu, READ, FIRST) == (0, 0)
    assert call(pmu, START, FIRST, 1, SET_INIT_VALUE, 100) == (0, 0)
    assert call(pmu, START, FIRST, 1)[0] == SbiError.ALREADY_STARTED
    pmu.count(FirmwareEvent.ILLEGAL_INSN)
    pmu.count(FirmwareEvent.SET_TIMER)
    assert call(pmu, READ, FIRST) == (0, 101)
    assert call(pmu, READ_HI, FIRST) == (0, 0)
    assert call(pmu, STOP, FIRST, 1) == (0, 0)
    assert call(pmu, STOP, FIRST, 1, STOP_RESET)[0] == SbiError.ALREADY_STOPPED
    assert call(pmu, READ, FIRST)[0] == SbiError.INVALID_PARAM
    assert call(pmu, START, FIRST, 1) == (0, 0)  # nothing is configured: passed over
    assert call(pmu, STOP, COUNTERS - 1, 3)[0] == SbiError.INVALID_PARAM


def test_a_remote_sfence_is_counted_as_the_hfence_that_it_is() -> None:
    """KVM counts hfence.vvma where other implementations count sfence.vma."""
    pmu = pmu_of()
    call(pmu, CONFIG, FIRST, 1, AUTO_START, 0xF0000 | FirmwareEvent.HFENCE_VVMA_SENT)
    pmu.count(FirmwareEvent.SFENCE_VMA_SENT)
    assert call(pmu, READ, FIRST) == (0, 1)


def test_hardware_counters_count_the_guest_by_mode() -> None:
    """Instructions of VS and VU, but for filtered ones; with the bug each reading adds the whole count again."""
    pmu = pmu_of("linux-7.2.8")
    retired = pmu.vcpu.hart.mode_instret
    call(pmu, CONFIG, 0, 1, 0, CYCLES)
    assert call(pmu, READ, 0) == (0, 0)
    assert call(pmu, START, 0, 1, SET_INIT_VALUE, 1000) == (0, 0)
    retired[4], retired[5], retired[1] = 30, 4, 500
    assert call(pmu, READ, 0) == (0, 1034)
    assert call(pmu, READ, 0) == (0, 1068)
    assert call(pmu, STOP, 0, 1, STOP_RESET) == (0, 0)
    assert call(pmu, READ, 0)[0] == SbiError.INVALID_PARAM
    call(pmu, CONFIG, 0, 4, CLEAR_VALUE | (1 << 6) | AUTO_START, INSTRUCTIONS)
    retired[4], retired[5] = 37, 400
    assert call(pmu, READ, 2) == (0, 7)


@pytest.mark.parametrize("policy", ["xvisor", "linux-6.12.112", "linux-7.2.9", "linux-7.3"])
def test_reading_without_the_bug_is_stable(policy: str) -> None:
    """A policy without the bug reads what was counted."""
    pmu = pmu_of(policy)
    call(pmu, CONFIG, 0, 1, AUTO_START, CYCLES)
    pmu.vcpu.hart.mode_instret[5] = 9
    assert [call(pmu, READ, 0) for _ in range(2)] == [(0, 9), (0, 9)]


@pytest.mark.parametrize(("policy", "kept"), [("linux-7.2.8", 100), ("linux-7.2.9", 101), ("linux-6.12.111", 100)])
def test_a_firmware_counter_that_is_started_again(policy: str, kept: int) -> None:
    """It goes on where it stopped; with the bug at its initial value."""
    pmu = pmu_of(policy)
    call(pmu, CONFIG, FIRST, 1, 0, ILLEGAL)
    call(pmu, START, FIRST, 1, SET_INIT_VALUE, 100)
    pmu.count(FirmwareEvent.ILLEGAL_INSN)
    call(pmu, STOP, FIRST, 1)
    call(pmu, START, FIRST, 1)
    assert call(pmu, READ, FIRST) == (0, kept)


@pytest.mark.parametrize(("policy", "chosen"), [("linux-6.12", 0), ("linux-7.2", SbiError.INVALID_PARAM)])
def test_a_set_of_counters_that_wraps(policy: str, chosen: int) -> None:
    """A base of -1 and bit 1 of the mask is counter 0 where the sum wraps, and refused since."""
    pmu = pmu_of(policy)
    call(pmu, CONFIG, 0, 1, 0, CYCLES)
    assert call(pmu, START, (1 << 64) - 1, 2)[0] == chosen


def test_snapshots() -> None:
    """Since 6.10 values come from and go to shared memory; before, the function and its flags do nothing."""
    pmu = pmu_of("linux-6.12")
    memory = pmu.vcpu.vm
    assert call(pmu, STOP, FIRST, 1, TAKE_SNAPSHOT)[0] == SbiError.NO_SHMEM
    assert call(pmu, SNAPSHOT, MEMORY, 0, 1)[0] == SbiError.INVALID_PARAM
    assert call(pmu, SNAPSHOT, MEMORY, 1)[0] == SbiError.INVALID_ADDRESS
    assert call(pmu, SNAPSHOT, 0x1000)[0] == SbiError.INVALID_ADDRESS
    memory.write_memory(MEMORY, b"\xff" * 4096)
    assert call(pmu, SNAPSHOT, MEMORY) == (0, 0)
    assert memory.read_memory(MEMORY, 4096) == bytes(4096)
    call(pmu, CONFIG, FIRST, 3, 0, ILLEGAL)
    call(pmu, CONFIG, FIRST, 3, 0, IPI_SENT)
    memory.write_memory(MEMORY + 16, (70).to_bytes(8, "little"))
    assert call(pmu, START, FIRST, 3, INIT_SNAPSHOT) == (0, 0)
    pmu.count(FirmwareEvent.IPI_SENT)
    assert call(pmu, STOP, FIRST, 3, TAKE_SNAPSHOT) == (0, 0)
    assert memory.read_memory(MEMORY, 24) == bytes(16) + (71).to_bytes(8, "little")
    assert call(pmu, SNAPSHOT, MASK64, MASK64) == (0, 0)
    assert call(pmu, START, FIRST, 1, INIT_SNAPSHOT)[0] == SbiError.NO_SHMEM
    assert call(pmu_of("linux-6.9"), SNAPSHOT, MEMORY)[0] == SbiError.NOT_SUPPORTED


def test_event_info() -> None:
    """Since 6.18 KVM says which of many events it can count."""
    pmu = pmu_of()
    entries = [CYCLES, CACHE_MISSES, ILLEGAL, 0x10009, 0x20000]
    memory = pmu.vcpu.vm
    memory.write_memory(MEMORY, b"".join(n.to_bytes(16, "little") for n in entries))
    assert call(pmu, EVENT_INFO, MEMORY, 0, len(entries)) == (0, 0)
    data = memory.read_memory(MEMORY, 16 * len(entries))
    assert [data[16 * n + 4] for n in range(len(entries))] == [1, 0, 1, 0, 1]
    assert call(pmu, EVENT_INFO, MEMORY + 8, 0, 1)[0] == SbiError.INVALID_PARAM
    assert call(pmu, EVENT_INFO, MEMORY, 0, 0)[0] == SbiError.INVALID_PARAM
    assert call(pmu, EVENT_INFO, MEMORY, 0, 1 << 59)[0] == SbiError.FAILED
    assert call(pmu, EVENT_INFO, MEMORY, 0, 1 << 60)[0] == SbiError.INVALID_PARAM
    assert call(pmu_of("linux-7.2.5"), EVENT_INFO, MEMORY, 0, 1 << 60)[0] == SbiError.FAILED
    assert call(pmu, EVENT_INFO, 0x1000, 0, 1)[0] == SbiError.FAILED
    assert call(pmu_of("linux-6.17"), EVENT_INFO, MEMORY, 0, 1)[0] == SbiError.NOT_SUPPORTED


def test_before_7_0_the_counter_past_the_array_says_whether_misaligned_stores_are_counted() -> None:
    """counter_get_info of 64 reads fw_event[1].started; 65 and 7.0 are refused."""
    pmu = pmu_of("linux-6.12")
    misaligned_store = 0xF0001
    assert call(pmu, INFO, 64) == (0, 0)
    call(pmu, CONFIG, FIRST, 1, AUTO_START, ILLEGAL)
    assert call(pmu, INFO, 64) == (0, 0)
    call(pmu, CONFIG, FIRST + 1, 1, AUTO_START, misaligned_store)
    assert call(pmu, INFO, 64) == (0, 1)
    assert call(pmu, INFO, 65)[0] == call(pmu_of("linux-7.0"), INFO, 64)[0] == SbiError.INVALID_PARAM


def test_a_reset_forgets_everything() -> None:
    """After a vCPU reset no event is configured and no memory shared."""
    pmu = pmu_of()
    call(pmu, CONFIG, FIRST, 1, AUTO_START, ILLEGAL)
    call(pmu, SNAPSHOT, MEMORY)
    pmu.vcpu.reset(BASE, 0)
    pmu.count(FirmwareEvent.ILLEGAL_INSN)
    assert call(pmu, READ, FIRST)[0] == SbiError.INVALID_PARAM
    assert pmu.snapshot is None


@pytest.mark.parametrize("mode", ["VS", "VU"])
def test_the_csr_of_a_counter(mode: str) -> None:
    """With a PMU, cycle is readable while an event is on it and illegal otherwise; never without counting."""
    assert run_event("linux-7.2", "csrr a2, cycle", mode).guest_sees == 2
    assert run_event("linux-7.2", "csrr a2, hpmcounter3", mode).guest_sees == 2
    if mode == "VS":
        setup = "li a7, 0x504d55\n li a6, 2\n li a0, 0\n li a1, 1\n li a2, 4\n li a3, 1\n li a4, 0\n ecall\n"
        outcome = run_event("linux-7.2", setup + " nop\n nop\n csrr a3, cycle")
        assert outcome.guest_sees is None
        assert 2 <= outcome.x("a3") <= 8


def test_legacy_calls_are_not_counted() -> None:
    """KVM counts set_timer of TIME, not that of v0.1."""
    setup = (
        "li a7, 0x504d55\n li a6, 2\n li a0, 32\n li a1, 1\n li a2, 4\n li a3, 0xf0005\n li a4, 0\n ecall\n li a0, -1\n"
    )
    for eid, counted in ((0, 0), (0x54494D45, 1)):
        outcome = run_event("linux-7.2", setup + f" li a7, {eid}\n li a6, 0\n ecall")
        found = outcome.vcpu.sbi.counters
        assert found is not None
        assert found.read(FIRST) == counted


def test_an_overflow_is_in_the_snapshot_and_happens_once() -> None:
    """A counter that passes its top sets its bit of the overflow mask; a start clears it."""
    pmu = pmu_of("linux-6.12")
    memory, retired = pmu.vcpu.vm, pmu.vcpu.hart.mode_instret
    call(pmu, SNAPSHOT, MEMORY)
    call(pmu, CONFIG, 0, 4, 0, INSTRUCTIONS)
    assert not pmu.armed
    call(pmu, START, 0, 4, SET_INIT_VALUE, MASK64 - 99)
    assert (pmu.armed, pmu.until_overflow()) == (True, 100)
    retired[5] = 40
    pmu.check_overflow()
    assert (pmu.armed, pmu.until_overflow()) == (True, 60)
    retired[5] = 103
    pmu.check_overflow()
    assert not pmu.armed
    assert pmu.vcpu.irqs_pending == 1 << 13
    assert call(pmu, STOP, 2, 1, TAKE_SNAPSHOT) == (0, 0)
    assert memory.read_memory(MEMORY, 16) == (1).to_bytes(8, "little") + (3).to_bytes(8, "little")
    call(pmu, START, 2, 1, SET_INIT_VALUE, 0)
    call(pmu, STOP, 2, 1, STOP_RESET | TAKE_SNAPSHOT)
    assert memory.read_memory(MEMORY, 8) == bytes(8)


LCOFI = """
    la t0, handler
    csrw stvec, t0
    li a7, 0x504d55
    li a6, 2
    li a0, 0
    li a1, 4
    li a2, 0
    li a3, 2
    li a4, 0
    ecall
    li t0, 0x2000
    csrs sie, t0
    csrsi sstatus, 2
    li a6, 3
    li a0, 2
    li a1, 1
    li a2, 1
    li a3, -50
    ecall
    li t1, 0
1:  addi t1, t1, 1
    j 1b
"""


def test_an_overflow_interrupts_a_guest_with_aia() -> None:
    """With AIA the guest has Sscofpmf: interrupt 13 comes exactly when the counter passes its top."""
    outcome = run_event("linux-7.2", LCOFI, host_aia=Aia("aplic-imsic", guests=1))
    assert outcome.guest_sees is not None
    assert outcome.guest_sees & 0xFF == 13
    assert 18 <= int(outcome.vcpu.hart.x[6]) <= 26


@pytest.mark.parametrize("engine", ["reference", "native"])
def test_an_overflow_interrupts_a_guest_between_its_exits(engine: str) -> None:
    """The counter passes its top at the same instruction under both engines where exits come before it."""
    looped = LCOFI.replace("1:  addi t1, t1, 1", "1:  addi t1, t1, 1\n    li a7, 0x10\n    li a6, 0\n    ecall")
    outcome = run_event("linux-7.2", looped, host_aia=Aia("aplic-imsic", guests=1), engine=engine)
    assert outcome.guest_sees is not None
    assert outcome.guest_sees & 0xFF == 13
    assert int(outcome.vcpu.hart.x[6]) == 13


@pytest.mark.parametrize(("ahead", "left"), [(7, 7), (500, 100)])
def test_native_code_goes_on_no_further_than_the_next_overflow(ahead: int, left: int) -> None:
    """Behind an exit that native code has handled, its budget ends where a counter of the hart may overflow."""
    vm = Vm("linux-7.2", engine="reference")
    vm.add_memory(BASE, 0x10000)
    hart = vm.vcpus[0].hart
    hart.call(enter_vcpu)
    now = int(hart.instret)
    hart.hedeleg, hart.kvm_action[8] = 0, BY_REDIRECT
    hart.kvm_exits_left, hart.kvm_run_end, hart.hpm_due = 9, now + 100, now + ahead
    take_trap(hart, U64(8), U64(BASE), U64(0), U64(0), U64(0), U64(0))
    assert (hosted_exit(hart), hart.ic_left, hart.ic_end) == (GO_ON, left, now + 100)

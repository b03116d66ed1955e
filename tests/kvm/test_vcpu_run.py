"""Running vCPUs: time, WFI, several vCPUs, debug, power, SBI, CSR exits."""

from __future__ import annotations

from typing import Any

import pytest
from guest import BASE, MMIO, run_event

from trapline.isa.assemble import assemble
from trapline.kvm.report.trace import TrapRecord
from trapline.kvm.uapi.numbers import EINVAL, KVM_INTERRUPT_SET, Exit, MpState, SystemEvent
from trapline.kvm.uapi.stats import hardware_traps
from trapline.kvm.vm import Vm
from trapline.policies import parse_policy

ENGINES = ["reference", "native"]
NOT_SUPPORTED, DENIED, INVALID_PARAM, DENIED_LOCKED = ((1 << 64) - n for n in (2, 4, 3, 14))

END = "li a7, 0x53525354\n li a6, 0\n li a0, 0\n li a1, 0\n ecall\n"


def start(source: str, policy: str = "linux-7.2", engine: str = "reference", **options: Any) -> Vm:
    vm = Vm(policy, engine=engine, **options)
    vm.add_memory(BASE, 0x10000)
    vm.write_memory(BASE, assemble(source, BASE))
    vm.vcpus[0].set_pc(BASE)
    return vm


TIMER = f"""
    la t0, handler
    csrw stvec, t0
    li t0, 0x20
    csrs sie, t0
    csrsi sstatus, 2
    csrr s2, time
    li t0, 50000
    add a0, s2, t0
    li a7, 0x54494d45
    li a6, 0
    ecall
1:  wfi
    beqz s1, 1b
{END}
.align 2
handler:
    csrr s3, time
    csrr s4, scause
    li s1, 1
    li t0, 0x20
    csrc sie, t0
    sret
"""


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("isa", [None, "rv64gch_zicntr_zihpm"], ids=["sstc", "without sstc"])
def test_a_wfi_until_the_timer(engine: str, isa: str | None) -> None:
    """set_timer and WFI skip time to the deadline; the guest gets cause 5 at that tick."""
    vm = start(TIMER, engine=engine, **({"isa": isa} if isa else {}))
    assert vm.vcpus[0].timer.sstc is (isa is None)
    assert vm.run(max_instructions=100_000).reason == "exit"
    x = vm.vcpus[0].hart.x
    assert int(x[20]) == 1 << 63 | 5
    assert 50_000 <= int(x[19]) - int(x[18]) < 50_010
    assert vm.stats()["wfi_exit_stat"] == 1
    assert vm.stats()["halt_wakeup"] == 1
    assert vm.stats()["halt_wait_ns"] > 4_000_000


def test_a_wfi_that_nothing_ends() -> None:
    """A guest that waits for nothing is reported as halted."""
    assert start("1: wfi\n j 1b").run(max_instructions=100_000).reason == "halted"


SMP = f"""
    la t0, handler
    csrw stvec, t0
    mv s0, a0
    bnez a0, second
    csrwi sscratch, 0
    li a7, 0x48534d
    li a6, 0
    li a0, 1
    la a1, second
    li a2, 0x77
    ecall
    mv s2, a0
    li a0, 0
    li t1, 0
1:  la t0, flag
    lw t1, 0(t0)
    beqz t1, 1b
    li a7, 0x735049
    li a6, 0
    li a0, 2
    li a1, 0
    ecall
2:  la t0, flag
    lw t1, 4(t0)
    beqz t1, 2b
{END}
second:
    la t0, handler
    csrw stvec, t0
    csrwi sie, 2
    csrsi sstatus, 2
    la t0, flag
    sw a1, 0(t0)
3:  wfi
    j 3b
.align 2
handler:
    csrr t2, scause
    csrci sip, 2
    la t0, flag
    li t1, 1
    sw t1, 4(t0)
    sret
.align 3
flag: .dword 0
"""


def test_two_vcpus_start_and_signal_each_other() -> None:
    """HSM starts the second vCPU, an IPI wakes it from WFI; twice the same run gives the same trace."""
    traces = []
    for _ in range(2):
        vm = start(SMP, engine="native", vcpus=2)
        records: list[TrapRecord] = []
        vm.on_trap = records.append
        assert vm.run(max_instructions=1_000_000).reason == "exit"
        assert vm.vcpus[1].mp_state is MpState.STOPPED
        assert vm.stats()["wfi_exit_stat"] >= 1
        traces.append(records)
    assert traces[0] == traces[1]
    assert {r.vcpu for r in traces[0]} == {0, 1}


def test_the_records_and_the_compiled_counters_agree() -> None:
    """For each cause and origin, traps that entered M or HS in hardware are as many as the records."""
    outcome = run_event("linux-7.2", f".word 0xffffffff\n li t0, {MMIO}\n lw t1, 0(t0)\n csrr t1, cycle")
    hardware = hardware_traps(outcome.vcpu.hart)
    for (cause, origin, destination), n in hardware.items():
        if destination != "VS":
            first = [r for r in outcome.records if (r.raised, r.origin, r.path[1]) == (cause, origin, destination)]
            assert len(first) == n
    assert sum(n for (_, _, d), n in hardware.items() if d != "VS") == len(outcome.records)


def test_counters_move_before_the_redirect() -> None:
    """A load access fault moves KVM's counter since 6.14, and ours always."""
    old, new = (run_event(p, "li t0, 0xc0000000\n ld t1, 0(t0)", "VU").vm.stats() for p in ("linux-6.12", "linux-7.2"))
    assert "load_access_exits" not in old
    assert new["load_access_exits"] == 1
    assert old["trapline/load-access/VU/kvm-redirect/guest"] == new["trapline/load-access/VU/kvm-redirect/guest"] == 1


def test_a_death_says_everything() -> None:
    """A kill leaves the rule, the log, registers, CSRs, code, walks and the last routes."""
    outcome = run_event("linux-6.12", "li t0, 0xc0000000\n jr t0", "VU")
    death = outcome.result.death
    assert death is not None
    assert death.title.startswith("killed: inst-access from VU at 0xc0000000; policy linux-6.12 says kill -14;")
    assert death.rule.source.startswith("no case in vcpu_exit.c")
    assert death.registers["t0"] == 0xC000_0000
    assert any(c.name == "hstatus" and "SPV" in c.meaning for c in death.csrs["HS"])
    assert death.code[0].text == "cannot be read"
    assert death.walks[-1].stage == "G" and "nothing answers" in death.walks[-1].why
    assert death.routes[-1].end == "killed" and death.routes[-1].errno == 14
    assert outcome.vm.stats()["trapline/kills"] == 1


def test_the_code_of_a_death_is_disassembled() -> None:
    """The instruction that killed is shown as text."""
    death = run_event("linux-7.2", f"li t0, {MMIO}\n amoadd.d t1, t2, (t0)").result.death
    assert death is not None
    assert death.code[0].text.startswith("amoadd.d")


def test_guest_debug_sends_breakpoints_to_the_vmm() -> None:
    """With guest debug on, ebreak is KVM_EXIT_DEBUG; it does not exist before 6.10."""
    assert Vm("linux-6.9", engine="reference").vcpus[0].set_guest_debug(1) == -EINVAL
    for policy in ("linux-6.10", "linux-7.2", "holland-2"):
        vm = start("ebreak\n1: j 1b", policy)
        assert vm.vcpus[0].set_guest_debug(1) == 0
        assert vm.run(max_instructions=100).vcpu is vm.vcpus[0]
        assert vm.vcpus[0].kvm_run.exit_reason is Exit.DEBUG
    assert vm.vcpus[0].set_guest_debug(3) == -EINVAL
    assert vm.vcpus[0].set_guest_debug(0) == 0
    assert vm.vcpus[0].config.hedeleg & 1 << 3


def test_mp_state() -> None:
    """Only vCPU 0 starts runnable; INIT_RECEIVED resets since 6.16."""
    vm = Vm("linux-6.16", engine="reference", vcpus=2)
    assert [v.get_mp_state() for v in vm.vcpus] == [MpState.RUNNABLE, MpState.STOPPED]
    vm.vcpus[0].set_pc(0x1234)
    assert vm.vcpus[0].set_mp_state(MpState.INIT_RECEIVED) == 0
    assert vm.vcpus[0].pc == 0
    assert Vm("linux-6.15", engine="reference").vcpus[0].set_mp_state(MpState.INIT_RECEIVED) == -EINVAL


def test_an_external_interrupt() -> None:
    """KVM_INTERRUPT raises the guest's supervisor external interrupt."""
    source = f"""
    la t0, h
    csrw stvec, t0
    li t0, 0x200
    csrw sie, t0
    csrsi sstatus, 2
1:  j 1b
.align 2
h:  csrr s2, scause
{END}
"""
    vm = start(source)
    assert vm.run(max_instructions=50).reason == "limit"
    assert vm.vcpus[0].interrupt(KVM_INTERRUPT_SET) == 0
    assert vm.vcpus[0].interrupt(1) == -EINVAL
    assert vm.run(max_instructions=100).reason == "exit"
    assert int(vm.vcpus[0].hart.x[18]) == 1 << 63 | 9


@pytest.mark.parametrize(("kind", "event"), [(0, SystemEvent.SHUTDOWN), (1, SystemEvent.RESET), (2, SystemEvent.RESET)])
def test_system_reset(kind: int, event: SystemEvent) -> None:
    """SRST is a system event exit with the reason."""
    vm = start(f"li a7, 0x53525354\n li a6, 0\n li a0, {kind}\n li a1, 1\n ecall")
    vm.run(max_instructions=100)
    assert vm.vcpus[0].kvm_run.exit_reason is Exit.SYSTEM_EVENT
    assert (vm.vcpus[0].kvm_run.system_event.type, vm.vcpus[0].kvm_run.system_event.data) == (event, (1,))


def test_putchar_is_forwarded() -> None:
    """Legacy console calls go to the VMM, whose answer the guest gets; ecall_exit_stat counts them."""
    outcome = run_event("linux-7.2", "li a7, 1\n li a0, 65\n ecall\n mv a2, a0")
    assert outcome.exits[0] is Exit.RISCV_SBI
    assert outcome.vcpu.kvm_run.riscv_sbi.args[0] == 65
    assert outcome.x("a2") == NOT_SUPPORTED
    assert outcome.vm.stats()["ecall_exit_stat"] == 1


@pytest.mark.parametrize(
    ("policy", "version"),
    [("linux-5.17", 2), ("linux-5.18", 3), ("linux-6.12", 0x0200_0000), ("linux-7.2", 0x0300_0000)],
)
def test_the_sbi_version_is_the_releases(policy: str, version: int) -> None:
    """get_spec_version answers as that kernel's KVM does; the implementation is KVM."""
    outcome = run_event(policy, "li a7, 0x10\n li a6, 0\n ecall\n mv a2, a1\n li a6, 1\n ecall\n mv a3, a1")
    assert (outcome.x("a2"), outcome.x("a3")) == (version, 3)


def test_probing_tells_what_is_on() -> None:
    """probe_extension says 1 for TIME, 0 for DBCN, which is off by default; what the VMM may have, it is asked."""
    probe = "li a7, 0x10\n li a6, 3\n li a0, {}\n ecall\n mv a2, a1"
    for eid, there, exits in ((0x54494D45, 1, 1), (0x4442434E, 0, 1), (0x12345, 0, 1), (0x08000001, 0, 2)):
        outcome = run_event("linux-7.2", probe.format(eid))
        assert outcome.x("a2") == there
        assert len(outcome.exits) == exits


FWFT = "li a7, 0x46574654\n li a6, {}\n li a0, {}\n li a1, {}\n li a2, {}\n ecall\n mv a3, a0"


def test_fwft_delegates_misaligned_accesses_on_request() -> None:
    """A guest that asks gets 4 and 6 itself without an exit; one that does not is redirected to."""
    code = "{}\n la t0, handler\n ld t1, 1(t0)"
    asked = run_event("linux-7.2", code.format(FWFT.format(0, 0, 1, 0)), host_fwft=True)
    assert asked.guest_sees == 4
    assert asked.vm.stats()["trapline/load-misaligned/VS/delegated"] == 1
    silent = run_event("linux-7.2", code.format(""), host_fwft=True)
    assert silent.guest_sees == 4
    assert silent.vm.stats()["load_misaligned_exits"] == 1


def test_fwft_errors() -> None:
    """Unknown features are denied, known ones that are not there not supported, 2 is no value."""
    for feature, value, error in ((0, 2, INVALID_PARAM), (1, 1, NOT_SUPPORTED), (0x100, 1, DENIED)):
        assert run_event("linux-7.2", FWFT.format(0, feature, value, 0), host_fwft=True).x("a3") == error
    assert run_event("linux-7.2", FWFT.format(0, 0, 1, 0)).x("a3") == NOT_SUPPORTED
    assert run_event("linux-6.17", FWFT.format(0, 0, 1, 0), host_fwft=True).x("a3") == NOT_SUPPORTED


def test_fwft_lock_after_a_failed_set() -> None:
    """Up to 7.1 a failed set with LOCK locked the feature; 7.2 fixed that."""
    twice = FWFT.format(0, 0, 2, 1) + "\n" + FWFT.format(0, 0, 1, 0)
    assert run_event("linux-7.1", twice, host_fwft=True).x("a3") == DENIED_LOCKED
    assert run_event("linux-7.2", twice, host_fwft=True).x("a3") == 0


def test_hfence_calls() -> None:
    """RFENCE's hfence functions were no-ops up to 6.15.3 and are not supported since, as in stable 6.12.35."""
    call = "li a7, 0x52464e43\n li a6, 5\n li a0, 1\n li a1, 0\n ecall\n mv a3, a0"
    for name in ("linux-6.14", "linux-6.15.3", "linux-6.12.34"):
        assert run_event(name, call).x("a3") == 0, name
    for name in ("linux-6.16", "linux-6.15", "linux-6.12.35", "linux-6.12"):
        assert run_event(name, call).x("a3") == NOT_SUPPORTED, name


def test_csr_emulation_by_release() -> None:
    """rdcycle is the guest's own up to 6.2; a CSR without handler is an illegal instruction."""
    assert run_event("linux-6.2", "csrr a2, cycle").vm.stats().get("csr_exit_kernel") == 0
    assert run_event("linux-6.3", "csrw cycle, zero").guest_sees == 2
    assert run_event("linux-7.2", "csrr a2, hgatp").guest_sees == 2


def test_firmware_events_that_the_guest_counts() -> None:
    """The guest's SBI PMU counts load access faults that KVM redirects, since 6.14."""
    event = (
        "li a7, 0x504d55\n li a6, 2\n li a0, 32\n li a1, 0xffff\n li a2, 4\n li a3, 0xf0002\n li a4, 0\n ecall\n"
        "li t0, 0xc0000000\n ld t1, 0(t0)"
    )
    outcome = run_event("linux-7.2", event)
    assert outcome.vcpu.sbi.counters is not None
    assert outcome.vcpu.sbi.counters.read(32) == 1


def test_an_exception_in_a_hook_reaches_the_caller() -> None:
    """What a trap hook raises comes out of run()."""
    vm = start("1: j 1b")

    def hook(record: TrapRecord) -> None:
        raise KeyError("mine")

    vm.on_trap = hook
    with pytest.raises(KeyError, match="mine"):
        vm.run(max_instructions=10)


def test_tracing_changes_nothing() -> None:
    """With and without a hook the guest executes the same instructions."""
    counts = []
    for hook in (None, lambda record: None):
        vm = start(TIMER)
        vm.on_trap = hook
        vm.run(max_instructions=100_000)
        counts.append((vm.instructions, vm.stats()))
    assert counts[0] == counts[1]


@pytest.mark.parametrize("policy", ["linux-6.18.1", "linux-6.18", "linux-6.19"])
def test_a_guest_page_fault_while_kvm_fetches(policy: str) -> None:
    """Up to 6.18.1 KVM injected the guest page fault of its own fetch; since 6.19 the guest tries again."""
    page = 0x8000_4000
    source = f"""
    la t0, handler
    csrw stvec, t0
    li t0, {page}
    jr t0
.align 2
handler:
    csrr s2, scause
{END}
"""
    vm = start(source, policy, tinst="zero", backing="4K")
    vm.write_memory(page, assemble(f"li t0, {MMIO}\n lw t1, 0(t0)\n{END}", page))
    vcpu = vm.vcpus[0]
    # Another vCPU unmaps the page between the fault and KVM's fetch.
    original = vm.slots.find

    def unmap_then_find(gpa: int) -> Any:
        if gpa == MMIO and not unmapped:
            unmapped.append(gpa)
            vm.gstage.unmap(page, 4096)
            vm.flush_all()
        return original(gpa)

    unmapped: list[int] = []
    vm.slots.find = unmap_then_find  # type: ignore[method-assign]
    vm.run(lambda v: v.kvm_run.exit_reason is Exit.MMIO, max_instructions=1000)
    assert int(vcpu.hart.x[18]) == (21 if policy == "linux-6.18.1" else 0)


def test_wrs_yields_to_the_other_vcpus() -> None:
    """A trapped wrs.nto counts, yields and goes on; before 6.11 it is an illegal instruction."""
    assert run_event("linux-6.10", "wrs.nto").guest_sees == 2
    outcome = run_event("linux-7.2", "wrs.nto")
    assert outcome.guest_sees is None
    assert outcome.vm.stats()["wrs_exit_stat"] == 1


def test_sstc_for_guests_came_with_6_0() -> None:
    """Up to 5.19 a guest that writes stimecmp gets an illegal instruction."""
    assert run_event("linux-5.19", "csrr t0, stimecmp").guest_sees == 2
    assert run_event("linux-6.0", "csrr t0, stimecmp").guest_sees is None


def test_a_policy_that_maps_nothing_is_refused() -> None:
    """Without a rule for guest page faults no guest could fetch its first instruction: an error says so."""
    with pytest.raises(ValueError, match="does not map inst-guest-page-fault"):
        Vm(parse_policy('default = "kill"', "mine"), engine="reference")


def test_immediate_exit_completes_and_returns() -> None:
    """With immediate_exit set KVM_RUN takes the VMM's answer and executes nothing."""
    vm = start(f"li t0, {MMIO}\n lw a2, 0(t0)\n1: j 1b")
    vm.run(max_instructions=100)
    vcpu = vm.vcpus[0]
    vcpu.kvm_run.mmio.data = 5
    vcpu.kvm_run.immediate_exit = True
    before = int(vcpu.hart.instret)
    assert vcpu.run(100).value == "intr"
    assert (int(vcpu.hart.x[12]), int(vcpu.hart.instret)) == (5, before)


def test_a_hung_firmware_is_not_entered_again() -> None:
    """Under a firmware that cannot go on the VM is reported as hung, with the firmware's last words."""
    vm = start("1: j 1b")
    hart = vm.vcpus[0].hart
    vm.vcpus[0].firmware_dump = "sbi_trap_error"
    assert vm.run(max_instructions=10).reason == "hung"
    assert int(hart.instret) == 0


@pytest.mark.parametrize("policy", ["bao", "hvisor"])
def test_a_hypervisor_that_lets_wfi_run(policy: str) -> None:
    """Where hstatus.VTW is clear a wfi waits in the hart and leaves it for no one."""
    timer = "csrr t1, time\n li t2, 1000\n add t1, t1, t2\n csrw stimecmp, t1"
    outcome = run_event(policy, f"li t0, 0x20\n csrs sie, t0\n {timer}\n wfi\n csrr a3, time")
    assert outcome.result.reason == "exit"
    assert outcome.x("a3") >= int(outcome.vcpu.hart.x[6])
    assert all(r.cause != 22 for r in outcome.records)

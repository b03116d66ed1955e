"""SBI calls that KVM answers in its own way, by release."""

from __future__ import annotations

import pytest
from guest import BASE, Outcome, run_event

from trapline.isa.assemble import assemble
from trapline.kvm.exits.sbi_fwft import CHECK_BIT, ENVCFG_LPE, ENVCFG_SSE, CfiFeature
from trapline.kvm.exits.sbi_own import own_answer
from trapline.kvm.uapi.numbers import Exit, MpState
from trapline.kvm.uapi.onereg import SBI_STATE, get_one_reg, reg_id, set_one_reg
from trapline.kvm.uapi.slots import SlotKind
from trapline.kvm.vcpu import Vcpu
from trapline.kvm.vm import Vm
from trapline.lang.values import MASK64
from trapline.sbi.call import SbiCall
from trapline.sbi.numbers import Eid, Feature, HartState, SbiError

INVALID_PARAM = SbiError.INVALID_PARAM & MASK64
NOT_SUPPORTED = SbiError.NOT_SUPPORTED & MASK64


def called(policy: str, eid: int, fid: int, *args: int, **options: object) -> Outcome:
    """A guest that makes one call and leaves a0 in a3, a1 in a2."""
    loads = "\n".join(f" li a{n}, {value}" for n, value in enumerate(args))
    return run_event(policy, f"{loads}\n li a7, {eid}\n li a6, {fid}\n ecall\n mv a3, a0\n mv a2, a1", **options)


def test_an_ipi_to_a_missing_hart() -> None:
    """Harts that exist get theirs all the same; the call fails since 6.14 and in fixed stable kernels."""
    for policy, error in (
        ("linux-6.5", 0),
        ("linux-6.11", 0),
        ("linux-6.12", INVALID_PARAM),
        ("linux-7.2", INVALID_PARAM),
    ):
        outcome = called(policy, Eid.IPI, 0, 0b101, 0, vcpus=2)
        assert outcome.x("a3") == error
        assert outcome.vcpu.irqs_pending & 1 << 2
        assert not outcome.vm.vcpus[1].irqs_pending
    everyone = called("linux-7.2", Eid.IPI, 0, 0, -1, vcpus=2)
    assert everyone.x("a3") == 0
    assert all(v.irqs_pending & 1 << 2 for v in everyone.vm.vcpus)


def test_unknown_functions() -> None:
    """IPI and TIME said INVALID_PARAM until they were fixed; a console function that does not exist stayed in KVM."""
    for eid in (Eid.IPI, Eid.TIME):
        assert called("linux-6.11", eid, 1).x("a3") == INVALID_PARAM
        assert called("linux-6.12", eid, 1).x("a3") == NOT_SUPPORTED
    for policy, function, forwarded in (("linux-6.18", 2, True), ("linux-6.18", 3, False), ("linux-7.2", 3, True)):
        vm = Vm(policy, engine="reference")
        vm.vcpus[0].sbi.enable("DBCN", True)
        answer = serve(vm.vcpus[0], Eid.DBCN, function)
        assert (answer == "forward") is forwarded


def serve(vcpu: Vcpu, eid: int, fid: int, *args: int) -> object:
    """Serve a call of a vCPU that does not run: the error, or what else comes of it."""
    a = (*args, 0, 0, 0, 0, 0, 0)[:6]
    done = own_answer(vcpu, SbiCall(eid, fid, (a[0], a[1], a[2], a[3], a[4], a[5])))
    if done is None:
        return "forward" if eid == Eid.DBCN else None
    return done.effect.value if done.effect.value != "return" else done.error


def test_hart_status_by_release() -> None:
    """A vCPU in WFI is SUSPENDED; before the fix it was not seen as such by another."""
    for policy, status in (("linux-6.11", HartState.STARTED), ("linux-7.2", HartState.SUSPENDED)):
        vm = Vm(policy, engine="reference", vcpus=2)
        vm.vcpus[1].mp_state = MpState.RUNNABLE
        vm.vcpus[1].blocked = True
        assert vm.vcpus[0].sbi.hart_state(1) is status


def test_system_suspend_is_checked_then_forwarded() -> None:
    """Type, address, other vCPUs, in this order; then the VMM's, and the vCPU begins at the resume address."""
    vm = Vm("linux-7.2", engine="reference", vcpus=2)
    vm.add_memory(BASE, 0x10000)
    one, other = vm.vcpus
    other.mp_state = MpState.RUNNABLE
    assert serve(one, Eid.SUSP, 0, 1, 0x1000) == SbiError.INVALID_PARAM
    assert serve(one, Eid.SUSP, 0, 0, 0x1000) == SbiError.INVALID_ADDRESS
    assert serve(one, Eid.SUSP, 0, 0, BASE) == SbiError.DENIED
    other.mp_state = MpState.STOPPED
    assert serve(one, Eid.SUSP, 0, 1 << 32, BASE + 8, 77) == "gone"
    assert one.sbi.leaving == "forward"
    one._ready()
    assert (one.pc, int(one.hart.x[10]), int(one.hart.x[11])) == (BASE + 8, 0, 77)


def test_system_suspend_reaches_the_vmm() -> None:
    """KVM_EXIT_RISCV_SBI once the VMM has enabled the extension; before that it is not there."""
    assert called("linux-7.2", Eid.SUSP, 0, 0, BASE).x("a3") == NOT_SUPPORTED
    vm = Vm("linux-7.2", engine="reference")
    vm.add_memory(BASE, 0x10000)
    vm.write_memory(
        BASE, assemble(f"li a7, {Eid.SUSP}\n li a6, 0\n li a0, 0\n li a1, {BASE + 0x100}\n li a2, 5\n ecall", BASE)
    )
    vm.vcpus[0].set_pc(BASE)
    vm.vcpus[0].sbi.enable("SUSP", True)
    result = vm.run(max_instructions=100)
    run = vm.vcpus[0].kvm_run
    assert (result.reason, run.exit_reason, run.riscv_sbi.extension_id) == ("exit", Exit.RISCV_SBI, Eid.SUSP)
    assert run.riscv_sbi.args[:3] == (0, BASE + 0x100, 5)


def test_steal_time() -> None:
    """The sequence is even and moves each time the vCPU is loaded; waiting that the host counted is added."""
    outcome = called("linux-7.2", Eid.STA, 0, BASE + 0x2000, 0, 0)
    assert outcome.x("a3") == 0
    vm, vcpu = outcome.vm, outcome.vcpu
    state = reg_id(SBI_STATE, 0)
    assert get_one_reg(vcpu, state) == BASE + 0x2000
    before = int.from_bytes(vm.read_memory(BASE + 0x2000, 4), "little")
    vcpu.sbi.steal.run_delay += 1234
    vcpu.sbi.steal.record()
    assert int.from_bytes(vm.read_memory(BASE + 0x2000, 4), "little") == before + 2
    assert int.from_bytes(vm.read_memory(BASE + 0x2008, 8), "little") == 1234
    set_one_reg(vcpu, state, MASK64)
    vcpu.sbi.steal.record()
    assert int.from_bytes(vm.read_memory(BASE + 0x2000, 4), "little") == before + 2
    assert called("linux-7.2", Eid.STA, 0, BASE + 0x20, 0, 0).x("a3") == INVALID_PARAM
    assert called("linux-7.2", Eid.STA, 0, 0x40, 0, 0).x("a3") == SbiError.INVALID_ADDRESS & MASK64


@pytest.mark.parametrize(
    ("policy", "hartid", "status"),
    [
        ("linux-6.12.111", 77, (0, 0)),
        ("linux-6.12.112", 77, (INVALID_PARAM, 0)),
        ("linux-7.2", 77, (INVALID_PARAM, 0)),
        ("linux-7.2", 1 << 32, (0, 0)),
        ("linux-7.2", 1 << 31, (INVALID_PARAM, 0)),
        ("linux-7.2", MASK64, (INVALID_PARAM, 0)),
    ],
)
def test_status_of_a_hart_that_does_not_exist(policy: str, hartid: int, status: tuple[int, int]) -> None:
    """The error was lost before it was propagated; the upper half of a hart id is not looked at."""
    outcome = called(policy, Eid.HSM, 2, hartid)
    assert (outcome.x("a3"), outcome.x("a2")) == status


@pytest.mark.parametrize(
    ("policy", "kind", "error"),
    [
        ("linux-6.12", SlotKind.NONE, SbiError.FAILED),
        ("linux-6.12", SlotKind.HOLE, SbiError.FAILED),
        ("linux-6.12", SlotKind.READ_ONLY, SbiError.INVALID_ADDRESS),
        ("linux-7.2", SlotKind.NONE, SbiError.INVALID_ADDRESS),
        ("linux-7.2", SlotKind.HOLE, SbiError.INVALID_ADDRESS),
        ("linux-7.2", SlotKind.RAM, 0),
    ],
)
def test_shared_memory_that_cannot_be_written(policy: str, kind: SlotKind, error: int) -> None:
    """Steal time in a hole, or in memory that the VMM may not touch, is an error and nothing else."""
    vm = Vm(policy, engine="reference")
    vm.add_memory(0x4000_0000, 0x1000, kind)
    assert serve(vm.vcpus[0], Eid.STA, 0, 0x4000_0000) == error


def test_a_kernel_without_v01() -> None:
    """Without RISCV_SBI_V01 its calls are not there, and all ones is an extension without functions."""
    vm = Vm("linux-7.2", engine="reference")
    vm.vcpus[0].sbi.leave_out_v01()
    assert vm.vcpus[0].sbi.enabled_rule(0) is None
    answer = own_answer(vm.vcpus[0], SbiCall(Eid.BASE, 3, (MASK64, 0, 0, 0, 0, 0)))
    assert answer is not None
    assert answer.value == 1


@pytest.mark.parametrize(
    ("policy", "error", "reached"),
    [
        ("linux-6.12.116", INVALID_PARAM, 0),
        ("linux-6.12.117", 0, 1),
        ("linux-7.2", INVALID_PARAM, 0),
        ("linux-7.3", 0, 1),
    ],
)
def test_an_ipi_past_a_far_hart(policy: str, error: int, reached: int) -> None:
    """A vCPU that was made before another, with an id far above the mask, ended the search for harts."""
    vm = Vm(policy, vcpus=3, vcpu_ids=(0, 70, 1), engine="reference")
    answer = own_answer(vm.vcpus[0], SbiCall(Eid.IPI, 0, (2, 0, 0, 0, 0, 0)))
    assert answer is not None
    assert answer.error & MASK64 == error
    assert (vm.vcpu(1).irqs_pending >> 2 & 1, vm.vcpu(70).irqs_pending) == (reached, 0)


def test_software_checks_are_delegated_while_control_flow_features_are_on() -> None:
    """hedeleg[18] is set with the first of LANDING_PAD and SHADOW_STACK, cleared with the last, and by a reset."""
    vcpu = Vm("linux-7.3", engine="reference").vcpus[0]
    pad = CfiFeature(vcpu, Feature.LANDING_PAD, "henvcfg", ENVCFG_LPE)
    stack = CfiFeature(vcpu, Feature.SHADOW_STACK, "henvcfg", ENVCFG_SSE)
    seen = []
    for feature, value in ((pad, 1), (stack, 1), (pad, 0), (stack, 0), (stack, 2), (pad, 1)):
        feature.write(value)
        seen.append(bool(vcpu.config.hedeleg & CHECK_BIT))
    pad.reset()
    assert seen == [True, True, True, False, False, True]
    assert not vcpu.config.hedeleg & CHECK_BIT
    assert vcpu.config.hedeleg == vcpu.policy.hedeleg

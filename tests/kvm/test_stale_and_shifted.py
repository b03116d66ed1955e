"""Two bugs of KVM that 7.2 and its stable releases ended: stale FWFT features, and interrupt 13 in vsip and hvip."""

from __future__ import annotations

import pytest
from guest import BASE, run_event

from trapline.isa.assemble import assemble
from trapline.kvm.uapi import onereg as o
from trapline.kvm.uapi.isa_ext import ISA_EXTENSIONS
from trapline.kvm.uapi.numbers import ENOENT, IRQ_PMU_OVF
from trapline.kvm.uapi.onereg import OneRegError, get_one_reg, reg_id, reg_list, set_one_reg
from trapline.kvm.vcpu import Vcpu
from trapline.kvm.vm import Vm
from trapline.machine.aia import Aia
from trapline.policies import load_policy, parse_policy
from trapline.privilege.isa_string import DEFAULT_ISA
from trapline.sbi.numbers import Feature

STALE = 'extends = "linux-7.3"\ndefault = "kill"\n[[bug]]\nname = "fwft-stale-feature"\nsource = "as up to 7.1"\n'
SIP = reg_id(o.CSR, o.GENERAL_CSRS.index("hvip"))
OVERFLOW = 1 << IRQ_PMU_OVF
IMSIC = Aia("aplic-imsic", guests=1)
# sie.LCOFIE on, sstatus.SIE off: a WFI ends although nothing is taken.
WAIT = "li t0, 0x2000\n csrw sie, t0\n csrci sstatus, 2\n wfi\n csrr a3, sip"


def _without_svade(policy: object) -> Vcpu:
    cpu = Vm(policy, engine="reference", isa=f"{DEFAULT_ISA}_svade").vcpus[0]  # type: ignore[arg-type]
    set_one_reg(cpu, reg_id(o.ISA_EXT, ISA_EXTENSIONS.index("svade")), 0)
    return cpu


@pytest.mark.parametrize(("policy", "there"), [("linux-7.3", False), (STALE, True)])
def test_a_feature_goes_with_its_extension(policy: str, there: bool) -> None:
    """A VMM that takes Svade from the guest takes A/D updating by FWFT too; with the bug it stays."""
    cpu = _without_svade(parse_policy(policy) if "\n" in policy else policy)
    register = reg_id(o.SBI_STATE, 3 * o.FWFT_FEATURES.index(Feature.PTE_AD_HW_UPDATING), subtype=o.SBI_FWFT)
    assert (register in reg_list(cpu)) is there
    assert (cpu.sbi.feature(Feature.PTE_AD_HW_UPDATING) is not None) is there
    if there:
        assert get_one_reg(cpu, register) == 1
    else:
        with pytest.raises(OneRegError) as caught:
            get_one_reg(cpu, register)
        assert caught.value.errno == ENOENT


@pytest.mark.parametrize(
    ("policy", "bug"),
    [
        ("linux-6.9", False), ("linux-6.10", True), ("linux-6.12.117", True), ("linux-7.1", True),
        ("linux-7.2.6", True), ("linux-7.2.11", False), ("linux-7.2.13", False), ("linux-7.3", False),
    ],
)  # fmt: skip
def test_where_interrupt_13_is_shifted(policy: str, bug: bool) -> None:
    """Real kernels on AIA hosts were seen to have it up to 7.2.6, and no more from 7.2.11 on."""
    assert load_policy(policy).has_bug("vsip-hvip-conversion") is bug


@pytest.mark.parametrize(("policy", "sip"), [("linux-6.12.117", 0x222), ("linux-7.2.13", 0x2222)])
def test_sip_as_the_vmm_sets_it(policy: str, sip: int) -> None:
    """ONE_REG's sip sets what the guest then reads, and what ONE_REG reads back: interrupt 13 too once it is mended."""
    vm = Vm(policy, engine="reference", host_aia=IMSIC)
    vm.add_memory(BASE, 0x1000)
    vm.write_memory(BASE, assemble("csrr a3, sip\n1:\n j 1b", BASE))
    cpu = vm.vcpus[0]
    cpu.set_pc(BASE)
    set_one_reg(cpu, SIP, (1 << 64) - 1)
    assert get_one_reg(cpu, SIP) == sip
    vm.run(max_instructions=4)
    assert int(cpu.hart.x[13]) == sip


@pytest.mark.parametrize("engine", ["reference", "native"])
@pytest.mark.parametrize(("policy", "wakes"), [("linux-6.12.117", False), ("linux-7.2.13", True)])
def test_interrupt_13_ends_a_wait(engine: str, policy: str, wakes: bool) -> None:
    """A pending counter overflow that the guest has enabled ends its WFI; with the bug the vCPU halts."""
    vm = Vm(policy, engine=engine, host_aia=IMSIC)
    vm.add_memory(BASE, 0x1000)
    vm.write_memory(BASE, assemble(WAIT + "\n1:\n j 1b", BASE))
    cpu = vm.vcpus[0]
    cpu.set_pc(BASE)
    cpu.set_interrupt(IRQ_PMU_OVF)
    result = vm.run(max_instructions=100)
    assert (result.reason == "limit") is wakes
    assert bool(int(cpu.hart.x[13]) & OVERFLOW) is wakes


def test_a_failed_set_that_locks() -> None:
    """Up to 7.1 the flags of an FWFT set are kept before its value is refused: the next set is DENIED_LOCKED."""
    twice = "".join(
        f"li a0, 0\n li a1, {value}\n li a2, {flags}\n li a6, 0\n li a7, 0x46574654\n ecall\n"
        for value, flags in ((7, 1), (1, 0))
    )
    found = {p: run_event(p, f"{twice} mv a3, a0", host_fwft=True).x("a3") for p in ("linux-6.18", "linux-7.1")}
    assert set(found.values()) == {(1 << 64) - 14}
    assert run_event("linux-7.2", f"{twice} mv a3, a0", host_fwft=True).x("a3") == 0

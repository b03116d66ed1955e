"""Extensions that a VMM takes away with ONE_REG are gone for the guest, and vCPUs get equal turns."""

from __future__ import annotations

import pytest
from guest import BASE

from trapline.isa.assemble import assemble
from trapline.kvm.uapi import onereg as o
from trapline.kvm.uapi.isa_ext import ISA_EXTENSIONS
from trapline.kvm.uapi.numbers import MpState
from trapline.kvm.uapi.onereg import reg_id, set_one_reg
from trapline.kvm.vcpu import Vcpu
from trapline.kvm.vm import Vm

PROGRAM = """
    la t0, handler
    csrw stvec, t0
    li t1, {memory}
{code}
    li s1, 1
    ebreak
.align 2
handler:
    csrr s2, scause
    li a7, 0x53525354
    li a6, 0
    li a0, 0
    li a1, 0
    ecall
"""


def after(code: str, *disabled: str, engine: str = "reference") -> Vcpu:
    """The vCPU after the guest ran `code`, with the named extensions disabled."""
    vm = Vm("linux-7.2", engine=engine)
    vm.add_memory(BASE, 0x10000)
    for name in disabled:
        set_one_reg(vm.vcpus[0], reg_id(o.ISA_EXT, ISA_EXTENSIONS.index(name)), 0)
    vm.write_memory(BASE, assemble(PROGRAM.format(code=code, memory=BASE + 0x8000), BASE))
    vm.vcpus[0].set_pc(BASE)
    vm.run(max_instructions=1000)
    vm.vcpus[0].put()
    return vm.vcpus[0]


def seen(code: str, *disabled: str, engine: str = "reference") -> int:
    """The cause that the guest's handler sees for `code`, 3 if it ran through."""
    return int(after(code, *disabled, engine=engine).hart.x[18])


@pytest.mark.parametrize("engine", ["reference", "native"])
@pytest.mark.parametrize(
    ("code", "disabled"),
    [
        ("cbo.zero (t1)", ("zicboz",)),
        ("cbo.flush (t1)", ("zicbom",)),
        ("fadd.d f1, f2, f3", ("d", "f")),
        ("csrr t2, fcsr", ("d", "f")),
    ],
)
def test_what_is_disabled_is_illegal(code: str, disabled: tuple[str, ...], engine: str) -> None:
    """An instruction of an extension runs while the guest has it, and is illegal once it has not."""
    user = "li t2, 0x6000\n csrs sstatus, t2\n li t2, 0xf0\n csrs senvcfg, t2\n"
    assert seen(user + code, engine=engine) == 3
    assert seen(user + code, *disabled, engine=engine) == 2


def test_page_attributes_need_svpbmt() -> None:
    """A PTE with a memory type faults once Svpbmt is disabled."""
    vm_table = BASE + 0xC000
    code = f"""
    li t2, {vm_table}
    li t3, {BASE >> 30 << 28 | 0xCF}
    li t4, {1 << 61}
    or t3, t3, t4
    sd t3, {8 * (BASE >> 30)}(t2)
    li t3, {8 << 60 | vm_table >> 12}
    csrw satp, t3
    sfence.vma
    nop
    """
    assert seen(code) == 3
    assert after(code, "svpbmt").csrs.vscause == 12


def test_vcpus_that_never_wait_get_equal_turns() -> None:
    """Four vCPUs that only count stay within a turn of each other, also when one makes exits all the time."""
    vm = Vm("linux-6.12", vcpus=4)
    vm.add_memory(BASE, 0x10000)
    code = "1: addi s0, s0, 1\n bnez a0, 1b\n li a7, 0x10\n li a6, 0\n ecall\n li a0, 0\n j 1b"
    vm.write_memory(BASE, assemble(code, BASE))
    for vcpu in vm.vcpus:
        vcpu.set_mp_state(MpState.RUNNABLE)
        vcpu.set_pc(BASE)
    vm.run(max_instructions=400_000)
    clocks = [vcpu.timer.now() for vcpu in vm.vcpus]
    assert max(clocks) - min(clocks) <= 220  # a turn of 200 ticks, and the exit that ended it
    counts = [int(vcpu.hart.x[8]) for vcpu in vm.vcpus]
    assert max(counts[1:]) - min(counts[1:]) <= 10_001
    assert 0 < counts[0] < min(counts[1:])

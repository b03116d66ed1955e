"""A run that is stopped from outside loses nothing: it goes on later as if it had never been stopped."""

from __future__ import annotations

import pytest
from guest import BASE, MMIO

from trapline.isa.assemble import assemble
from trapline.kvm.uapi.numbers import Exit
from trapline.kvm.vcpu import Vcpu
from trapline.kvm.vm import Vm

END = "li a7, 0x53525354\n li a6, 0\n li a0, 0\n li a1, 0\n ecall\n"
# Both vCPUs store 0, 1, 2, ... to the device, each to its own word, until the first ends the run.
STORES = f"""
    la t0, handler
    csrw stvec, t0
    li s1, {MMIO}
    li s2, 0
    bnez a0, loop
    mv s0, a0
    li a7, 0x48534d
    li a6, 0
    li a0, 1
    la a1, second
    li a2, 0
    ecall
loop:
    sw s2, 0(s1)
    addi s2, s2, 1
    .word 0x00000000
    li t0, 20
    bltu s2, t0, loop
    {END}
second:
    la t0, handler
    csrw stvec, t0
    li s1, {MMIO + 4}
    li s2, 0
again:
    sw s2, 0(s1)
    addi s2, s2, 1
    j again
.align 2
handler:
    csrr t1, sepc
    addi t1, t1, 4
    csrw sepc, t1
    sret
"""


def _stores(engine: str, stop_at: frozenset[int]) -> tuple[list[tuple[int, int, int]], int]:
    vm = Vm("linux-7.2", engine=engine, vcpus=2)
    vm.add_memory(BASE, 0x10000)
    vm.write_memory(BASE, assemble(STORES, BASE))
    vm.vcpus[0].set_pc(BASE)
    seen: list[tuple[int, int, int]] = []
    polls = 0

    def vmm(vcpu: Vcpu) -> bool:
        if vcpu.kvm_run.exit_reason != Exit.MMIO:
            return False
        seen.append((vcpu.id, int(vcpu.kvm_run.mmio.phys_addr), int(vcpu.kvm_run.mmio.data)))
        return True

    def poll() -> bool:
        nonlocal polls
        polls += 1
        return polls in stop_at

    vm.poll = poll
    while (result := vm.run(vmm, max_instructions=1_000_000)).reason == "stop":
        for vcpu in vm.vcpus:
            assert int(vcpu.hart.virt) == int(vcpu.in_guest)
    assert result.reason == "exit"
    return seen, vm.instructions


@pytest.mark.parametrize("engine", ["reference", "native"])
def test_a_stop_between_two_turns_loses_no_exit(engine: str) -> None:
    """Stopped at every look around, two vCPUs make the accesses that they make undisturbed, each once."""
    alone = _stores(engine, frozenset())
    assert [value for vcpu, _, value in alone[0] if vcpu == 0] == list(range(20))
    second = [value for vcpu, _, value in alone[0] if vcpu == 1]
    assert second == list(range(len(second)))
    assert len(second) > 1
    for stops in (frozenset(range(1, 500)), frozenset(range(2, 500, 2)))[: 1 if engine == "reference" else 2]:
        assert _stores(engine, stops) == alone

"""Small guests for the tests of the hosted KVM: raise one event in VS or VU and see who got it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trapline.isa.assemble import assemble
from trapline.kvm.report.trace import TrapRecord
from trapline.kvm.schedule import VmResult
from trapline.kvm.uapi.numbers import Exit
from trapline.kvm.vcpu import Vcpu
from trapline.kvm.vm import Vm

BASE = 0x8000_0000
MMIO = 0x1000_0000  # no slot
HOLE = 0xC000_0000  # a slot behind which nothing answers

ENGINE = "reference"  # test modules may set another

START = """
    la t0, handler
    csrw stvec, t0
{enter}
body:
{event}
    li s1, 1
    ebreak
.align 2
handler:
    csrr s2, scause
    csrr s3, sepc
    csrr s4, stval
    csrr s5, sstatus
    li a7, 0x53525354
    li a6, 0
    li a0, 0
    li a1, 0
    ecall
"""
TO_VU = """
    la t0, body
    csrw sepc, t0
    li t0, 0x100
    csrc sstatus, t0
    sret
"""


@dataclass
class Outcome:
    """What became of one event."""

    vm: Vm
    result: VmResult
    records: list[TrapRecord]
    exits: list[Exit]

    @property
    def vcpu(self) -> Vcpu:
        return self.vm.vcpus[0]

    def x(self, name: str) -> int:
        numbers = {"s1": 9, "s2": 18, "s3": 19, "s4": 20, "s5": 21, "a0": 10, "a1": 11, "a2": 12, "a3": 13}
        return int(self.vcpu.hart.x[numbers[name]])

    @property
    def guest_sees(self) -> int | None:
        """The cause that the guest's handler got; None if the event did not trap in the guest."""
        if self.result.reason != "exit" or (self.x("s2") == 3 and self.x("s1") == 1):
            return None
        return self.x("s2")

    @property
    def killed(self) -> int:
        """The errno of KVM_RUN, 0 if it did not fail."""
        return self.result.death.errno if self.result.death is not None else 0


def run_event(
    policy: Any,
    event: str,
    mode: str = "VS",
    *,
    engine: str = "",
    answer: int = 0,
    devices: tuple[tuple[int, int], ...] | None = None,
    written: tuple[int, bytes] | None = None,
    **options: Any,
) -> Outcome:
    """Run a guest that does `event` in `mode`; the VMM answers reads with `answer` and writes `written` at exits."""
    vm = Vm(policy, engine=engine or ENGINE, **options)
    vm.devices = devices
    vm.add_memory(BASE, 0x10000)
    vm.add_memory(HOLE, 0x10000, "hole")
    vm.write_memory(BASE, assemble(START.format(enter=TO_VU if mode == "VU" else "", event=event), BASE))
    vm.vcpus[0].set_pc(BASE)
    records: list[TrapRecord] = []
    exits: list[Exit] = []
    vm.on_trap = records.append

    def vmm(vcpu: Vcpu) -> bool:
        exits.append(vcpu.kvm_run.exit_reason)
        if written is not None:
            vm.write_memory(*written)
        if not vcpu.kvm_run.mmio.is_write:
            vcpu.kvm_run.mmio.data = answer
        return vcpu.kvm_run.exit_reason in (Exit.MMIO, Exit.RISCV_SBI, Exit.RISCV_CSR)

    return Outcome(vm, vm.run(vmm, max_instructions=2000), records, exits)

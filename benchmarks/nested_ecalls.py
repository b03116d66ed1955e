"""Calls of a guest's guest to its bare hypervisor and back, a second of processor time.

python benchmarks/nested_ecalls.py [CALLS]
"""

from __future__ import annotations

import sys
import time

from trapline.isa.assemble import assemble_program
from trapline.kvm.vm import Vm

BASE = 0x8000_1000
EXITS = ("L2's ecall", "SRET into L2")

SOURCE = """
  la t0, handler
  csrw stvec, t0
  la t0, inner
  csrw sepc, t0
  li t0, 0x180
  csrs hstatus, t0
  li t0, 0x100
  csrs sstatus, t0
  li s0, {calls}
  sret
  .align 2
handler:
  csrr t0, sepc
  addi t0, t0, 4
  csrw sepc, t0
  addi s0, s0, -1
  beqz s0, off
  sret
off:
  li a7, 0x53525354
  li a6, 0
  li a0, 0
  li a1, 0
  ecall
inner:
  ecall
  j inner
"""


def seconds(calls: int) -> float:
    """Processor time of so many calls, without the start."""
    vm = Vm(nested=True)
    vm.add_memory(0x8000_0000, 1 << 20)
    vm.write_memory(BASE, assemble_program(SOURCE.format(calls=calls), BASE).code)
    vm.vcpus[0].set_pc(BASE)
    before = time.process_time()
    result = vm.run(None, max_instructions=calls * 20 + 10_000)
    assert result.reason == "exit", result.reason
    return time.process_time() - before


def main() -> None:
    """Print the rate of the longer of two runs, less the shorter."""
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    few, many = seconds(calls // 10), seconds(calls)
    rate = (calls - calls // 10) / (many - few)
    print(f"{rate / 1e6:.2f} M calls a second of processor; each is {len(EXITS)} exits of L0: {', '.join(EXITS)}")


if __name__ == "__main__":
    main()

"""What exits of a bare guest hypervisor and its guest cost L0: processor time, by kind of exit.

python benchmarks/nested_ecalls.py [TIMES]
"""

from __future__ import annotations

import sys
import time

from trapline.isa.assemble import assemble_program
from trapline.kvm.vm import Vm

BASE = 0x8000_1000
# What is done so many times, and how many exits of L0 it is.
CALL = "ecall of L2 to L1 and back"
KINDS = {
    CALL: ("", 2),
    "read of hstatus": ("csrr t0, hstatus", 1),
    "write of vsscratch": ("csrw vsscratch, t0", 1),
    "write of hgatp": ("csrw hgatp, zero", 1),
    "HLVX": ("hlvx.hu t0, (s2)", 1),
    "HFENCE.GVMA of a page": ("hfence.gvma s2, zero", 1),
    "HFENCE.VVMA": ("hfence.vvma", 1),
}
CALLS = """
  la t0, handler
  csrw stvec, t0
  la t0, inner
  csrw sepc, t0
  li t0, 0x180
  csrs hstatus, t0
  li t0, 0x100
  csrs sstatus, t0
  li s0, {times}
  sret
  .align 2
handler:
  csrr t0, sepc
  addi t0, t0, 4
  csrw sepc, t0
  addi s0, s0, -1
  beqz s0, off
  sret
"""
OWN = """
  li s0, {times}
  la s2, off
again:
  {instruction}
  addi s0, s0, -1
  bnez s0, again
"""
OFF = """
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


def seconds(kind: str, times: int) -> float:
    """Processor time of so many, without the start."""
    vm = Vm(nested=True)
    vm.add_memory(0x8000_0000, 1 << 20)
    source = (CALLS if kind == CALL else OWN) + OFF
    vm.write_memory(BASE, assemble_program(source.format(times=times, instruction=KINDS[kind][0]), BASE).code)
    vm.vcpus[0].set_pc(BASE)
    before = time.process_time()
    result = vm.run(None, max_instructions=times * 20 + 10_000)
    assert result.reason == "exit", result.reason
    return time.process_time() - before


def main() -> None:
    """Print the time of each: of the longer of two runs, less the shorter."""
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 500_000
    for kind, (_, exits) in KINDS.items():
        few, many = seconds(kind, times // 10), seconds(kind, times)
        each = (many - few) / (times - times // 10)
        print(f"{kind:<28} {each * 1e9:7.0f} ns   {1e-6 / each:5.2f} M a second   exits of L0: {exits}", flush=True)


if __name__ == "__main__":
    main()

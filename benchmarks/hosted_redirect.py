#!/usr/bin/env python3
"""A loop of ecalls in VU-mode that the hosted KVM redirects into VS-mode, both stages on: VU -> KVM -> VS -> VU.

The same round trip as guests/traps/vu_hs_vs.S, with trapline's own KVM and a policy in the place of HS code.
Prints the number of redirects as the other trap loops do.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from trapline.isa.assemble import assemble
from trapline.session.terminal.console import Console
from trapline.vmm.guest import Guest

POLICY = """
extends = "linux-7.2"
default = "kill"
[cause.syscall]
action = "redirect"
delegate = false
source = "benchmark"
"""
ENTRY, TABLE, USER = 0x8020_0000, 0x8030_0000, 0x4000_0000
# A root table of Sv39: a gigabyte for VS-mode at its own address, the same memory for VU-mode above.
LEAF, OF_USER = 0xCF, 0x10
SOURCE = f"""
    li t0, {TABLE}
    li t1, {0x8000_0000 >> 2 | LEAF}
    sd t1, 16(t0)
    ori t1, t1, {OF_USER}
    sd t1, 24(t0)
    li t1, {8 << 60 | TABLE >> 12}
    csrw satp, t1
    sfence.vma
    la t0, handler
    csrw stvec, t0
    la t0, loop
    li t1, {USER}
    add t0, t0, t1
    csrw sepc, t0
    li t0, 0x100
    csrc sstatus, t0
    li s0, 0
    li s1, {{count}}
    sret
loop:
    ecall
    addi s0, s0, 1
    bne s0, s1, loop
    ebreak
.align 2
handler:
    csrr t0, scause
    li t1, 8
    bne t0, t1, off
    addi s2, s2, 1
    csrr t0, sepc
    addi t0, t0, 4
    csrw sepc, t0
    sret
off:
    li a7, 0x53525354
    li a6, 0
    li a0, 0
    li a1, 0
    ecall
"""


def main() -> int:
    """Run the loop; its length is the command line's last word."""
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(POLICY)
        file.flush()
        guest = Guest(file.name, memory=16 << 20, console=Console(lambda data: None))
    guest.load_bytes(assemble(SOURCE.format(count=int(Path(sys.argv[-1]).name)), ENTRY))
    result = guest.run()
    redirected = sum(
        n for (cause, _, _, how, _, _), n in guest.vm.routes().items() if cause == 8 and how[-1] == "kvm-redirect"
    )
    print(f"checksum {redirected:016x}")
    return 0 if result.reason == "exit" and redirected == guest.vm.vcpus[0].hart.x[18] else 1


if __name__ == "__main__":
    sys.exit(main())

"""A board and a guest for the monitor to look at."""

from __future__ import annotations

from machine_fakes import make_elf

from trapline.isa.assemble import assemble
from trapline.machine.machine import Machine
from trapline.session.terminal.console import Console
from trapline.session.terminal.sources import NoInput
from trapline.vmm.guest import Guest

# Sv39: one gigabyte page that maps 0x80000000 to itself, then a spin.
PROGRAM = """
    la t0, table
    li t1, 0x200000CF
    sd t1, 16(t0)
    srli t0, t0, 12
    li t1, 8
    slli t1, t1, 60
    or t0, t0, t1
    csrw satp, t0
    sfence.vma
    li s3, 0x1234
spin:
    j spin
    .align 12
table:
    .zero 4096
"""


def paged_guest() -> Guest:
    """A guest that spins with paging on."""
    made = Guest(memory=4 << 20, console=Console(None, NoInput()))
    made.load_bytes(assemble(PROGRAM, 0x8020_0000))
    made.run(max_instructions=1000)
    return made


def paged_board() -> Machine:
    """A board that does."""
    made = Machine(memory=4 << 20, console=Console())
    made.load_elf(make_elf(assemble(PROGRAM, 0x8000_0000)))
    made.run(max_instructions=1000)
    return made

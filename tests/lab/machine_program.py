"""An ELF with symbols that traps from M-mode to M-mode for ever."""

from __future__ import annotations

import sys
from pathlib import Path

from trapline.isa.assemble import assemble

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "machine"))
from machine_fakes import make_elf

BASE = 0x8000_0000
SOURCE = """
    la t0, handler
    csrw mtvec, t0
1:  ecall
    j 1b
.align 4
handler:
    csrr t1, mepc
    addi t1, t1, 4
    j inner
.align 4
inner:
    csrw mepc, t1
    nop
    mret
"""


def program(directory: Path) -> Path:
    """Write the ELF and return its path."""
    code = assemble(SOURCE, BASE)
    symbols = {"main": BASE, "handler": BASE + 0x20, "inner": BASE + 0x30}
    path = directory / "program.elf"
    path.write_bytes(make_elf(code, symbols=symbols, memory_size=0x1000))
    return path

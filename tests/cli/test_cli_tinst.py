"""The switch for transformed instructions on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from trapline.cli import main
from trapline.isa.assemble import assemble

# A load from a hole in the bus; the program's exit code says whether mtinst holds the transformed instruction.
SOURCE = """
    la t0, handler
    csrw mtvec, t0
    li s0, 0x40000000
    ld a3, 8(s0)
.align 2
handler:
    csrr t1, mtinst
    li t2, 0x3683
    li t0, 0x100000
    li t3, 0x5555
    beq t1, t2, transformed
    li t3, 0x10003333
    bnez t1, report
    li t3, 0x23333
report:
transformed:
    sw t3, 0(t0)
end: j end
"""


@pytest.mark.parametrize(("switch", "code"), [("transformed", 0), ("zero", 1)])
def test_tinst(tmp_path: Path, switch: str, code: int) -> None:
    """--tinst decides whether a load that faults writes its transformed form to mtinst."""
    program = tmp_path / "program.bin"
    program.write_bytes(assemble(SOURCE, 0x8000_0000))
    assert main(["boot", str(program), "--tinst", switch, "--max-instructions", "10000"]) == code

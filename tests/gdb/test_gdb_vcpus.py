"""Several vCPUs of a guest are threads of gdb."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.gdb.client import behind
from trapline.isa.assemble import assemble_program
from trapline.machine.memory_map import RAM_BASE
from trapline.vmm.guest import Guest

AT = RAM_BASE + (2 << 20)
# The first vCPU starts the second one through HSM and waits: so its turns are short on either engine. The second one
# counts for ever.
PROGRAM = assemble_program(
    "li a7, 0x48534d; li a6, 0; li a0, 1; la a1, second; li a2, 0; ecall\n"
    "li s0, 0\n"
    "first: addi s0, s0, 1; wfi; j first\n"
    "second: li s0, 0\n"
    "other: addi s0, s0, 2; j other\n",
    AT,
)


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_vcpus_are_threads(engine: str, tmp_path: Path) -> None:
    """Each vCPU has its own registers, a breakpoint names the one that met it, and steps are of the one asked for."""
    guest = Guest(engine=engine, memory=16 << 20, vcpus=2)
    guest.load_bytes(PROGRAM.code)
    with behind(guest, tmp_path) as run:
        gdb = run.client()
        assert gdb.ask("qfThreadInfo") == "m1,2"
        assert gdb.ask(f"Z1,{PROGRAM.symbols['other']:x},4") == "OK"
        assert gdb.ask("c") == "T05thread:2;swbreak:;"
        assert gdb.pc() == PROGRAM.symbols["other"]
        assert gdb.ask("vCont;s:2").startswith("T05thread:2;")
        assert gdb.register(8) == 2
        assert gdb.ask("Hg1") == "OK"
        assert PROGRAM.symbols["first"] <= gdb.pc() < PROGRAM.symbols["second"]


def test_a_vcpu_steps_back(tmp_path: Path) -> None:
    """A step back of the second vCPU undoes its own last instruction."""
    guest = Guest(engine="native", memory=16 << 20, vcpus=2)
    guest.load_bytes(PROGRAM.code)
    with behind(guest, tmp_path) as run:
        gdb = run.client()
        assert gdb.ask(f"Z1,{PROGRAM.symbols['other']:x},4") == "OK"
        assert gdb.ask("c") == "T05thread:2;swbreak:;"
        assert gdb.ask("c") == "T05thread:2;swbreak:;"
        assert gdb.register(8) == 2
        assert gdb.ask("bs").startswith("T05thread:2;")
        assert (gdb.register(8), gdb.pc()) == (2, PROGRAM.symbols["other"] + 4)
        assert gdb.ask("bc") == "T05thread:2;swbreak:;"
        assert (gdb.register(8), gdb.pc()) == (0, PROGRAM.symbols["other"])

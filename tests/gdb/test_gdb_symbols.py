"""gdb-multiarch with the debug information of a C program: a board's, and a guest kernel's."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.gdb.client import behind
from tests.gdb.test_gdb_multiarch import GDB, gdb
from trapline.machine.machine import Machine
from trapline.vmm.guest import Guest

COMPILER = shutil.which("riscv64-linux-gnu-gcc")
BOARD, GUEST = 0x8000_0000, 0x8020_0000
PROGRAM = """
volatile long total;
__attribute__((noinline)) long leaf(long n) { total += n; return total * 2; }
__attribute__((noinline)) long middle(long n)
{
    long a = leaf(n);
    long b = leaf(a);
    return a + b;
}
long start(void)
{
    long r = 0;
    for (long i = 1; i <= 3; i++)
        r += middle(i);
    return r;
}
__asm__(".globl _start\\n_start: la sp, stack\\n call start\\n END\\n1: j 1b\\n.bss; .align 4; .space 4096; stack:\\n");
"""
ENDS = {
    BOARD: "li t0, 0x100000\\n li t1, 0x5555\\n sw t1, 0(t0)",
    GUEST: "li a7, 0x53525354\\n li a6, 0\\n li a0, 0\\n li a1, 0\\n ecall",
}
pytestmark = pytest.mark.skipif(GDB is None or COMPILER is None, reason="needs gdb-multiarch and a cross compiler")


def built(folder: Path, where: int) -> Path:
    """The program with its debug information, linked at `where`."""
    assert COMPILER is not None
    (folder / "p.c").write_text(PROGRAM.replace("END", ENDS[where]))
    flags = "-g -O0 -march=rv64imac -mabi=lp64 -mcmodel=medany -nostdlib -static -no-pie -ffreestanding -fno-pic"
    link = f"-Wl,--build-id=none,-Ttext={where:#x},-e,_start"
    subprocess.run([COMPILER, *flags.split(), link, "-o", "p.elf", "p.c"], cwd=folder, check=True, capture_output=True)
    return folder / "p.elf"


def loaded(where: int, path: Path, engine: str) -> Any:
    """A board or a guest with the program."""
    if where == BOARD:
        machine = Machine(memory=16 << 20, engine=engine)
        machine.load(path)
        return machine
    guest = Guest(engine=engine, memory=16 << 20)
    guest.load(path)
    return guest


@pytest.mark.parametrize("engine", ["native", "reference"])
@pytest.mark.parametrize("where", [BOARD, GUEST], ids=["board", "guest"])
def test_functions_forwards_and_back(where: int, engine: str, tmp_path: Path) -> None:
    """finish and next by lines and functions, then reverse-next and reverse-finish to what was there."""
    path = built(tmp_path, where)
    with behind(loaded(where, path, engine), tmp_path):
        said = gdb(
            tmp_path,
            f"file {path}",
            "hbreak leaf",
            "continue",
            "bt",
            "finish",
            "delete",
            "next",
            "next",
            'printf "forth %d %d %d\\n", a, b, total',
            "reverse-next",
            'printf "back %d %d\\n", a, total',
            "reverse-next",
            'printf "further %d\\n", total',
            "reverse-finish",
            "bt 1",
            "continue",
        )
    assert "#1  0x" in said
    assert "in middle (n=1)" in said
    assert "Value returned is $1 = 2" in said
    assert "forth 2 6 3" in said
    assert "back 2 1" in said
    assert "further 0" in said
    assert "in start ()" in said
    assert "exited normally" in said

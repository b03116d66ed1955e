"""Debian's lldb against the stub: what it finds by DWARF's register numbers in the target description."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.gdb.client import behind
from trapline.machine.machine import Machine

LLDB = shutil.which("lldb")
SOURCE = """
int table[4] = {1, 2, 3, 4};
__attribute__((noinline)) int add(int a, int b) { int c = a + b; return c * 2; }
__attribute__((noinline)) int work(int n) { int s = 0; for (int i = 0; i < n; i++) s += add(i, table[i]); return s; }
void main(void) { volatile int r = work(4); *(volatile unsigned *)0x100000 = 0x5555; for (;;); }
__attribute__((naked, section(".start"))) void _start(void) { asm("li sp, 0x80010000; j main"); }
"""
SCRIPT = "ENTRY(_start) SECTIONS { . = 0x80000000; .text : { *(.start) *(.text*) } .data : { *(.data*) } }"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A bare program in C with debugging information."""
    (tmp_path / "program.c").write_text(SOURCE)
    (tmp_path / "program.ld").write_text(SCRIPT)
    words = "-g -O1 -ffreestanding -nostdlib -static -fno-pic -mcmodel=medany -Wl,-T,program.ld,--build-id=none,-n"
    line = ["riscv64-linux-gnu-gcc", *words.split(), "-o", "program.elf", "program.c"]
    subprocess.run(line, cwd=tmp_path, check=True, capture_output=True)
    return tmp_path / "program.elf"


@pytest.mark.skipif(LLDB is None, reason="needs the Debian package lldb")
def test_lldb_unwinds_and_reads_variables(program: Path, tmp_path: Path) -> None:
    """At a breakpoint lldb shows the frames down to main, and the variables of each."""
    machine = Machine(memory=1 << 20)
    machine.load(program)
    with behind(machine, tmp_path):
        commands = (
            f"process connect unix-connect://{tmp_path}/gdb", "breakpoint set --name add", "continue", "bt",
            "frame variable", "up", "frame variable n", "process detach",
        )  # fmt: skip
        line = [str(LLDB), "--no-lldbinit", "--batch", str(program), *(p for c in commands for p in ("-o", c))]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=120, check=False)
    said = done.stdout
    for wanted in ("add(a=0, b=1)", "frame #1", "work(n=4)", "frame #2", "`main at", "(int) b = 1", "(int) n = 4"):
        assert wanted in said, said + done.stderr

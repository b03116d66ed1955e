"""Debian's gdb-multiarch against the stub: a bare program, and U-Boot with its symbols."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.gdb.client import behind
from tests.gdb.test_gdb_stub import AT, DATA, board
from trapline.machine.machine import Machine

GDB = shutil.which("gdb-multiarch")
UBOOT = Path("/usr/lib/u-boot/qemu-riscv64_smode")
OPENSBI = Path("/usr/lib/riscv64-linux-gnu/opensbi/generic/fw_jump.bin")
pytestmark = pytest.mark.skipif(GDB is None, reason="needs the Debian package gdb-multiarch")


def gdb(folder: Path, *commands: str) -> str:
    """Run commands in gdb, connected to the run in this folder; return what it says."""
    assert GDB is not None
    head = ("set pagination off", "set confirm off", "set architecture riscv:rv64", f"target remote {folder}/gdb")
    line = [GDB, "-nx", "-batch", *(part for command in (*head, *commands) for part in ("-ex", command))]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)
    return done.stdout + done.stderr


def test_a_bare_program(tmp_path: Path) -> None:
    """gdb steps, stops, watches, writes and reads registers, modes and memory, catches a trap, and sees the end."""
    with behind(board(), tmp_path) as run:
        said = gdb(
            tmp_path,
            f"hbreak *{AT['loop']:#x}",
            "continue",
            "delete",
            "stepi",
            'printf "a0 %d priv %d virt %d\\n", $a0, $priv, $virt',
            f"watch *(long*){DATA:#x}",
            "continue",
            "delete",
            "monitor catch trap machine-syscall from M",
            "continue",
            'printf "mcause %d\\n", $mcause',
            "monitor uncatch all",
            f"x/1gx {DATA:#x}",
            "set $a0 = 19",
            "continue",
        )
        assert "Breakpoint 1" in said
        assert "a0 1 priv 3 virt 0" in said
        assert "Old value = 0\nNew value = 1" in said.replace("\n\n", "\n")
        assert "caught trap machine-syscall from M" in said
        assert "mcause 11" in said
        assert f"{AT['loop'] + 8:#018x} in ?? ()" in said
        assert "0x0000000000000001" in said
        assert "exited normally" in said
        assert run.end().reason == "exit"


@pytest.mark.skipif(not (UBOOT.exists() and OPENSBI.exists()), reason="needs opensbi and u-boot-qemu")
def test_uboot_with_its_symbols(tmp_path: Path) -> None:
    """A breakpoint on a function of U-Boot is hit in S-mode, and the stack is walked by its symbols."""
    machine = Machine(memory=256 << 20)
    machine.boot_bios(OPENSBI, UBOOT / "u-boot.bin")
    with behind(machine, tmp_path):
        said = gdb(
            tmp_path,
            f"file {UBOOT}/uboot.elf",
            "hbreak board_init_f",
            "continue",
            "info registers priv",
            "bt 3",
            "kill",
        )
        assert "Breakpoint 1, 0x" in said
        assert "in board_init_f ()" in said
        assert "prv:1 [Supervisor]" in said
        assert "in _start ()" in said
        assert "(Remote target) killed]" in said

"""The cross assembler and disassembler, as an independent reading of the encodings."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

MARCH = "rv64imafdch_zicsr_zifencei_zihintpause_zfh_zba_zbb_zbc_zbs_zbkb_zbkc_zbkx_zicbom_zicboz_zicbop_zawrs_svinval"
TEXT_BASE = 0x8000_0000


def _run(*arguments: str) -> str:
    return subprocess.run(arguments, check=True, capture_output=True, text=True).stdout


def assemble(source: str, folder: Path, march: str = MARCH) -> bytes:
    """Return the .text of `source` linked at TEXT_BASE."""
    (folder / "in.s").write_text(source)
    prefix = "riscv64-linux-gnu-"
    _run(f"{prefix}as", f"-march={march}", "-mno-relax", str(folder / "in.s"), "-o", str(folder / "in.o"))
    link = ("--no-relax", f"-Ttext={TEXT_BASE:#x}", "-e", "0", "-o", str(folder / "in.elf"), str(folder / "in.o"))
    _run(f"{prefix}ld", *link)
    _run(f"{prefix}objcopy", "-O", "binary", "-j", ".text", str(folder / "in.elf"), str(folder / "in.bin"))
    return (folder / "in.bin").read_bytes()


def disassemble(codes: list[int], folder: Path, options: str = "no-aliases", march: str = MARCH) -> list[str]:
    """Return objdump's text of each instruction, placed one after another at TEXT_BASE."""
    words = [f".insn {4 if c & 3 == 3 else 2}, {c:#x}" for c in codes]
    assemble("\n".join([*words, ""]), folder, march)
    out = _run("riscv64-linux-gnu-objdump", "-d", "-M", options, "--no-show-raw-insn", str(folder / "in.elf"))
    return [line.split("\t", 1)[1] for line in out.splitlines() if re.match(r"^\s+[0-9a-f]+:\t", line)]

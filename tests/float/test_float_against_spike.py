"""Every F, D and Zfh instruction in every rounding mode: Spike, native code and CPython agree."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from pathlib import Path

import float_oracle as oracle
import pytest
from float_values import triple

import trapline.isa.all  # noqa: F401  (declares the instructions)
from trapline.isa.assemble import assemble_program
from trapline.isa.float.instructions import declare
from trapline.lab.replay.elf_file import Part, write_elf
from trapline.lang.functions import INSTRUCTIONS, Instruction
from trapline.lang.memory import host_load
from trapline.lang.state import Hart
from trapline.lang.values import U64
from trapline.machine.machine import Machine
from trapline.privilege.derived import update_derived

CODE, TABLE, RESULTS = 0x8000_0000, 0x8002_0000, 0x8010_0000
ROWS, REFERENCE_ROWS = 300, 60
MODES = ("rne", "rtz", "rdn", "rup", "rmm", "dyn")
DYN = 5
REGISTERS = {"frd": "f4", "frs1": "f1", "frs2": "f2", "frs3": "f3", "rd": "x10", "rs1": "x11"}
BOXES = {"half": 0xFFFF_FFFF_FFFF_0000, "single": 0xFFFF_FFFF_0000_0000, "double": 0}
Case = tuple[Instruction, int]
Row = tuple[int, int, int, int, int, int]  # f1, f2, f3, x11, frm, fflags before

START = """
    li x6, 0x6000
    csrs mstatus, x6
    li x7, 0x2000
    li x20, RESULTS
    li x21, TABLE
    li x22, ROWS
next:
    fld f1, 0(x21)
    fld f2, 8(x21)
    fld f3, 16(x21)
    ld x11, 24(x21)
    ld x15, 32(x21)
    ld x16, 40(x21)
    csrw frm, x15
"""
# FS is Clean before the instruction; what it leaves of FS is kept with fflags.
ONE = """
    csrw fflags, x16
    li x10, 0
    fmv.d.x f4, x0
    csrs mstatus, x6
    csrc mstatus, x7
    {text}
    csrr x12, mstatus
    srli x12, x12, 13
    andi x12, x12, 3
    slli x12, x12, 8
    csrr x13, fflags
    or x12, x12, x13
    fmv.x.d x14, f4
    xor x14, x14, x10
    sd x14, 0(x20)
    sd x12, 8(x20)
    addi x20, x20, 16
"""
END = """
    addi x21, x21, 48
    addi x22, x22, -1
    beq x22, x0, done
    la x5, next
    jr x5
done:
    la x6, tohost
    li x5, 1
    sd x5, 0(x6)
stop:
    j stop
    .align 12
tohost:
    .dword 0
    .align 6
fromhost:
    .dword 0
"""


def cases() -> list[Case]:
    """Every instruction that reads no memory, with each static rounding mode and DYN."""
    found = []
    for i in INSTRUCTIONS:
        if i.function is not None and i.function.__module__ == declare.__module__ and "imm" not in i.operands:
            found += [(i, rm) for rm in (range(6) if "rm" in i.operands else (0,))]
    return found


def rows() -> list[Row]:
    """Operands of all three formats, now and then with a broken box; with NX set the host may compute."""
    rng = random.Random(2)
    made = []
    for n in range(ROWS):
        fmt = oracle.FORMATS[n % 3]
        f = [BOXES[fmt.name] | v for v in triple(fmt, rng)]
        if rng.random() < 0.05:
            f[rng.randrange(3)] &= rng.getrandbits(64)
        integer = rng.getrandbits(rng.randrange(1, 65)) ^ rng.choice((0, 2**64 - 1))
        made.append((f[0], f[1], f[2], integer, n % 5, rng.choice((0, oracle.NX, 31))))
    return made


def program(plan: list[Case], table: list[Row]) -> bytes:
    """An ELF that runs the whole plan on each row."""
    text = START.replace("RESULTS", hex(RESULTS)).replace("TABLE", hex(TABLE)).replace("ROWS", str(len(table)))
    for instruction, rm in plan:
        operands = instruction.text.split(None, 1)[1].split(", ")
        given = [MODES[rm] if o == "rm" else REGISTERS[o] for o in operands]
        text += ONE.format(text=f"{instruction.name} {', '.join(given)}")
    code = assemble_program(text + END, CODE)
    assert len(code.code) <= TABLE - CODE
    data = b"".join(v.to_bytes(8, "little") for row in table for v in row)
    size = 16 * len(plan) * len(table)
    host = {name: code.symbols[name] for name in ("tohost", "fromhost")}
    symbols = {**host, "begin_signature": RESULTS, "end_signature": RESULTS + size}
    return write_elf([Part(CODE, code.code), Part(TABLE, data), Part(RESULTS, bytes(size))], symbols, CODE)


def run_spike(elf: Path) -> list[int]:
    spike = shutil.which("spike") or shutil.which("spike", path=str(Path(sys.executable).parent))
    assert spike, "spike is not installed"
    signature = elf.with_suffix(".signature")
    options = ["--isa=rv64gc_zfh", f"+signature={signature}", "+signature-granularity=8"]
    subprocess.run([spike, *options, str(elf)], check=True, timeout=120)
    return [int(line, 16) for line in signature.read_text().split()]


def run_native(elf: Path, words: int) -> list[int]:
    machine = Machine(isa="rv64gc_zfh", engine="native")
    machine.load(elf)
    assert machine.run(max_instructions=50_000_000).code == 0
    hart = machine.harts[0]
    region = next(i for i in range(int(hart.region_count)) if hart.region_base[i] == CODE)
    start = int(hart.region_host[region]) + RESULTS - CODE
    return [int(host_load(U64(start + 8 * i), 8)) for i in range(words)]


def run_reference(plan: list[Case], table: list[Row]) -> list[int]:
    hart = Hart()
    hart.priv = 3
    results = []
    for f1, f2, f3, x11, frm, fflags in table:
        hart.frm = frm
        for instruction, rm in plan:
            hart.f[1], hart.f[2], hart.f[3], hart.f[4] = f1, f2, f3, 0
            hart.x[10], hart.x[11], hart.fflags = 0, x11, fflags
            hart.mstatus = 2 << 13
            update_derived(hart)
            operands = {
                "rd": 4 if "frd" in instruction.text else 10,
                "rs1": 1 if "frs1" in instruction.text else 11,
                "rs2": 2,
                "rs3": 3,
                "rm": 7 if rm == DYN else rm,
            }
            assert instruction.function is not None
            instruction.function(hart, *[U64(operands[o]) for o in instruction.operands])
            results += [int(hart.f[4]) ^ int(hart.x[10]), int(hart.fflags) | (int(hart.mstatus) >> 13 & 3) << 8]
    return results


@pytest.fixture(scope="module")
def spike(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int]]:
    """The program and what Spike makes of it."""
    elf = tmp_path_factory.mktemp("float") / "float.elf"
    elf.write_bytes(program(cases(), rows()))
    return elf, run_spike(elf)


def explain(plan: list[Case], table: list[Row], ours: list[int], theirs: list[int]) -> str:
    """The first difference, in words."""
    at = next(i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b) // 2
    instruction, rm = plan[at % len(plan)]
    operands = [hex(v) for v in table[at // len(plan)]]
    return f"{instruction.name} rm={rm} {operands}: {ours[2 * at : 2 * at + 2]}, Spike {theirs[2 * at : 2 * at + 2]}"


def test_native_code_agrees_with_spike(spike: tuple[Path, list[int]]) -> None:
    """Native code leaves the same results, flags and FS as Spike."""
    elf, theirs = spike
    ours = run_native(elf, len(theirs))
    assert ours == theirs, explain(cases(), rows(), ours, theirs)


def test_cpython_agrees_with_spike(spike: tuple[Path, list[int]]) -> None:
    """The reference reading leaves the same results, flags and FS as Spike."""
    plan, table = cases(), rows()[:REFERENCE_ROWS]
    ours = run_reference(plan, table)
    theirs = spike[1][: len(ours)]
    assert ours == theirs, explain(plan, table, ours, theirs)

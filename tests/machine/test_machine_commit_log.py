"""The commit log: line by line what Spike writes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from machine_fakes import make_elf

from trapline.isa.assemble import assemble
from trapline.machine.machine import Machine

BASE, TOHOST, DATA = 0x8000_0000, 0x8000_1000, 0x8000_2000
ISA = (
    "rv64gch_zicntr_zihpm_zba_zbb_zbc_zbs_zbkb_zbkx_sscofpmf_sstc_svinval_svnapot_svpbmt_svadu"
    "_zicboz_zicbom_zicbop_zawrs_zfh_zicond"
)
EXIT = f"""
    li a0, 1
    li t0, {TOHOST}
    li t1, 0
    j 9f
9:  sd a0, 0(t0)
    j 9b
"""

COMPUTE = f"""
    li a0, 5
    li a1, {DATA}
    sd a0, 0(a1)
    lw a2, 0(a1)
    csrw mscratch, a0
    csrrs a3, mscratch, a0
    c.li a4, 3
    amoadd.w a5, a0, (a1)
    amomaxu.d zero, a0, (a1)
    lr.d a5, (a1)
    sc.d a5, a0, (a1)
    sc.w zero, a0, (a1)
    cbo.zero (a1)
    li t0, 0x2000
    csrs mstatus, t0
    fcvt.d.w fa0, a0
    fadd.d fa1, fa0, fa0
    fsd fa1, 8(a1)
    fsw fa1, 4(a1)
    flw fa3, 4(a1)
    csrr t1, fflags
    li t2, 3
    fcvt.d.w fa2, t2
    fdiv.d fa1, fa0, fa2
    fcvt.w.d ra, fa1
    feq.d sp, fa1, fa1
    csrw mcycle, t0
    csrw minstret, t2
    csrw satp, zero
    csrr t4, fcsr
    csrw fcsr, t4
    csrwi fflags, 0
    csrw sie, t4
    csrw sip, t4
    csrw mie, t4
    csrw mip, t4
    csrw hie, t4
    csrw hip, t4
    csrw hvip, a0
    csrw hvip, zero
    csrw vsip, t4
    csrw vsie, t4
    csrw sstatus, t0
    csrw vsstatus, t0
    csrw hgeie, t0
    csrw pmpaddr3, t0
    csrw pmpaddr40, t0
    csrw pmpcfg4, t0
    csrw mhpmcounter3, t0
    csrw stvec, a1
"""

TRAPS = f"""
    la t0, handler
    csrw mtvec, t0
    li t0, 0x2800
    csrw mstatus, t0
    la t0, 1f
    csrw mepc, t0
    mret
1:  li a0, {DATA}
    fmv.w.x fa0, zero
    li t0, 0x180
    csrs hstatus, t0
    li t0, 0x2000
    csrw vsstatus, t0
    hsv.w a0, (a0)
    hlv.d a3, (a0)
    hlvx.hu a3, (a0)
    hfence.gvma
    la t0, 2f
    csrw sepc, t0
    li t0, 0x100
    csrs sstatus, t0
    sret
2:  csrr a1, sstatus
    csrw sscratch, a1
    csrw sie, a1
    csrw sip, a1
    fmv.d.x fa0, zero
    csrwi frm, 1
    csrw stvec, a0
    ecall
    csrr a1, hstatus
    ld a1, 1(a0)
    la t0, 3f
    csrw sepc, t0
    csrw sstatus, zero
    sret
3:  ld a1, 0(a0)
    ebreak
    ecall
    j 4f
.align 2
handler:
    csrr s0, mepc
    addi s0, s0, 4
    csrw mepc, s0
    csrr s0, mcause
    mret
4:
"""


def _log(source: str, engine: str) -> list[str]:
    board = Machine(engine=engine, memory=4 << 20, isa=ISA)
    board.load_elf(_elf(source))
    lines: list[str] = []
    board.log_commits(lines.append)
    assert board.run(max_instructions=10_000).reason == "exit"
    return "".join(lines).splitlines()


def _elf(source: str) -> bytes:
    return make_elf(
        assemble(source + EXIT, BASE), symbols={"tohost": TOHOST, "fromhost": TOHOST + 64}, memory_size=0x3000
    )


def test_the_form_of_a_line() -> None:
    """Hart, privilege, pc, bits in their length, registers in Spike's order, memory with its width."""
    lines = _log("c.li a4, 3\n csrrw a3, mscratch, a4\n auipc sp, 1\n sh a4, 2(sp)", "native")
    assert lines[5] == "core   0: 3 0x0000000080000000 (0x470d) x14 0x0000000000000003"
    assert lines[6] == (
        "core   0: 3 0x0000000080000002 (0x340716f3) x13 0x0000000000000000 c832_mscratch 0x0000000000000003"
    )
    assert lines[8].endswith("(0x00e11123) mem 0x0000000080001008 0x0003")


@pytest.mark.parametrize("engine", ["reference", "native"])
@pytest.mark.parametrize("source", [COMPUTE, TRAPS], ids=["compute", "traps"])
def test_every_line_is_spikes(source: str, engine: str, tmp_path: Path) -> None:
    """The same program gives the same log, to the byte."""
    spike = shutil.which("spike") or shutil.which("spike", path=str(Path(sys.executable).parent))
    assert spike, "spike is needed"
    elf, log = tmp_path / "p.elf", tmp_path / "p.log"
    elf.write_bytes(_elf(source))
    subprocess.run([spike, f"--isa={ISA}", "--log-commits", f"--log={log}", str(elf)], check=True, timeout=60)
    ours = _log(source, engine)
    theirs = log.read_text().splitlines()[: len(ours)]
    assert ours == theirs


def test_logging_changes_nothing() -> None:
    """The same state after the same instructions, with and without the log."""
    states = []
    for logged in (False, True):
        board = Machine(engine="native", memory=4 << 20, isa=ISA)
        board.load_elf(_elf(COMPUTE))
        if logged:
            board.log_commits(lambda line: None)
        result = board.run(max_instructions=10_000)
        hart = board.harts[0]
        state = [int(hart.x[n]) for n in range(32)] + [int(hart.f[n]) for n in range(32)]
        states.append((result, state, int(hart.fflags), int(hart.mstatus), int(hart.pc)))
    assert states[0] == states[1]

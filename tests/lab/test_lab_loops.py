"""`run` and `boot` say at their end what a hart or vCPU repeats for ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from trapline.isa.assemble import assemble
from trapline.lab.boot import BootOptions, boot
from trapline.lab.guest_run import RunOptions, RunReport, run_guest
from trapline.lab.settings import settings

MISALIGNS = "li t0, 0x80000001\n ld t1, 0(t0)\n 1: j 1b"
GUEST = 0x8020_0000


def file(folder: Path, source: str, base: int) -> str:
    """A flat program."""
    path = folder / "program.bin"
    path.write_bytes(assemble(source, base))
    return str(path)


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_a_bare_program_that_gets_nowhere(tmp_path: Path, engine: str) -> None:
    """Misaligned with mtvec unset, it ends at its limit with one line that names --misaligned hardware."""
    image = file(tmp_path, MISALIGNS, 0x8000_0000)
    report = boot(BootOptions(image=image, max_instructions=2000, engine=engine))
    assert report.result.exit_status == 3
    assert len(report.loops) == 1
    assert "--misaligned hardware" in report.loops[0].describe()
    assert report.as_data()["loops"][0]["name"] == "inst-access"
    done = boot(BootOptions(image=image, max_instructions=2000, engine=engine, misaligned="hardware"))
    assert done.loops == ()
    assert done.as_data()["loops"] == []


def ran(folder: Path, source: str, policy: str, engine: str) -> RunReport:
    """A guest that ran into its limit."""
    image = file(folder, source, GUEST)
    return run_guest(RunOptions(image, settings(policy), max_instructions=3000, engine=engine))


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_a_guest_whose_handler_cannot_be_fetched(tmp_path: Path, engine: str) -> None:
    """With stvec unset under a policy that redirects, the vCPU is found at its handler that is not there."""
    report = ran(tmp_path, "csrw stvec, zero\n .word 0", "linux-7.2", engine)
    assert len(report.loops) == 1
    assert report.loops[0].describe() == (
        "vCPU 0 loops at pc 0x0 with inst-access from VS to VS: no memory at guest physical address 0x0; "
        "vstvec is 0, nobody has set it"
    )


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_a_guest_that_repeats_a_delegated_fault(tmp_path: Path, engine: str) -> None:
    """A page fault that VS-mode takes and returns from is named with its page-table entry."""
    source = f"""
        la t0, handler
        csrw stvec, t0
        li t0, {GUEST + 0x1000}
        li t1, {GUEST >> 30 << 28 | 0xCF}
        sd t1, 16(t0)
        li t0, {8 << 60 | GUEST + 0x1000 >> 12}
        csrw satp, t0
        ld t0, 0(zero)
        .balign 4
    handler:
        csrr t1, scause
        sret
    """
    report = ran(tmp_path, source, "linux-7.2", engine)
    assert len(report.loops) == 1
    assert report.as_data()["loops"][0]["name"] == "load-page-fault"
    assert f"V is 0 in the PTE at {GUEST + 0x1000:#x}" in report.loops[0].reason


def test_a_guest_that_gets_on(tmp_path: Path) -> None:
    """A guest that calls its firmware over and over is no loop."""
    assert ran(tmp_path, "1: li a7, 0x10\n li a6, 0\n ecall\n j 1b", "linux-7.2", "native").loops == ()

"""A hart whose trap handler's first instruction traps itself is told of once, while the run goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from trapline.cli.main import main
from trapline.isa.assemble import assemble

RETURNS = """
la t0, 1f; csrw mtvec, t0; 2: ecall; j 2b; .align 2
1: csrr t1, mepc; addi t1, t1, 4; csrw mepc, t1; mret
"""
Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize("engine", ["native", "reference"])
@pytest.mark.parametrize(
    ("command", "base", "source", "says"),
    [
        ("boot", 0x8000_0000, "ecall", "hart 0 takes one trap for ever: inst-access at 0x0, where mtvec leads"),
        ("boot", 0x8000_0000, "la t0, 1f; csrw mtvec, t0; ecall; .align 2; 1: ebreak", "breakpoint at 0x80000010"),
        (
            "run",
            0x8020_0000,
            "li t0, 0x90000000; jr t0",
            "vCPU 0 takes one trap for ever: inst-access at 0x0, where vs",
        ),
    ],
    ids=["board", "handler", "guest"],
)
def test_a_hart_that_is_stuck(
    command: str, base: int, source: str, says: str, engine: str, tmp_path: Path, capsys: Capture
) -> None:
    """A trap at the vector itself, by which nothing else will ever run, is one line on standard error."""
    image = tmp_path / "image.bin"
    image.write_bytes(assemble(source, base))
    main([command, str(image), "--engine", engine, "--max-seconds", "6"])
    error = capsys.readouterr().err
    assert error.count("takes one trap for ever") == 1, error
    assert says in error


@pytest.mark.parametrize(
    ("command", "base", "source"),
    [
        ("boot", 0x8000_0000, "1: j 1b"),
        ("boot", 0x8000_0000, RETURNS),
        ("run", 0x8020_0000, "1: li a7, 16; li a6, 0; ecall; j 1b"),
    ],
    ids=["spins", "returns", "guest"],
)  # fmt: skip
def test_a_hart_that_does_something(command: str, base: int, source: str, tmp_path: Path, capsys: Capture) -> None:
    """A loop, and traps that are handled, are told of by nobody."""
    image = tmp_path / "image.bin"
    image.write_bytes(assemble(source, base))
    main([command, str(image), "--max-seconds", "2"])
    assert "for ever" not in capsys.readouterr().err

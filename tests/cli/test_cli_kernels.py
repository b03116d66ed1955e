"""What `run` and `boot` say of kernels and initramfs that will not do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trapline.cli import main
from trapline.isa.assemble import assemble

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def words(tmp_path: Path) -> Any:
    """A function from a command and further words to a command line with a flat kernel (and firmware)."""
    kernel = tmp_path / "kernel"
    kernel.write_bytes(assemble("1: j 1b", 0x8020_0000))

    def make(command: str, *more: str) -> list[str]:
        first = [str(kernel)] if command == "run" else ["--bios", str(kernel), "--kernel", str(kernel)]
        return [command, *first, *more]

    return make


@pytest.mark.parametrize("command", ["run", "boot"])
def test_initrd(capsys: Capture, words: Any, tmp_path: Path, command: str) -> None:
    """An initramfs that is not there, or larger than memory, is one line with what to do."""
    assert main(words(command, "--initrd", str(tmp_path / "none"))) == 2
    assert capsys.readouterr().err == f"trapline: {tmp_path / 'none'}: No such file or directory\n"
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(8 << 20)
    assert main(words(command, "--initrd", str(big), "--memory", "8M")) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "does not fit into memory" in said
    assert "more --memory" in said


@pytest.mark.parametrize("command", ["run", "boot"])
def test_a_kernel_for_another_machine(capsys: Capture, words: Any, tmp_path: Path, command: str) -> None:
    """A kernel for AArch64 is refused before anything runs."""
    (tmp_path / "kernel").write_bytes(bytes(56) + b"ARM\x64" + bytes(600))
    assert main(words(command)) == 2
    assert "a kernel for AArch64, not for RISC-V" in capsys.readouterr().err

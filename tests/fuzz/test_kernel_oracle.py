"""Searching with a kernel as oracle; here the preset of another version stands for the kernel."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from trapline.conform.conform import ISA
from trapline.conform.sweep_run import run_hosted_sweeps
from trapline.fuzz.kernel import KernelResult, compare, made, write_kernel
from trapline.lab.settings import settings
from trapline.sbi.numbers import Eid


def searched(policy: str, kernel: str, calls: int = 300) -> KernelResult:
    """Return what differs between two presets."""
    sweeps = [made(Random(1), 0, calls)]
    result = KernelResult(settings(policy), kernel, 1)
    compare(result, sweeps, run_hosted_sweeps(settings(kernel), ISA, sweeps, True), ISA)
    return result


def test_a_kernel_is_found_to_answer_otherwise(tmp_path: Path) -> None:
    """The version that BASE says is found, made small to one call, and its ELF fails under the policy alone."""
    result = searched("linux-6.12.117", "linux-6.12")
    assert [(f.rule, f.real, len(f.calls)) for f in result.findings] == [((Eid.BASE, 2, "a1"), "0x60c00", 1)]
    write_kernel(result, "linux-6.12.117", tmp_path)
    for policy, code in (("linux-6.12.117", 1), ("linux-6.12", 0)):
        words = result.findings[0].command.split()[1:]
        words[words.index("--policy") + 1] = policy
        ran = subprocess.run([sys.executable, "-m", "trapline", *words], check=False, capture_output=True)
        assert ran.returncode == code, ran.stderr


def test_a_policy_in_a_file_is_named_so_that_its_line_runs_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script names the whole path of a policy's file: its lines run from any folder."""
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text('extends = "linux-6.12.117"\ndefault = "kill"\n')
    result = searched("mine.toml", "linux-6.12")
    write_kernel(result, "mine.toml", Path("found"))
    script = (tmp_path / "found" / "replay.sh").read_text()
    line = next(line for line in script.splitlines() if line.startswith("trapline "))
    words = line.removesuffix(" || status=$?").split()[1:]
    command = [sys.executable, "-m", "trapline", *words]
    assert f"--policy {tmp_path}/mine.toml" in line
    assert subprocess.run(command, check=False, capture_output=True, cwd=tmp_path / "found").returncode == 1


def test_a_preset_answers_as_itself() -> None:
    """The same calls under the same preset differ in nothing."""
    result = searched("linux-7.2", "linux-7.2")
    assert result.runs == 300 and not result.findings

"""The guest that tries SBI PMU: what holds and what does not, by release."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from trapline.cli.main import main

GUESTS = Path(__file__).resolve().parents[2] / "guests"
AIA_ISA = "rv64imafdch_zicsr_zifencei_zicntr_zihpm_sscofpmf_sstc_smaia_ssaia"

pytestmark = pytest.mark.skipif(
    shutil.which("riscv64-linux-gnu-gcc") is None or shutil.which("make") is None, reason="no cross compiler"
)


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The guest, built."""
    directory = tmp_path_factory.mktemp("pmu")
    subprocess.run(["make", "-s", "-C", str(GUESTS), "pmu", f"BUILD={directory}", "SCALE=quick"], check=True)
    return directory / "quick" / "pmu.elf"


def _console(guest: Path, capfd: pytest.CaptureFixture[str], *options: str) -> tuple[int, list[str]]:
    code = main(["run", str(guest), *options])
    lines = [line.strip("\r") for line in capfd.readouterr().out.splitlines()]
    return code, [line for line in lines if line.startswith(("ok ", "BAD ", "    ", "PASS", "FAIL"))]


@pytest.mark.parametrize("policy", ["linux-7.3", "linux-7.2", "linux-6.12.117"])
def test_counters_of_a_guest(guest: Path, capfd: pytest.CaptureFixture[str], policy: str) -> None:
    """Counters count, stop, go into shared memory, and events of the firmware are counted."""
    code, lines = _console(guest, capfd, "--policy", policy)
    assert code == 0 and "PASS" in lines
    assert not [line for line in lines if line.startswith("BAD")]
    assert len([line for line in lines if line.startswith("ok ")]) == 17


def test_overflow_interrupts_a_guest(guest: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A guest with Sscofpmf, which KVM gives with an AIA, is interrupted when its counter overflows."""
    _, lines = _console(guest, capfd, "--aia", "aplic-imsic", "--isa", AIA_ISA)
    assert "     the guest has Sscofpmf" in lines
    assert "ok   an interrupt tells of it" in lines


def test_the_guest_finds_a_known_bug(guest: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Before the fix of 7.3 and its backports each reading of a stopped counter adds the perf event's count again."""
    code, lines = _console(guest, capfd, "--policy", "linux-6.10")
    assert code == 1
    assert [line for line in lines if line.startswith("BAD")] == ["BAD  stopped, it stays"] * 2

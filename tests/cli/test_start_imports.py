"""What a start imports when the native image and its tables are kept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = str(Path(__file__).resolve().parents[2] / "src")
CODE = "import sys; from trapline.cli import main; code = main(); print(code, *sys.modules, file=sys.stderr)"
# SRST's shutdown; and the test finisher's word for a pass.
GUESTS = {
    "run": (0x535258B7, 0x3548889B, 0x00000813, 0x00000513, 0x00000593, 0x00000073),
    "boot": (0x00100537, 0x000055B7, 0x5555859B, 0x00B52023, 0x0000006F),
}
# No instruction, no compiler of them, and nothing of Python that takes long.
NEEDLESS = ("trapline.isa.all", "trapline.isa.i", "trapline.isa.float", "trapline.engine.compiler", "hashlib")
NEEDLESS += ("dataclasses", "difflib", "fractions", "importlib.resources", "shutil", "tempfile", "cyclopts")
HYPERVISOR = ("trapline.policies", "trapline.kvm.vcpu", "trapline.vmm.guest", "trapline.firmware.firmware")


@pytest.mark.parametrize(("command", "most"), [("run", 342), ("boot", 203)])
def test_a_warm_start_imports_no_instruction(command: str, most: int, tmp_path: Path) -> None:
    """A third start imports no instruction, no compiler and at most so many modules of this package."""
    image = tmp_path / "image.bin"
    image.write_bytes(b"".join(word.to_bytes(4, "little") for word in GUESTS[command]))
    environment = {**os.environ, "PYTHONPATH": SOURCE}
    for _ in range(3):  # the second still keeps what the first has found out
        done = subprocess.run(
            [sys.executable, "-S", "-c", f"import sys; sys.path += {sys.path!r}; {CODE}", command, str(image)],
            env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
    code, *modules = done.stderr.splitlines()[-1].split()
    assert (code, [name for name in NEEDLESS if name in modules]) == ("0", [])
    assert sum(name.startswith("trapline") for name in modules) <= most


def test_a_board_that_runs_on_imports_no_hypervisor(tmp_path: Path) -> None:
    """A board that runs long enough to be watched and compiled imports no policies and nothing of the hypervisor."""
    image = tmp_path / "image.bin"
    image.write_bytes((0x0000006F).to_bytes(4, "little"))
    long = ["boot", str(image), "--max-instructions", "1000M"]
    environment = {**os.environ, "PYTHONPATH": SOURCE, "XDG_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path += {sys.path!r}; {CODE}", *long],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    modules = done.stderr.splitlines()[-1].split()[1:]
    assert "trapline.lab.stat.board" in modules
    assert [name for name in modules if name.split(".")[0] == "msgspec" or name in HYPERVISOR] == []

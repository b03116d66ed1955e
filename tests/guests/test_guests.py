"""The benchmark guests: every program prints the same checksum here, on Spike and on QEMU."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from trapline.engine.native import NativeEngine
from trapline.engine.records import DATA_STORES, FIRST_DATA_STORES, PAGE_HOST
from trapline.machine.machine import Machine
from trapline.session.terminal.console import Console
from trapline.verify.spike import find_spike

GUESTS = Path(__file__).resolve().parents[2] / "guests"
NAMES = sorted(
    [f"{p.stem}-{where}" for p in GUESTS.glob("programs/*.c") for where in ("bare", "guest")]
    + [f"traps-{p.stem}" for p in GUESTS.glob("traps/*.S")]
)
CHECKSUM = re.compile(r"checksum ([0-9a-f]{16})")

pytestmark = pytest.mark.skipif(
    shutil.which("riscv64-linux-gnu-gcc") is None or shutil.which("make") is None, reason="no cross compiler"
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The guests in their quick size."""
    directory = tmp_path_factory.mktemp("guests")
    subprocess.run(["make", "-s", "-C", str(GUESTS), f"BUILD={directory}", "SCALE=quick"], check=True)
    return directory / "quick"


def _output(command: list[str]) -> str:
    run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize("name", NAMES)
def test_same_checksum_everywhere(built: Path, name: str) -> None:
    """A guest ends well with one checksum, whoever runs it."""
    spike, qemu, elf = find_spike(), shutil.which("qemu-system-riscv64"), str(built / f"{name}.elf")
    if spike is None or qemu is None:
        pytest.skip("spike or qemu-system-riscv64 is not installed")
    written = bytearray()
    machine = Machine(memory=64 << 20, console=Console(output=written.extend))
    machine.load(elf)
    result = machine.run(max_instructions=200_000_000)
    assert (result.reason, result.code) == ("exit", 0)
    board = ["-machine", "virt", "-cpu", "rv64,h=true", "-bios", "none", "-nographic", "-kernel"]
    outputs = [written.decode(), _output([spike, "--isa=rv64gch", elf]), _output([qemu, *board, elf])]
    found = [CHECKSUM.findall(text) for text in outputs]
    assert len(found[0]) == 1
    assert found[0] == found[1] == found[2]


def _noticed(elf: Path, most: int = 200_000_000) -> bool:
    """Whether any store of a program's first instructions went to a page that held code then."""
    machine = Machine(memory=64 << 20, engine="native")
    machine.load(elf)
    assert machine.run(max_instructions=most).reason == ("exit" if most > 1_000_000 else "limit")
    assert isinstance(machine.engine, NativeEngine)
    pages = machine.engine.code.by_table.values()
    assert pages
    return any(page.epoch or page.words[DATA_STORES - PAGE_HOST >> 3] != FIRST_DATA_STORES for page in pages)


@pytest.mark.parametrize("name", NAMES)
def test_no_store_of_a_benchmark_meets_code(built: Path, name: str) -> None:
    """Notice of stores to code costs a benchmark nothing: none of its stores goes to a page that holds code."""
    assert not _noticed(built / f"{name}.elf")


def test_a_store_beside_code_is_noticed(built: Path) -> None:
    """A program whose data lies in the page of its code is one whose stores are looked at."""
    subprocess.run(["make", "-s", "-C", str(GUESTS), "code", f"BUILD={built.parent}", "SCALE=quick"], check=True)
    assert _noticed(built / "code-mixed.elf", most=1_000_000)


def test_unexpected_trap_fails(built: Path, tmp_path: Path) -> None:
    """A trap that nobody expects ends with 64 + its cause."""
    source = tmp_path / "bad.S"
    source.write_text(".globl environment\nenvironment: unimp\n")
    elf = tmp_path / "bad.elf"
    flags = ["-march=rv64gc", "-mabi=lp64d", "-nostdlib", "-static", "-Wl,--build-id=none,--no-warn-rwx-segments"]
    common = GUESTS / "common"
    command = ["riscv64-linux-gnu-gcc", *flags, f"-I{common}", "-T", common / "link.ld", common / "machine.S", source]
    subprocess.run([*command, "-o", elf], check=True)
    machine = Machine(memory=64 << 20)
    machine.load(elf)
    result = machine.run(max_instructions=1_000_000)
    assert (result.reason, result.code) == ("exit", 66)

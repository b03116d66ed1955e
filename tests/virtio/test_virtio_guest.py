"""A driver of our own (guests/devices/disk.c), on the board, in a VM, on both engines and on QEMU."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from trapline.machine.machine import Machine
from trapline.machine.virtio.options import VirtioOptions
from trapline.session.terminal.console import Console
from trapline.vmm.guest import Guest

GUESTS = Path(__file__).resolve().parents[2] / "guests"
CHECKSUM = re.compile(r"disk checksum ([0-9a-f]{16})")

pytestmark = pytest.mark.skipif(
    shutil.which("riscv64-linux-gnu-gcc") is None or shutil.which("make") is None, reason="no cross compiler"
)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The driver."""
    folder = tmp_path_factory.mktemp("guests")
    command = ["make", "-s", "-C", str(GUESTS), f"BUILD={folder}", "SCALE=quick", "devices"]
    subprocess.run(command, check=True)
    return folder / "quick" / "device-disk.elf"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A disk of 32 KiB."""
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(k * k >> 3 & 0xFF for k in range(64 * 512)))
    return path


def expected(image: Path) -> str:
    """What the driver makes of sector 3."""
    total = 0
    for byte in image.read_bytes()[3 * 512 : 4 * 512]:
        total = total * 31 + byte & 0xFFFF_FFFF_FFFF_FFFF
    return f"{total:016x}"


@pytest.mark.parametrize("engine", ["native", "reference"])
@pytest.mark.parametrize("place", ["board", "guest"])
def test_a_driver_finds_what_it_expects(program: Path, image: Path, place: str, engine: str) -> None:
    """Requests, the interrupt line, replaced code and NEEDS_RESET are as the driver wants them, wherever it runs."""
    out = bytearray()
    wanted = expected(image)
    machine: Machine | Guest
    virtio = VirtioOptions(rng=True, drive=(str(image),))
    if place == "board":
        machine = Machine(memory=16 << 20, console=Console(out.extend), engine=engine, virtio=virtio)
    else:
        machine = Guest(memory=16 << 20, console=Console(out.extend), engine=engine, virtio=virtio)
    machine.load(program)
    result = machine.run(3_000_000)
    machine.close()
    assert (result.reason, result.code) == ("exit", 0), (result, out)
    assert CHECKSUM.findall(out.decode()) == [wanted]
    assert image.read_bytes()[10 * 512 :][:512] == bytes(k * 7 & 0xFF for k in range(512))


def test_two_runs_are_the_same(program: Path, image: Path) -> None:
    """With a disk that starts the same, a run takes the same instructions and ends at the same tick."""
    seen = []
    for _ in range(2):
        machine = Machine(memory=16 << 20, virtio=VirtioOptions(drive=(f"{image},snapshot",)))
        machine.load(program)
        machine.run()
        machine.close()
        seen.append(machine.position())
    assert seen[0] == seen[1]


def test_qemu_agrees(program: Path, image: Path) -> None:
    """The same driver is content with QEMU's device, and reads the same."""
    qemu = shutil.which("qemu-system-riscv64")
    if qemu is None:
        pytest.skip("qemu-system-riscv64 is not installed")
    wanted = expected(image)
    command = [
        qemu, "-machine", "virt", "-bios", "none", "-nographic", "-kernel", str(program), "-global",
        "virtio-mmio.force-legacy=false", "-drive", f"file={image},if=none,format=raw,id=d", "-device",
        "virtio-blk-device,drive=d",
    ]  # fmt: skip
    run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run
    assert CHECKSUM.findall(run.stdout) == [wanted]

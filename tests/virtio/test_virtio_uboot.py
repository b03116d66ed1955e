"""Debian's U-Boot, as a guest and behind real firmware, finds a virtio disk and reads and writes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from trapline.machine.machine import Machine
from trapline.machine.virtio.options import VirtioOptions
from trapline.session.terminal.console import Console
from trapline.session.terminal.sources import Script
from trapline.vmm.guest import Guest

FIRMWARE = Path("/usr/lib/riscv64-linux-gnu/opensbi/generic/fw_jump.elf")
UBOOT = Path("/usr/lib/u-boot/qemu-riscv64_smode/uboot.elf")
COMMANDS = (
    b"virtio scan",
    b"virtio info",
    b"virtio read 0x81000000 3 2",
    b"md.b 0x81000000 10",
    b"virtio write 0x81000000 20 1",
    b"poweroff",
)

pytestmark = pytest.mark.skipif(not (FIRMWARE.exists() and UBOOT.exists()), reason="needs opensbi and u-boot-qemu")


@pytest.mark.parametrize("place", ["board", "guest"])
def test_uboot_uses_a_virtio_disk(tmp_path: Path, place: str) -> None:
    """`virtio scan`, `info`, `read` and `write` work; a sector that was written is in the file."""
    image = tmp_path / "disk.img"
    image.write_bytes(b"".join((b"SECTOR %03d" % (k % 1000)).ljust(512, b".") for k in range(2048)))
    out = bytearray()
    steps = [(b"autoboot", b"\r"), *((b"=> ", command + b"\r") for command in COMMANDS)]
    console = Console(out.extend, Script(steps))
    virtio = VirtioOptions(drive=(str(image),), rng=True)
    if place == "board":
        board = Machine(console=console, virtio=virtio)
        board.boot_bios(FIRMWARE, UBOOT)
        result: object = board.run(300_000_000).exit_status
        board.close()
    else:
        guest = Guest(console=console, virtio=virtio)
        guest.load(UBOOT)
        result = guest.run(300_000_000).exit_status
        guest.close()
    text = out.decode(errors="replace")
    assert result == 0, text
    assert "Capacity: 1.0 MB" in text and "2 blocks read: OK" in text and "1 blocks written: OK" in text
    assert "SECTOR 003" in text
    assert image.read_bytes()[0x20 * 512 :][:10] == b"SECTOR 003"

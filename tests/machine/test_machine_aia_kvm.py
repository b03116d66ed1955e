"""A real kernel's KVM gives a Linux guest the board's guest interrupt files.

Names of the files that this needs: as in test_machine_linux.py, and TRAPLINE_TEST_KVM.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.machine.initramfs import initramfs

from trapline.machine.aia import Aia
from trapline.machine.machine import Machine
from trapline.session.terminal.console import Console
from trapline.vmm.guest import Guest
from trapline.vmm.guest_tree import guest_tree

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("riscv64-linux-gnu-gcc") is None, reason="no cross compiler"),
]

SOURCE = Path(__file__).resolve().parents[2] / "guests" / "kvm-aia" / "kvm_aia.c"
FIRMWARE = Path("/usr/lib/riscv64-linux-gnu/opensbi/generic/fw_dynamic.bin")
ARGUMENTS = "console=ttyS0 quiet cryptomgr.notests=1 rdinit=/init"
INITRD = 0x8800_0000
GUEST_INIT = """#!/bin/sh
mount -t proc proc /proc
sleep 1
cat /proc/interrupts
echo GUEST-DONE
poweroff -f
"""
HOST_INIT = """#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
insmod /kvm.ko
/kvm-aia {vcpus} {mode}
echo HOST
cat /proc/interrupts
poweroff -f
"""


def _named(variable: str) -> Path:
    path = os.environ.get(variable)
    if path is None:
        pytest.skip(f"{variable} is not set")
    return Path(path)


def _tree(vcpus: int, initrd_size: int) -> bytes:
    guest = Guest(memory=64 << 20, vcpus=vcpus, engine="reference", aia="aplic-imsic,guests=1")
    ramdisk = (INITRD, INITRD + initrd_size)
    ram = [(0x8000_0000, 256 << 20)]
    return guest_tree(guest.vm.vcpus[0], ram, vcpus, 10_000_000, ARGUMENTS, ramdisk, aia=Aia("aplic-imsic"))


@pytest.mark.parametrize(("guests", "vcpus", "mode"), [(3, 2, 1), (1, 2, 2)])
def test_linux_guest_with_guest_files(tmp_path: Path, guests: int, vcpus: int, mode: int) -> None:
    """Two vCPUs on one hart, each with a guest file or one emulated: wires, IPIs, and SGEI wakes them."""
    image, busybox, kvm = (_named(f"TRAPLINE_TEST_{name}") for name in ("IMAGE", "BUSYBOX", "KVM"))
    program = tmp_path / "kvm-aia"
    flags = ["-static", "-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-pthread"]
    subprocess.run(["riscv64-linux-gnu-gcc", *flags, "-o", program, SOURCE], check=True)
    ramdisk = initramfs(busybox, GUEST_INIT)
    (tmp_path / "guest.cpio").write_bytes(ramdisk)
    (tmp_path / "guest.dtb").write_bytes(_tree(vcpus, len(ramdisk)))
    files = {"kvm.ko": kvm, "kvm-aia": program, "guest.Image": image}
    files |= {name: tmp_path / name for name in ("guest.cpio", "guest.dtb")}
    (tmp_path / "host.cpio").write_bytes(initramfs(busybox, HOST_INIT.format(vcpus=vcpus, mode=mode), files))
    output = bytearray()
    machine = Machine(
        memory=1 << 30,
        misaligned="hardware",
        aia=f"aplic-imsic,guests={guests}",
        console=Console(output.extend),
    )
    machine.boot_bios(FIRMWARE, image, tmp_path / "host.cpio", ARGUMENTS)
    result = machine.run(max_instructions=6_000_000_000, max_seconds=600)
    assert (result.reason, result.code) == ("exit", 0)
    guest, _, host = output.decode(errors="replace").partition("HOST")
    assert "GUEST-DONE" in guest
    assert re.search(r"APLIC-MSI\S* +10 .*ttyS0", guest)
    assert re.search(r"IPI1: +[1-9]\d* +[1-9]\d* ", guest)
    assert re.search(r"[1-9]\d* +RISC-V INTC +12 .*riscv-kvm", host)

"""A distribution's own Linux kernel boots on the board, in HS-mode under real firmware.

TRAPLINE_TEST_IMAGE names a riscv64 Image, TRAPLINE_TEST_BUSYBOX a static riscv64 busybox; with
TRAPLINE_TEST_KVM (the kernel's own kvm.ko, unpacked) its KVM is loaded too.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from tests.machine.initramfs import initramfs

from trapline.machine.machine import Machine
from trapline.machine.result import RunResult
from trapline.session.state.snapshot import SAVED
from trapline.session.terminal.console import Console
from trapline.session.terminal.sources import FileInput, InputSource, NoInput, Script

pytestmark = pytest.mark.slow

FIRMWARE = Path("/usr/lib/riscv64-linux-gnu/opensbi/generic/fw_dynamic.bin")
ARGUMENTS = "console=ttyS0 cryptomgr.notests=1 rdinit=/init"
INIT = """#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
[ -f /kvm.ko ] && insmod /kvm.ko
exec sh </dev/console >/dev/console 2>&1
"""


def _named(variable: str) -> Path:
    path = os.environ.get(variable)
    if path is None:
        pytest.skip(f"{variable} is not set")
    return Path(path)


class Boot:
    """A board about to boot, and what it has written so far."""

    def __init__(
        self,
        directory: Path,
        source: InputSource,
        harts: int = 1,
        files: dict[str, Path] | None = None,
        aia: str = "none",
    ):
        image, busybox = _named("TRAPLINE_TEST_IMAGE"), _named("TRAPLINE_TEST_BUSYBOX")
        ramdisk = directory / "initramfs.cpio"
        ramdisk.write_bytes(initramfs(busybox, INIT, files))
        self.output = bytearray()
        console = Console(self.output.extend, source)
        self.machine = Machine(memory=512 << 20, misaligned="hardware", harts=harts, console=console, aia=aia)
        self.machine.boot_bios(FIRMWARE, image, ramdisk, ARGUMENTS)

    def run(self) -> RunResult:
        """Run to the end."""
        return self.machine.run(max_instructions=3_000_000_000, max_seconds=300)


def _commands(*commands: str) -> Script:
    return Script([(b"# ", command.encode() + b"\r") for command in commands])


@pytest.mark.parametrize("harts", [1, 2])
def test_linux_boots_to_a_shell(tmp_path: Path, harts: int) -> None:
    """A shell answers, sees every hart, and powers the board off."""
    boot = Boot(tmp_path, _commands("grep -c ^processor /proc/cpuinfo", "poweroff -f"), harts)
    result = boot.run()
    assert (result.reason, result.code) == ("exit", 0), bytes(boot.output[-2000:]).decode(errors="replace")
    assert b"/proc/cpuinfo\r\n%d\r\n" % harts in boot.output


def test_two_boots_are_the_same(tmp_path: Path) -> None:
    """The same input gives the same output after the same number of instructions."""
    boots = [Boot(tmp_path, _commands("dmesg | grep -i random", "poweroff -f")) for _ in range(2)]
    assert boots[0].run() == boots[1].run()
    assert boots[0].output == boots[1].output


def test_the_kernels_own_kvm_loads(tmp_path: Path) -> None:
    """kvm.ko finds the hypervisor extension and the largest G-stage that the hart has."""
    boot = Boot(
        tmp_path, _commands("dmesg | grep -i kvm", "poweroff -f"), files={"kvm.ko": _named("TRAPLINE_TEST_KVM")}
    )
    assert boot.run().reason == "exit"
    assert b"hypervisor extension available" in boot.output
    assert b"using Sv57x4 G-stage page table format" in boot.output


@pytest.mark.parametrize(("aia", "controller"), [("aplic", b"APLIC-DIRECT"), ("aplic-imsic,guests=3", b"APLIC-MSI")])
def test_interrupts_through_the_aia(tmp_path: Path, aia: str, controller: bytes) -> None:
    """The console's interrupts arrive through the APLIC, and through the IMSIC behind it; KVM finds the guest files."""
    kernel = {"kvm.ko": Path(os.environ["TRAPLINE_TEST_KVM"])} if "TRAPLINE_TEST_KVM" in os.environ else None
    boot = Boot(tmp_path, _commands("cat /proc/interrupts", "dmesg | grep kvm", "poweroff -f"), 2, kernel, aia)
    result = boot.run()
    assert (result.reason, result.code) == ("exit", 0)
    assert controller in bytes(boot.output)
    if kernel and "guests" in aia:
        assert b"AIA available with 3 guest external interrupts" in bytes(boot.output)


def test_an_idle_kernel_costs_nothing_and_stops_at_once(tmp_path: Path) -> None:
    """At the prompt the hart's thread sleeps (others may still compile); Ctrl-C ends the run within a moment."""
    read_end, write_end = os.pipe()
    boot = Boot(tmp_path, FileInput(read_end))
    seen: dict[str, float] = {}
    clock = time.pthread_getcpuclockid(threading.get_ident())

    def person() -> None:
        while b"# " not in boot.output:
            time.sleep(0.1)
        time.sleep(1)
        before = time.clock_gettime(clock)
        time.sleep(3)
        seen["processor"] = time.clock_gettime(clock) - before
        seen["interrupted"] = time.monotonic()
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=person, daemon=True).start()
    result = boot.run()
    assert result.reason == "interrupted"
    assert time.monotonic() - seen["interrupted"] < 0.5
    assert seen["processor"] < 0.3
    os.close(read_end)
    os.close(write_end)


@pytest.mark.parametrize("harts", [1, 2])
def test_a_restored_kernel_boots_on_as_the_saved_one(tmp_path: Path, harts: int) -> None:
    """Every word of harts and memory is the same after as many instructions, and the shell comes up."""
    boot = Boot(tmp_path, NoInput(), harts)
    boot.machine.run(max_instructions=400_000_000)
    boot.machine.snapshot(tmp_path / "snapshot")
    output = bytearray()
    again = Machine.restore(tmp_path / "snapshot", console=Console(output.extend))
    before = len(boot.output)
    for machine in (boot.machine, again):
        machine.run(max_instructions=250_000_000 * harts)
    assert boot.output[before:] == output
    for one, other in zip(boot.machine.regions, again.regions, strict=True):
        assert one.backing is None or one.backing.block[:] == other.backing.block[:]
    for one, other in zip(boot.machine.harts, again.harts, strict=True):
        for f in SAVED:
            assert one.mem[f.index : f.index + f.count] == other.mem[f.index : f.index + f.count], f.name
    again.uart.receive(b"poweroff -f\r")
    assert again.run(max_instructions=2_000_000_000).reason == "exit"

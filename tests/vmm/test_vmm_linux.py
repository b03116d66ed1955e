"""A distribution's own Linux kernel as a guest of the hosted KVM.

TRAPLINE_TEST_IMAGE names a riscv64 Image, TRAPLINE_TEST_BUSYBOX a static riscv64 busybox.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.machine.initramfs import initramfs

from trapline.session.terminal.console import Console
from trapline.session.terminal.sources import Script
from trapline.vmm.guest import Guest
from trapline.vmm.result import GuestResult

pytestmark = pytest.mark.slow

ARGUMENTS = "console=ttyS0 cryptomgr.notests=1 rdinit=/init"
INIT = """#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
exec sh </dev/console >/dev/console 2>&1
"""


@pytest.fixture
def image() -> Path:
    """The kernel."""
    if "TRAPLINE_TEST_IMAGE" not in os.environ:
        pytest.skip("TRAPLINE_TEST_IMAGE is not set")
    return Path(os.environ["TRAPLINE_TEST_IMAGE"])


class Woken(Script):
    """Answers prompts; once the guest has said that it suspends and every vCPU blocks, a key five seconds later."""

    guest: Guest
    seen = b""
    wake: tuple[int, int] | None = None

    def on_output(self, data: bytes) -> bool:
        self.seen += data
        return super().on_output(data)

    def next_position(self) -> tuple[int, int] | None:
        if self.wake is None and b"suspend entry" in self.seen and self.guest.vm.vcpus[0].blocked:
            self.wake = (0, self.guest.position()[1] + 5 * self.guest.vm.timebase)
        return self.wake

    def poll(self, position: tuple[int, int]) -> bytes:
        data = super().poll(position)
        if self.wake is not None and position[1] >= self.wake[1]:
            self.wake, self.seen = None, b""
            data += b"\r"
        return data


def boot(
    image: Path, directory: Path, *commands: str, vcpus: int = 1, policy: str = "linux-7.2", isa: str | None = None
) -> tuple[GuestResult, bytes, Guest]:
    """Boot to a shell, type commands, and return how it ended and what it wrote."""
    if "TRAPLINE_TEST_BUSYBOX" not in os.environ:
        pytest.skip("TRAPLINE_TEST_BUSYBOX is not set")
    ramdisk = directory / "initramfs.cpio"
    ramdisk.write_bytes(initramfs(Path(os.environ["TRAPLINE_TEST_BUSYBOX"]), INIT, None))
    output = bytearray()
    script = Woken([(b"# ", command.encode() + b"\r") for command in commands])
    options = {"isa": isa} if isa else {}
    guest = Guest(policy, vcpus=vcpus, console=Console(output.extend, script), **options)  # type: ignore[arg-type]
    script.guest = guest
    guest.load(image, initrd=ramdisk, append=ARGUMENTS)
    result = guest.run(max_instructions=3_000_000_000, max_seconds=400)
    return result, bytes(output), guest


@pytest.mark.parametrize("vcpus", [1, 2, 4])
def test_a_shell_on_each_number_of_vcpus(image: Path, tmp_path: Path, vcpus: int) -> None:
    """The kernel brings all vCPUs up, finds KVM's SBI and its PMU, and powers off."""
    result, output, _ = boot(image, tmp_path, "nproc", "poweroff -f", vcpus=vcpus)
    assert (result.reason, result.code) == ("exit", 0), output[-2000:].decode(errors="replace")
    assert b"nproc\r\n%d\r\n" % vcpus in output
    assert b"SBI implementation ID=0x3" in output
    assert b"22 firmware and 2 hardware counters" in output


def test_the_same_run_twice(image: Path, tmp_path: Path) -> None:
    """Two vCPUs do exactly the same in two runs."""
    runs = []
    for _ in range(2):
        result, output, guest = boot(image, tmp_path, "cat /proc/interrupts", "poweroff -f", vcpus=2)
        runs.append((result.instructions, output, guest.vm.stats()))
    assert runs[0] == runs[1]


def test_a_vcpu_goes_and_comes_back(image: Path, tmp_path: Path) -> None:
    """CPU hotplug stops a vCPU and starts it again; reboot is a system event."""
    online = "/sys/devices/system/cpu/cpu1/online"
    commands = (f"echo 0 > {online}; nproc", f"echo 1 > {online}; nproc", "reboot -f")
    result, output, _ = boot(image, tmp_path, *commands, vcpus=2)
    assert result.reason == "reset"
    assert output.count(b"nproc\r\n") == 2
    assert b"CPU1: off" in output


def test_suspend_to_ram(image: Path, tmp_path: Path) -> None:
    """A suspended guest sleeps until a key and goes on with all vCPUs."""
    wakeup = "for w in $(find /sys/devices -name wakeup); do echo enabled > $w; done 2>/dev/null"
    suspend = f"{wakeup}; echo mem > /sys/power/state; nproc"
    result, output, guest = boot(image, tmp_path, suspend, "poweroff -f", vcpus=2)
    assert result.reason == "exit"
    assert b"PM: suspend exit" in output
    assert guest.vm.stats()["halt_wait_ns"] > 4_000_000_000


def test_timers_by_sbi(image: Path, tmp_path: Path) -> None:
    """Without Sstc the guest sets its timers by SBI, and a second is a second."""
    isa = "rv64imafdch_zicsr_zifencei_zicntr_zihpm_zba_zbb_zbs_svinval_svpbmt"
    result, output, guest = boot(image, tmp_path, "time sleep 1", "poweroff -f", isa=isa)
    assert result.reason == "exit"
    assert b"real\t0m 1.0" in output
    assert not guest.vm.vcpus[0].timer.sstc


@pytest.mark.parametrize(
    "policy", ["linux-5.17", "linux-6.1", "xvisor", "bao", "zhou", "patel", "holland-1", "holland-2"]
)
def test_other_hypervisors(image: Path, tmp_path: Path, policy: str) -> None:
    """The kernel boots under every policy that offers it SBI v0.2."""
    assert boot(image, tmp_path, "nproc", "poweroff -f", vcpus=2, policy=policy)[0].reason == "exit"

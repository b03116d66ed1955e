"""What a kernel expects of a machine besides: a clock, and a way to reboot."""

from __future__ import annotations

import pytest

from trapline.isa.assemble import assemble
from trapline.machine.devices.rtc import EPOCH
from trapline.machine.machine import Machine
from trapline.vmm.guest import Guest

CLOCK = """
    li t0, 0x101000
    lwu s0, 0(t0)
    lwu s1, 4(t0)
    slli s1, s1, 32
    or s0, s0, s1
    li t1, 1000000000
    divu s0, s0, t1
"""
FINISHER = "li t0, 0x100000\n li t1, 0x7777\n sw t1, 0(t0)\n 9: j 9b"
SRST = "li a7, 0x53525354\n li a6, 0\n li a0, {kind}\n li a1, 0\n ecall\n 9: j 9b"


@pytest.mark.parametrize(
    ("ending", "reason"), [(FINISHER, "reset"), (SRST.format(kind=1), "reset"), (SRST.format(kind=2), "reset")]
)
def test_a_guest_reads_the_clock_and_reboots(ending: str, reason: str) -> None:
    """The goldfish clock shows the fixed date; syscon-reboot, cold and warm SRST end the run as a reset, with 0."""
    guest = Guest(memory=4 << 20)
    guest.load_bytes(assemble(CLOCK + ending, 0x8020_0000))
    result = guest.run(100_000)
    assert (result.reason, result.exit_status) == (reason, 0)
    assert int(guest.vm.vcpus[0].hart.x[8]) == EPOCH


def test_a_board_reads_the_clock_and_reboots() -> None:
    """The same devices at the same addresses on the board."""
    machine = Machine(memory=4 << 20)
    machine.regions.write(0x8000_0000, assemble(CLOCK + FINISHER, 0x8000_0000))
    machine.harts[0].pc = 0x8000_0000
    result = machine.run(100_000)
    assert (result.reason, result.exit_status) == ("reset", 0)
    assert int(machine.harts[0].x[8]) == EPOCH

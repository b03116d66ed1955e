"""Both engines run the same hosted hypervisor and firmware: what they leave is the same, event by event."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from trapline.fetch.store import find_kernel
from trapline.lab.probe import Observation, ProbeVm
from trapline.lab.settings import settings
from trapline.machine.console import Console
from trapline.vmm.guest import Guest

UBOOT = Path("/usr/lib/u-boot/qemu-riscv64_smode/uboot.elf")


def observed(found: Observation) -> dict[str, Any]:
    """What one event did: where it went, what each level and the guest saw, counters, instructions."""
    return {
        "end": found.end,
        "records": found.records,
        "costs": found.costs,
        "arrivals": found.arrivals,
        "hardware": found.traps,
        "guest": found.log,
        "instructions": found.instructions,
        "counters": found.counters,
        "exits": found.exits,
    }


@pytest.mark.parametrize(
    ("policy", "firmware"),
    [
        ("linux-7.2", "opensbi-1.6"),
        pytest.param("linux-6.12", "opensbi-1.1", marks=pytest.mark.slow),
        pytest.param("patel", "ignores-hedeleg", marks=pytest.mark.slow),
    ],
)
def test_every_event_is_the_same(policy: str, firmware: str) -> None:
    """Each event from VS and VU has the same trace, counters, time and end under both engines."""
    chosen = settings(policy, firmware)
    native, reference = ProbeVm(chosen), ProbeVm(chosen, engine="reference")
    for entry in native.image.entries:
        one, other = (observed(vm.run(entry)) for vm in (native, reference))
        assert one == other, (entry.event.id, entry.mode)
        assert native.vcpu.hart.instret == reference.vcpu.hart.instret, (entry.event.id, entry.mode)
        assert native.vcpu.hart.time_offset == reference.vcpu.hart.time_offset, (entry.event.id, entry.mode)


def picture(engine: str, instructions: int, image: Path = UBOOT) -> dict[str, Any]:
    """What the first instructions of a program leave."""
    out = bytearray()
    made = Guest("linux-7.2", memory=64 << 20, console=Console(out.extend), engine=engine)
    made.load(image)
    result = made.run(max_instructions=instructions)
    hart = made.vm.vcpus[0].hart
    return {
        "result": (result.reason, result.instructions),
        "console": bytes(out),
        "position": made.position(),
        "statistics": made.vm.stats(),
        "last traps": list(made.vm.last_traps),
        "registers": [int(hart.pc), *[int(hart.x[n]) for n in range(32)]],
        "memory": hashlib.sha256(made.vm.read_memory(0x8000_0000, 64 << 20)).hexdigest(),
    }


@pytest.mark.parametrize("instructions", [20_000, pytest.param(2_000_000, marks=pytest.mark.slow)])
def test_the_beginning_of_uboot_is_the_same(instructions: int) -> None:
    """U-Boot's first instructions as a guest leave registers, memory, time, traps and statistics alike."""
    assert picture("native", instructions) == picture("reference", instructions)


@pytest.mark.slow
def test_the_beginning_of_linux_is_the_same() -> None:
    """The first instructions of a fetched kernel as a guest leave the same under both engines."""
    kernel = find_kernel("linux-6.12")
    if kernel is None:
        pytest.skip("no kernel: trapline fetch kernel")
    assert picture("native", 60_000, kernel.image) == picture("reference", 60_000, kernel.image)

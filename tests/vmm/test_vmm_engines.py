"""Both engines run the same hosted hypervisor and firmware: what they leave is the same, event by event."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from trapline.fetch.store import find_kernel
from trapline.lab.probe.probe import Observation, ProbeVm
from trapline.lab.settings import settings
from trapline.session.terminal.console import Console
from trapline.vmm.guest import Guest

MEMORY = 64 << 20
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
    made = Guest("linux-7.2", memory=MEMORY, console=Console(out.extend), engine=engine)
    made.load(image)
    return left(made, out, instructions)


def restored(engine: str, instructions: int, snapshot: Path) -> dict[str, Any]:
    """What the next instructions of a saved guest leave."""
    out = bytearray()
    return left(Guest.restore(snapshot, engine=engine, console=Console(out.extend)), out, instructions)


def left(made: Guest, out: bytearray, instructions: int) -> dict[str, Any]:
    """What a guest and its VM are after so many instructions."""
    result = made.run(max_instructions=instructions)
    hart = made.vm.vcpus[0].hart
    return {
        "result": (result.reason, result.instructions),
        "console": bytes(out),
        "position": made.position(),
        "statistics": made.vm.stats(),
        "last traps": list(made.vm.last_traps),
        "registers": [int(hart.pc), *[int(hart.x[n]) for n in range(32)], *[int(hart.f[n]) for n in range(32)]],
        "memory": hashlib.sha256(made.vm.read_memory(0x8000_0000, made.spec.memory)).hexdigest(),
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


PLACES = 12  # on the way of a guest, where both engines go on from the same snapshot
SOME = 4_000  # instructions there: the reference engine runs a few thousand in a second


@pytest.mark.slow
@pytest.mark.parametrize(
    ("guest", "apart", "says"), [("u-boot", 5_000_000, b"Hit any key"), ("linux-6.12", 13_000_000, b"")]
)
def test_places_on_the_way_are_the_same(guest: str, apart: int, says: bytes, tmp_path: Path) -> None:
    """From places on the way of U-Boot to its prompt, and of Linux, both engines go on alike."""
    kernel = None if guest == "u-boot" else find_kernel(guest)
    if guest != "u-boot" and kernel is None:
        pytest.skip("no kernel: trapline fetch kernel")
    out = bytearray()
    size = MEMORY if kernel is None else 2 * MEMORY
    made = Guest("linux-7.2", memory=size, console=Console(out.extend), engine="native")
    made.load(UBOOT if kernel is None else kernel.image)
    for place in range(PLACES):
        made.run(max_instructions=apart + 977 * place)  # not always at the same instruction of a loop
        made.snapshot(tmp_path / "place")
        one, other = (restored(engine, SOME, tmp_path / "place") for engine in ("native", "reference"))
        assert one == other, place
    assert says in out

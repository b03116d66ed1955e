"""A program that nobody here wrote, as a guest: Debian's U-Boot for S-mode."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trapline.lab.compare import compare, routes_differ
from trapline.lab.guest_run import RunOptions, run_guest
from trapline.lab.settings import settings
from trapline.session.terminal.console import Console
from trapline.session.terminal.sources import Script

UBOOT = Path("/usr/lib/u-boot/qemu-riscv64_smode/uboot.elf")
TYPED = [(b"autoboot", b" "), (b"=> ", b"version\n"), (b"=> ", b"bdinfo\n"), (b"=> ", b"poweroff\n")]

needs_uboot = pytest.mark.skipif(not UBOOT.exists(), reason="needs the Debian package u-boot-qemu")


def boot(policy: str, trace: Path | None = None) -> tuple[bytes, object]:
    """Boot U-Boot, type commands at its prompt, power off."""
    output = bytearray()
    console = Console(output.extend, Script(list(TYPED)))
    options = RunOptions(str(UBOOT), settings(policy), max_seconds=120, trace=str(trace) if trace else None)
    report = run_guest(options, console)
    assert report.result.message == "the guest powered off"
    assert report.balance == ()
    return bytes(output), report


@needs_uboot
@pytest.mark.parametrize("policy", ["linux-6.12", "linux-7.2"])
def test_uboot_takes_commands_and_powers_off(policy: str, tmp_path: Path) -> None:
    """U-Boot boots to its prompt, obeys, and the sum of the trace records is that of the compiled counters."""
    trace = tmp_path / "trace.jsonl"
    output, report = boot(policy, trace)
    for text in (b"U-Boot 20", b"riscv64-linux-gnu-gcc", b"relocaddr", b"poweroff ..."):
        assert text in output
    data = report.as_data()  # type: ignore[attr-defined]
    left = sum(t["count"] for t in data["traps"] if len(t["how"]) > 1 or t["path"][-1] != "VS")
    records = [json.loads(line) for line in trace.read_text().splitlines()]
    assert len(records) == left
    assert data["counters"]["exits"] == sum("HS" in r["path"] for r in records)
    assert {t["end"] for t in data["traps"]} <= {"vmm", "resumed", "guest", "emulated"}


@needs_uboot
def test_the_same_run_twice_is_the_same() -> None:
    """Two runs with the same input have the same output, traps and instruction counts."""
    (first, one), (second, two) = boot("linux-7.2"), boot("linux-7.2")
    assert first == second
    fields = ("traps", "instructions", "counters", "ticks", "instret")
    assert [one.as_data()[f] for f in fields] == [two.as_data()[f] for f in fields]  # type: ignore[attr-defined]


@needs_uboot
def test_compare_on_a_real_guest() -> None:
    """U-Boot takes the same routes under 6.12 and 6.17: it raises nothing that they treat differently."""
    result = compare(UBOOT, ["linux-6.12", "linux-6.17"], max_instructions=200_000_000)
    assert not any(routes_differ(rows) for _, _, rows in result.table())
    assert [r.result.reason for r in result.reports] == ["limit", "limit"]

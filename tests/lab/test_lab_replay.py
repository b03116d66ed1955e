"""Counterexamples run by themselves: as guests, beside real firmware on QEMU, bare on Spike and on the board."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from trapline.lab.audit.audit import audit
from trapline.lab.audit.checks import Finding
from trapline.lab.boot import BootOptions, boot
from trapline.lab.guest_run import RunOptions, run_guest
from trapline.lab.probe.events import EVENTS
from trapline.lab.probe.oracle import expected
from trapline.lab.replay.replay import guest_of, write_all
from trapline.lab.settings import settings
from trapline.machine.load.elf import parse
from trapline.verify.spike import find_spike

QEMU = "qemu-system-riscv64"
FIRMWARE_END = 0x8020_0000
# Events that every machine answers in the same way; what is at an address of a device is not among them.
SAME = [("fetch-hole", "VU"), ("fetch-hole", "VS"), ("illegal", "VU"), ("illegal", "VS"), ("load-hole", "VU")]


def finding(event: str, mode: str) -> Finding:
    """A finding about an event, be it one or not."""
    found = next(e for e in EVENTS if e.id == event)
    return Finding("a", "fail", "linux-7.2", "opensbi-1.6", False, "trap", event, found.text, mode, found.cause, "x")


@pytest.fixture(params=SAME, ids=" ".join)
def program(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    """A counterexample, and what it writes on a machine without hypervisor."""
    event, mode = request.param
    path = tmp_path / f"{event}-{mode.lower()}.elf"
    path.write_bytes(guest_of(finding(event, mode)))
    (sees,) = expected()[event, mode]
    assert sees is not None
    text = f"{event} from {mode}\n  scause {sees.cause:#018x} sepc {sees.epc:#018x} stval {sees.tval:#018x}\n"
    return path, text


def test_it_runs_beside_opensbi_on_qemu(program: tuple[Path, str]) -> None:
    """QEMU's -kernel starts it in S-mode under its OpenSBI; it writes what its handler got, and ends QEMU with 0."""
    path, text = program
    if shutil.which(QEMU) is None:
        pytest.skip("qemu-system-riscv64 is not installed")
    command = [QEMU, "-M", "virt", "-display", "none", "-serial", "stdio", "-kernel", str(path)]
    done = subprocess.run(command, capture_output=True, timeout=60, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0
    assert done.stdout.decode().endswith(text)


def test_it_runs_bare_on_spike(program: tuple[Path, str]) -> None:
    """Spike starts it in M-mode; it hands every trap to S-mode, writes what its handler got, and ends Spike with 0."""
    path, text = program
    spike = find_spike()
    if spike is None:
        pytest.skip("spike is not installed")
    command = [spike, "--isa=rv64gc_zicntr_zihpm", str(path)]
    done = subprocess.run(command, capture_output=True, timeout=60, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode() == text


def test_it_runs_bare_on_the_board(program: tuple[Path, str]) -> None:
    """`trapline boot` runs it as Spike does."""
    path, text = program
    written = bytearray()
    from trapline.session.terminal.console import Console

    report = boot(BootOptions(str(path), max_instructions=1_000_000), Console(written.extend))
    assert report.result.exit_status == 0
    assert written.decode() == text


def test_it_runs_as_a_guest(program: tuple[Path, str]) -> None:
    """Under a policy that gives the guest its trap it writes the same, and powers off."""
    path, text = program
    slots = ("0x18000000:0x10000:hole", "0x44000000:0x10000:ro")
    report = run_guest(
        RunOptions(str(path), settings("linux-7.2"), memory="16M", memslot=slots, max_instructions=100_000)
    )
    assert report.result.exit_status == 0
    assert report.output.decode() == text


def test_nothing_overlaps_the_firmware() -> None:
    """Everything lies behind the 2 MiB that firmware has, and the lowest address is where it starts."""
    for event in EVENTS:
        for mode in event.modes:
            if not event.isa:
                elf = parse(guest_of(finding(event.id, mode)), event.id)
                assert elf.entry == min(s.address for s in elf.segments) == FIRMWARE_END
    assert {"tohost", "fromhost", "event", "after"} <= set(elf.symbols)


def test_replay_runs_from_any_directory(tmp_path: Path) -> None:
    """replay.sh finds its programs and the policy's file wherever it is called, and fails as the runs do."""
    policy, place, elsewhere = tmp_path / "mine.toml", tmp_path / "found", tmp_path / "elsewhere"
    elsewhere.mkdir()
    policy.write_text('extends = "linux-6.13"\ndefault = "kill"\n')
    here = Path.cwd()
    try:
        os.chdir(tmp_path)
        result = audit("mine.toml", firmware=["opensbi-1.6"], host_fwft=(False,), event="^fetch-hole$", workers=1)
        replays = write_all(result.failures, "found", {result.policies[0]: "mine.toml"})
    finally:
        os.chdir(here)
    assert replays[0].command.startswith("trapline run found/fetch-hole-vs.elf --policy mine.toml")
    program = tmp_path / "bin" / "trapline"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m trapline "$@"\n')
    program.chmod(0o755)
    source = str(Path(__file__).resolve().parents[2] / "src")
    environment = {**os.environ, "PYTHONPATH": source, "PATH": f"{program.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        [str(place / "replay.sh")], cwd=elsewhere, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout.count("kvm: VCPU exit error -14") == 2

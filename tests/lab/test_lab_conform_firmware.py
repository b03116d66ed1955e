"""`trapline conform --firmware`: own small firmwares whose every answer is known, and Debian's OpenSBI 1.1."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from trapline.cli.main import main
from trapline.conform.firmware import FirmwareReport, conform_firmware, route
from trapline.isa.assemble import assemble
from trapline.machine.memory_map import RAM_BASE

OPENSBI = Path("/usr/lib/riscv64-linux-gnu/opensbi/generic/fw_dynamic.bin")
START = """
    la t0, trap
    csrw mtvec, t0
    li t0, -1
    csrw pmpaddr0, t0
    li t0, 0x1f
    csrw pmpcfg0, t0
    li t0, {medeleg}
    csrw medeleg, t0
    li t0, 0x80200000
    csrw mepc, t0
    li t0, 1 << 11
    csrw mstatus, t0
    mret
    .align 2
trap:
"""
SPINS = "j trap"
TO_HS = """
    csrr t0, mcause; csrw scause, t0
    csrr t0, mepc; csrw sepc, t0
    csrr t0, stvec; csrw mepc, t0
    li t0, 1 << 39 | 3 << 11; csrc mstatus, t0
    li t0, 1 << 11; csrs mstatus, t0
    mret
"""


def image(folder: Path, handler: str, medeleg: int = 0, start: str = START) -> Path:
    """Write a firmware of our own: it opens memory, delegates, and starts S-mode."""
    path = folder / "own.bin"
    path.write_bytes(assemble(start.format(medeleg=medeleg) + handler, RAM_BASE))
    return path


def routes(report: FirmwareReport) -> dict[str, str]:
    """Return who got the event, by mode and hedeleg."""
    return {f"{e.mode} {e.hedeleg:#x}": route(e) for e in report.real.events}


def test_delegated_events_are_seen_in_the_mode_that_hardware_chooses(tmp_path: Path) -> None:
    """Firmware that delegates illegal instructions never runs for them: HS has them, or VS by hedeleg."""
    found = conform_firmware(image(tmp_path, SPINS, 1 << 2), event="^illegal$", against="delegates-all")
    assert routes(found) == {
        f"{mode} {hedeleg}": f"hardware to {to}: inst-illegal"
        for mode, hedeleg, to in (
            ("VS", "0x0", "HS"), ("VS", "0xb1ff", "VS"), ("VU", "0x0", "HS"), ("VU", "0xb1ff", "VS"),
            ("HS", "0x0", "HS"), ("U", "0x0", "HS"),
        )
    }  # fmt: skip
    assert {d.field for d in found.differences} <= {"medeleg", "mideleg", "menvcfg", "mcounteren", "mstateen0"}


def test_a_redirect_names_the_fields_that_it_leaves(tmp_path: Path) -> None:
    """A redirect that writes scause and sepc alone leaves stval, htval, htinst and all bits of the status registers."""
    found = conform_firmware(image(tmp_path, TO_HS), event="^illegal$", against="opensbi-1.6")
    fields = {name: value for e in found.real.events for name, value in e.fields}
    assert {e.how for e in found.real.events} == {"redirected"}
    assert [name for name, value in fields.items() if value != "left"] == ["scause", "sepc"]
    assert not found.passed
    assert {e.instructions for e in found.real.events} == {15}


def test_firmware_that_spins_is_said_to_hang_and_where(tmp_path: Path) -> None:
    """A handler that never returns ends as `hung`, with its place."""
    found = conform_firmware(image(tmp_path, SPINS), event="^illegal$", against="opensbi-1.6")
    assert set(routes(found).values()) == {"hung"}
    assert all("in M at pc 0x8000" in e.where for e in found.real.events)


NEVER = {
    "spins": ("1: j 1b", "the hart is in M at pc 0x80000000"),
    "waits": ("1: wfi; j 1b", "wrote nothing"),
    "traps": (".insn 0xffffffff", "loops at pc 0x"),
}


@pytest.mark.parametrize("name", NEVER)
def test_an_image_that_never_starts_s_mode_is_refused_in_one_line(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line says where the hart is; the exit code is 2."""
    code, words = NEVER[name]
    assert main(["conform", "--firmware", str(image(tmp_path, code, start=""))]) == 2
    said = capsys.readouterr().err
    assert "never reaches S-mode at 0x80200000" in said
    assert words in said
    assert len(said.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "says"),
    [("", "it is a folder, not a file"), ("none.bin", "there is no such file"), ("pipe", "it is no regular file")],
)
def test_what_is_no_file_is_named_for_what_it_is(
    name: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder, a pipe, or nothing in the place of an image is one line that says which, and exit code 2."""
    os.mkfifo(tmp_path / "pipe")
    for words in (["--firmware", str(tmp_path / name)], ["--kernel", "linux", "--bios", str(tmp_path / name)]):
        assert main(["conform", *words]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert f"{(tmp_path / name)}: {says}" in said


def test_options_of_kernels_are_refused(tmp_path: Path) -> None:
    """What asks for a kernel, or for what is not there, is usage: exit code 2."""
    own = str(image(tmp_path, SPINS))
    for words in (
        ["--firmware", str(tmp_path / "none.bin")],
        ["--firmware", own, "--kernel", "linux"],
        ["--firmware", own, "--event", "no such event"],
        ["--firmware", own, "--event", "("],
        ["--firmware", own, "--firmware-model", "opensbi-9.9"],
        ["--firmware-model", "opensbi-1.6"],
    ):
        assert main(["conform", *words]) == 2


def test_opensbi_is_as_its_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Debian's OpenSBI 1.1 does with events of each kind what the model says, and the nearest model is its own."""
    if not OPENSBI.exists():
        pytest.skip("Debian's opensbi is not installed")
    junit = tmp_path / "j.xml"
    events = "^(illegal|csr of M|misaligned (ld|fld|sd|lr.d|sd, no guest page)|load, no memory|rdtime.*|spec version)$"
    options = ["conform", "--firmware", str(OPENSBI), "--event", events, "--json", "-", "--junit", str(junit)]
    assert main([*options, "--firmware-model", "opensbi-1.1"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)["firmware"][0]
    assert (found["differences"], found["instructions_to_s_mode"] > 1_000_000) == ([], True)
    costs = {e["instructions"] - e["model_instructions"] for e in found["events"] if e["event"] == "misaligned ld"}
    assert costs == {0}
    assert 'failures="0"' in junit.read_text()


def test_several_images_stand_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two images give one table, with who got the event and what that cost in each."""
    (tmp_path / "other").mkdir()
    first, second = image(tmp_path, TO_HS), image(tmp_path / "other", SPINS, 1 << 2)
    options = ["--event", "^illegal$", "--firmware-model", "delegates-all"]
    assert main(["conform", "--firmware", str(first), "--firmware", str(second), *options]) == 1
    assert "mHS 15" in (said := capsys.readouterr().out)
    assert "HS/VS" in said


def test_the_next_stage_of_a_payload_image_is_replaced(tmp_path: Path) -> None:
    """An image that brings its own S-mode program is asked all the same: the probes take that program's place."""
    path = image(tmp_path, TO_HS)
    path.write_bytes(path.read_bytes().ljust(2 << 20, b"\0") + b"\xff" * 64)
    found = conform_firmware(path, event="^illegal$", against="opensbi-1.6")
    assert {e.how for e in found.real.events} == {"redirected"}


def test_s_mode_may_start_elsewhere(tmp_path: Path) -> None:
    """With an entry, the hart is taken where the image starts S-mode, whatever stands there."""
    path = image(tmp_path, TO_HS, start=START.replace("0x80200000", "0x80400000"))
    found = conform_firmware(path, event="^illegal$", against="opensbi-1.6", entry=0x8040_0000)
    assert {e.to for e in found.real.events} == {"HS"}

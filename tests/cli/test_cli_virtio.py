"""--drive, --net, --share, --rng and --console as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trapline.cli import main
from trapline.isa.assemble import assemble

BASE = 0x8020_0000
# Ends with the number of windows that hold a device as its code.
COUNT = """
    li s0, 0x10001000
    li s1, 8
    li s2, 0
1:  lw t0, 8(s0)
    beqz t0, 2f
    addi s2, s2, 1
2:  li t0, 0x1000
    add s0, s0, t0
    addi s1, s1, -1
    bnez s1, 1b
    li t0, 0x100000
    slli s2, s2, 16
    li t1, 0x3333
    or t1, t1, s2
    sw t1, 0(t0)
3:  j 3b
"""
ALL = "--drive {0}/disk --drive {0}/disk2,ro --net user --rng --share {0} --share {0}:other,ro --console virtio"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "disk").write_bytes(bytes(1024))
    (tmp_path / "disk2").write_bytes(bytes(512))
    (tmp_path / "short").write_bytes(bytes(700))
    (tmp_path / "cut").write_bytes(b"QFI\xfb\0\0\0\3" + bytes(8))
    (tmp_path / "vmdk").write_bytes(b"KDMV" + bytes(508))
    (tmp_path / "run.bin").write_bytes(assemble(COUNT, BASE))
    (tmp_path / "boot.bin").write_bytes(assemble(COUNT, 0x8000_0000))
    return tmp_path


@pytest.mark.parametrize("command", ["run", "boot"])
def test_every_device_gets_a_window(files: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    """The program finds as many devices as were asked for, and none by default."""
    words = [command, str(files / f"{command}.bin"), "--json", "-", "--memory", "4M"]
    for options, count in (([], 0), (ALL.format(files).split(), 7)):
        assert main([*words, *options]) == 1
        found = json.loads(capsys.readouterr().out)
        assert (found["reason"], found["code"]) == ("exit", count or 1)


@pytest.mark.parametrize("command", ["run", "boot"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--drive {}/none", "No such file or directory"),
        ("--drive {}/short", "a raw disk image of 700 bytes, which is not a multiple of 512"),
        ("--drive {}/cut,ro", "not a qcow2 image (no header)"),
        ("--drive {}/vmdk", "a VMDK image, which is not supported"),
        ("--drive {}/disk,format=vdi", "format 'vdi' is not supported (raw and qcow2 are)"),
        ("--drive {}/disk --drive {0}/disk", "another machine uses this disk image"),
        ("--net tap", "'tap' is not known"),
        ("--net user,hostfwd=tcp:0.0.0.0:1-:1", "0.0.0.0 is not a loopback address"),
        ("--share {}/none", "cannot share this folder: No such file or directory"),
        ("--share {} --share {0}:share", "another folder has the tag 'share'"),
        ("--share {0},ro " * 9, "more than 8 virtio devices"),
    ],
)
def test_bad_input_is_one_line(
    files: Path, capsys: pytest.CaptureFixture[str], command: str, options: str, message: str
) -> None:
    """Exit code 2 and one line that names the file or the word."""
    given = options.replace("{}", "{0}").format(files).split()
    if options.startswith("--share {0},ro "):
        given = [f"{word}".replace(",ro", f":t{k},ro") for k, word in enumerate(given)]
    assert main([command, str(files / f"{command}.bin"), *given]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and message in lines[0], lines


def test_compare_wants_disks_that_stay_the_same(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every policy must find the same disk: one that the guest may write is refused."""
    words = ["compare", "linux-6.12", "linux-7.2", "--", str(files / "run.bin"), "--memory", "4M", "--drive"]
    assert main([*words, f"{files}/disk"]) == 2
    assert "add ,ro (or ,snapshot to a drive)" in capsys.readouterr().err
    assert main([*words, f"{files}/disk,snapshot"]) == 1


# Sets the entropy device's status and enables a queue of size 3.
MISTAKE = """
    li s0, 0x10001000
    li t0, 3
    sw t0, 0x38(s0)
    li t0, 1
    sw t0, 0x44(s0)
    li t0, 0x100000
    li t1, 0x5555
    sw t1, 0(t0)
1:  j 1b
"""


@pytest.mark.parametrize(("command", "base"), [("run", BASE), ("boot", 0x8000_0000)])
def test_a_drivers_mistake_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, base: int
) -> None:
    """The result says which device needed a reset, and why."""
    (tmp_path / "a.bin").write_bytes(assemble(MISTAKE, base))
    assert main([command, str(tmp_path / "a.bin"), "--memory", "4M", "--rng", "--json", "-"]) == 0
    notes = json.loads(capsys.readouterr().out)["notes"]
    assert [note for note in notes if note.startswith("rng: queue 0: size 3 is not a power of two")]

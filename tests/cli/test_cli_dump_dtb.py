"""`--dump-dtb`: the device tree that would be used, without a run."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from trapline.cli.main import main
from trapline.isa.assemble import assemble
from trapline.lab.boot import BootOptions, make_machine
from trapline.lab.guest_run import RunOptions, make_guest
from trapline.lab.settings import settings
from trapline.machine.memory_map import RAM_BASE

Capture = pytest.CaptureFixture[str]
MAGIC = bytes.fromhex("d00dfeed")


@pytest.fixture
def program(tmp_path: Path) -> str:
    """An endless loop, which a run would never come back from."""
    path = tmp_path / "loop.bin"
    path.write_bytes(assemble("1: j 1b", RAM_BASE))
    return str(path)


@pytest.mark.parametrize("command", ["boot", "run"])
def test_nothing_runs_and_the_exit_code_is_zero(command: str, program: str, tmp_path: Path, capsys: Capture) -> None:
    """With a program, and as QEMU without one, the tree is written and the command says nothing."""
    for number, words in enumerate([[program], []]):
        file = tmp_path / f"{number}.dtb"
        assert main([command, *words, "--dump-dtb", str(file)]) == 0
        assert file.read_bytes().startswith(MAGIC)
    assert capsys.readouterr() == ("", "")


def test_it_is_the_tree_of_the_board(program: str, tmp_path: Path) -> None:
    """The file holds what a board with the same options has in its memory."""
    file = tmp_path / "board.dtb"
    assert main(["boot", "--bios", program, "--append", "quiet", "--smp", "3", "--dump-dtb", str(file)]) == 0
    machine = make_machine(BootOptions(bios=program, append="quiet", smp=3, engine="reference"))
    assert file.read_bytes() == machine.tree
    assert machine.tree in bytes(machine.regions.read(RAM_BASE + machine.memory - (2 << 20), 2 << 20))


def test_it_is_the_tree_of_the_guest(program: str, tmp_path: Path) -> None:
    """The file holds what a guest with the same options finds at a1."""
    file = tmp_path / "guest.dtb"
    assert main(["run", program, "--append", "quiet", "--dump-dtb", str(file)]) == 0
    guest = make_guest(RunOptions(program, settings("linux-7.2"), append="quiet", engine="reference"))
    assert file.read_bytes() == guest.tree


@pytest.mark.parametrize(("words", "there"), [((), False), (("--nested",), True)])
def test_nested_offers_h(words: tuple[str, ...], there: bool, program: str, tmp_path: Path) -> None:
    """The guest's device tree has h among its extensions, in both properties, with --nested alone."""
    file = tmp_path / "guest.dtb"
    assert main(["run", program, *words, "--dump-dtb", str(file)]) == 0
    tree = file.read_bytes()
    assert (b"\0d\0c\0h\0" in tree) is there
    assert (b"rv64imafdch" in tree) is there


@pytest.mark.skipif(shutil.which("dtc") is None, reason="needs dtc")
def test_the_compiler_of_device_trees_reads_it(tmp_path: Path) -> None:
    """dtc decompiles it, with the harts and the command line that were asked for."""
    file = tmp_path / "x.dtb"
    assert main(["boot", "--append", "a=b", "--smp", "2", "--dump-dtb", str(file)]) == 0
    words = ["dtc", "-q", "-I", "dtb", "-O", "dts", str(file)]
    source = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert "cpu@1 {" in source and 'bootargs = "a=b"' in source


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["boot", "--dump-dtb", "/nowhere/x"], "--dump-dtb: cannot write"),
        (["run", "--dump-dtb", "/"], "--dump-dtb: cannot write"),
        (["boot", "--restore", "x", "--dump-dtb", "x"], "a snapshot's device tree is in its memory"),
        (["run", "--restore", "x", "--dump-dtb", "x"], "a snapshot's device tree is in its memory"),
        (["boot", "--kernel", "x", "--dump-dtb", "x"], "give either IMAGE"),
        (["run", "--initrd", "x", "--dump-dtb", "x"], "run needs a GUEST"),
        (["run", "--memory", "1Q", "--dump-dtb", "x"], "1Q"),
    ],
)
def test_what_cannot_be_is_one_line(words: list[str], said: str, tmp_path: Path, capsys: Capture) -> None:
    """A place that cannot be written, a snapshot, or a bad option: one line, exit code 2."""
    assert main([w if w != "x" else str(tmp_path / "x") for w in words]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1

"""`--snapshot`, `--snapshot-at`, `--restore`: when, what the result says, and command lines that make no sense."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trapline.cli.main import main
from trapline.isa.assemble import assemble
from trapline.lab.errors import UsageError
from trapline.lab.snapshots import moment

Capture = pytest.CaptureFixture[str]
ENTRY = 0x8020_0000
# Prints a to z over and over; an illegal instruction after each z.
GUEST = """
    la t0, handler
    csrw stvec, t0
1:  li s0, 'a'
2:  li t0, 0x10000000
    sb s0, 0(t0)
    addi s0, s0, 1
    li t1, 'z'
    ble s0, t1, 2b
    csrr t2, 0x5ff
    j 1b
.align 2
handler:
    csrr t0, sepc
    addi t0, t0, 4
    csrw sepc, t0
    sret
"""
BOARD = GUEST.replace("stvec", "mtvec").replace("sepc", "mepc").replace("sret", "mret")


@pytest.fixture
def guest(tmp_path: Path) -> str:
    """A guest's program."""
    path = tmp_path / "guest.bin"
    path.write_bytes(assemble(GUEST, ENTRY))
    return str(path)


@pytest.fixture
def board(tmp_path: Path) -> str:
    """A board's program."""
    path = tmp_path / "board.bin"
    path.write_bytes(assemble(BOARD, 0x8000_0000))
    return str(path)


def run(*words: str) -> int:
    """Run a command line."""
    return main(list(words))


def result(path: Path) -> Any:
    """Read a result."""
    return json.loads(path.read_text())


def test_when() -> None:
    """Numbers are instructions, with a unit of a thousand; everything else is text of the console."""
    assert [moment(t) for t in ("7", "600M", "1_000_000", "2k", "1G")] == [7, 600_000_000, 1_000_000, 2000, 10**9]
    assert [moment(t) for t in ("~ # ", "6 M", r"login:\n")] == [b"~ # ", b"6 M", b"login:\n"]
    with pytest.raises(UsageError):
        moment("")


@pytest.mark.parametrize("command", ["run", "boot"])
def test_from_the_command_line(command: str, request: pytest.FixtureRequest, tmp_path: Path, capfd: Any) -> None:
    """A snapshot at a text ends the run well; restored, the next character comes next, and counts start at zero."""
    program = request.getfixturevalue("guest" if command == "run" else "board")
    file, first, second = str(tmp_path / "s"), tmp_path / "1.json", tmp_path / "2.json"
    assert run(command, program, "--snapshot", file, "--snapshot-at", "xyzabc", "--json", str(first)) == 0
    said = result(first)
    assert said["reason"] == "snapshot"
    assert said["snapshot"]["bytes"] == Path(file).stat().st_size
    shown = capfd.readouterr().out
    assert "abcdefghijklmnopqrstuvwxyzabc\n" in shown
    assert f"snapshot: {file}" in shown
    assert run(command, "--restore", file, "--max-instructions", "3000", "--json", str(second)) == 3
    assert capfd.readouterr().out.startswith("defghi")
    again = result(second)
    assert again["instret"] == 3000
    assert sum(t["count"] for t in again["traps"] if t["name"] == "inst-illegal") < 40


def test_at_an_instruction_and_at_a_limit(board: str, tmp_path: Path) -> None:
    """--snapshot-at N stops after N instructions; without it, the snapshot is where the run was stopped."""
    file, out = str(tmp_path / "s"), tmp_path / "json"
    assert run("boot", board, "--snapshot", file, "--snapshot-at", "5k", "--json", str(out)) == 0
    assert (result(out)["instret"], result(out)["reason"]) == (5000, "snapshot")
    assert run("boot", "--restore", file, "--snapshot", file, "--max-instructions", "70", "--json", str(out)) == 3
    assert (result(out)["instret"], result(out)["reason"]) == (70, "limit")
    assert run("boot", "--restore", file, "--max-instructions", "1", "--engine", "reference") == 3


def test_a_moment_that_never_comes(board: str, tmp_path: Path, capfd: Any) -> None:
    """The result says that there is no snapshot, and none is there."""
    file = tmp_path / "s"
    words = ["boot", board, "--snapshot", str(file), "--max-instructions", "1000", "--snapshot-at"]
    assert run(*words, "never shown") == 3
    assert "no snapshot: the console never showed 'never shown'" in " ".join(capfd.readouterr().out.split())
    assert run(*words, "2000") == 3
    assert "no snapshot: it was to be at 2 000 instructions" in " ".join(capfd.readouterr().out.split())
    assert not file.exists()


def test_policies_after_a_restore(guest: str, tmp_path: Path, capfd: Any) -> None:
    """The snapshot's policy, unless the command line names one, be it the default; compare restores for each."""
    file, out = str(tmp_path / "s"), tmp_path / "json"
    assert run("run", guest, "--policy", "linux-6.12", "--snapshot", file, "--snapshot-at", "2000") == 0
    restore = ["run", "--restore", file, "--max-instructions", "3000", "--json", str(out)]
    assert run(*restore) == 3
    assert result(out)["policy"] == "linux-6.12"
    assert run(*restore, "--policy", "linux-7.2") == 3
    assert result(out)["policy"] == "linux-7.2"
    words = ["--json", str(out), "--", "--restore", file, "--max-instructions", "3000"]
    assert run("compare", "linux-6.12", "patel", *words) == 3
    data = result(out)
    assert data["policies"] == ["linux-6.12", "patel"]
    assert [r["instret"] for r in data["runs"]] == [3000, 3000]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--restore", "FILE", "--memory", "1G"], "--memory cannot be changed"),
        (["--restore", "FILE", "--smp", "2"], "--smp cannot be changed"),
        (["--restore", "none"], "No such file"),
        (["--restore", "FILE"], "a snapshot of `trapline boot`"),
        (["--restore", "FILE", "--firmware", "opensbi-1.6"], "--firmware cannot be changed"),
        (["GUEST", "--restore", "FILE"], "GUEST cannot be changed"),
        (["GUEST", "--snapshot-at", "5"], "--snapshot-at needs --snapshot FILE"),
        ([], "run needs a GUEST"),
    ],
)
def test_command_lines_that_make_no_sense(
    words: list[str], says: str, board: str, guest: str, tmp_path: Path, capsys: Capture
) -> None:
    """One line says what is wrong, with exit code 2."""
    file = str(tmp_path / "s")
    assert run("boot", board, "--snapshot", file, "--max-instructions", "100") == 3
    capsys.readouterr()
    assert run("run", *[{"FILE": file, "GUEST": guest}.get(w, w) for w in words]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1

"""Outputs that cannot be written, and the terminal after signals."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from trapline.isa.assemble import assemble


def run(shell: str) -> tuple[int, str]:
    """Run a shell's command line in which $T is trapline; return its exit code and standard error."""
    environment = {**os.environ, "T": f"{sys.executable} -m trapline", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        ["sh", "-c", shell], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("shell", "code", "says"),
    [
        ("$T policies > /dev/full", 2, "No space left on device"),
        ("$T policies >&-", 0, ""),
        ("$T policies 2>&- >/dev/null", 0, ""),
    ],
)
def test_standard_output(shell: str, code: int, says: str) -> None:
    """A full disk behind it is one line; one that is closed has no reader, and that is no error."""
    ended, error = run(shell)
    assert (ended, error.count("\n")) == (code, int(bool(says)))
    assert says in error


LOOP = (0x0000006F).to_bytes(4, "little")


@pytest.mark.parametrize("option", ["--json", "--snapshot"])
@pytest.mark.parametrize("place", ["missing/x", "."])
def test_an_output_that_cannot_be_written_is_found_first(option: str, place: str, tmp_path: Path) -> None:
    """A result file in a folder that is not there, or that is a folder, is one line before the guest runs for long."""
    guest = tmp_path / "loop.bin"
    guest.write_bytes(LOOP)
    started = time.monotonic()
    code, error = run(f"$T boot {guest} --max-seconds 60 {option} {tmp_path / place}")
    assert (code, error.count("\n")) == (2, 1)
    assert f"{option}: cannot write" in error
    assert time.monotonic() - started < 30


def test_a_full_disk_under_a_log_keeps_the_result(tmp_path: Path) -> None:
    """A commit log on a full disk ends early: the result is kept, one line names the file."""
    guest = tmp_path / "loop.bin"
    guest.write_bytes(LOOP)
    result = tmp_path / "result.json"
    code, error = run(
        f"$T boot {guest} --max-instructions 20000 --log-commits /dev/full --json {result} >{tmp_path}/shown"
    )
    said = [line for line in error.splitlines() if "/dev/full" in line]
    assert said == ["trapline: --log-commits: '/dev/full' ends early: No space left on device"]
    assert code in (2, 3)
    assert json.loads(result.read_text())["reason"] == "limit"
    assert "limit" in (tmp_path / "shown").read_text()


@pytest.mark.parametrize("name", ["TERM", "HUP", "QUIT", "ABRT", "TSTP"])
def test_the_terminal_after_a_signal(name: str, tmp_path: Path) -> None:
    """Whatever ends or stops a run, the terminal is as it was; it is raw again when a stopped run goes on."""
    program = tmp_path / "loop"
    program.write_bytes(assemble("1: j 1b", 0x8000_0000))
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    words = [sys.executable, "-m", "trapline", "boot", str(program), "--memory", "1M", "--engine", "reference"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        words, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
    )

    def wait_until(raw: bool) -> None:
        end = time.monotonic() + 60
        while (termios.tcgetattr(theirs) != before) is not raw:
            assert time.monotonic() < end
            time.sleep(0.02)

    try:
        wait_until(True)
        process.send_signal(getattr(signal, f"SIG{name}"))
        wait_until(False)
        if name == "TSTP":
            process.send_signal(signal.SIGCONT)
            wait_until(True)
        else:
            assert process.wait(60) == -getattr(signal, f"SIG{name}")
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)


HELLO = "li t0, 0x10000000; 1: li t1, 72; sb t1, 0(t0); li t1, 10; sb t1, 0(t0); "
POWEROFF = "li t0, 0x100000; li t1, 0x5555; sw t1, 0(t0); 2: j 2b"


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """A bare program that writes lines for ever."""
    path = tmp_path / "endless.bin"
    path.write_bytes(assemble(HELLO + "j 1b", 0x8000_0000))
    return path


@pytest.fixture
def finite(tmp_path: Path) -> Path:
    """A bare program that writes 20,000 lines, more than a pipe holds, and passes."""
    path = tmp_path / "finite.bin"
    path.write_bytes(assemble(f"li t2, 20000; {HELLO} addi t2, t2, -1; bnez t2, 1b; {POWEROFF}", 0x8000_0000))
    return path


def test_a_reader_that_goes_ends_the_run_and_keeps_the_result(endless: Path, tmp_path: Path) -> None:
    """Behind `| head -1` a guest that writes for ever is ended as by Ctrl-A x: code 130, and the JSON is whole."""
    code, error = run(
        f"($T boot {endless} --json {tmp_path}/r.json; exit_code=$?; echo $exit_code >{tmp_path}/code) | head -1"
    )
    result = json.loads((tmp_path / "r.json").read_text())
    assert (code, error) == (0, "")
    assert (result["reason"], result["message"]) == ("quit", "nobody reads the console any more")
    assert (tmp_path / "code").read_text() == "130\n"


def test_a_reader_that_goes_before_the_table_changes_no_code(tmp_path: Path) -> None:
    """A table that nobody reads does not change what the run ended with: here a limit, 3."""
    program = tmp_path / "loop.bin"
    program.write_bytes(LOOP)
    run(f"($T boot {program} --max-instructions 1000; echo $? >{tmp_path}/code) | true")
    assert (tmp_path / "code").read_text() == "3\n"


@pytest.mark.parametrize("json_option", ["--json {}/r.json", ""])
def test_a_full_disk_under_the_console_is_told(json_option: str, finite: Path, tmp_path: Path) -> None:
    """A console whose output meets a full disk does not stop the guest; one line and code 2 say that it was lost."""
    code, error = run(f"$T boot {finite} {json_option.format(tmp_path)} > /dev/full")
    assert (code, error) == (2, "trapline: cannot write to standard output: No space left on device\n")
    if json_option:
        assert json.loads((tmp_path / "r.json").read_text())["message"] == "passed"


@pytest.mark.parametrize("at", ["1000", "H"])
def test_a_snapshot_that_fails_names_its_file(at: str, endless: Path) -> None:
    """A snapshot on a full disk is not shown as taken, and the device it was written to is still there."""
    code, error = run(f"$T boot {endless} --memory 1M --snapshot /dev/full --snapshot-at {at} >{endless}.out")
    assert (code, error) == (2, "trapline: --snapshot: cannot write '/dev/full': No space left on device\n")
    assert "/dev/full at " in (shown := Path(f"{endless}.out").read_text())
    assert "could not be written" in shown
    assert Path("/dev/full").is_char_device()


def test_a_snapshot_into_a_link_or_a_pipe_replaces_neither(endless: Path, tmp_path: Path) -> None:
    """A link stays a link to the new snapshot, and a pipe carries one."""
    (tmp_path / "link").symlink_to("real")
    os.mkfifo(tmp_path / "pipe")
    common = f"$T boot {endless} --memory 1M --max-instructions 1000 >{tmp_path}/out --snapshot {tmp_path}"
    assert run(f"{common}/link")[0] == 3
    assert run(f"cat {tmp_path}/pipe >{tmp_path}/read & {common}/pipe; wait")[1] == ""
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "pipe").is_fifo()
    restored = f"$T boot --max-instructions 1000 >{tmp_path}/out --restore"
    assert [run(f"{restored} {tmp_path}/{name}") for name in ("real", "read")] == [(3, ""), (3, "")]

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

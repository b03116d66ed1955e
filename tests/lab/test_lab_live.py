"""`--live` beside a guest's console, and where a guest is when its firmware hangs or it loops."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
import termios
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import rich.console

from trapline.isa.assemble import assemble
from trapline.lab.guest_run import RunOptions, run_guest
from trapline.lab.observe import beside
from trapline.lab.settings import settings
from trapline.lab.symbols import Symbols
from trapline.lab.whereabouts import ended_by, place_at_end
from trapline.session.terminal.console import Console
from trapline.views.run import show_run
from trapline.vmm.guest import Guest


@pytest.fixture
def terminal_output() -> Iterator[Callable[[str], str]]:
    """Runs Python code whose output is a pseudo-terminal; returns what it has shown."""
    ours, theirs = pty.openpty()
    mode = termios.tcgetattr(theirs)
    mode[1] &= ~termios.OPOST
    termios.tcsetattr(theirs, termios.TCSANOW, mode)

    def run(code: str) -> str:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "80"}
        words = [sys.executable, "-c", textwrap.dedent(code)]
        subprocess.run(words, stdout=theirs, stderr=theirs, env=environment, timeout=60, check=True)
        return os.read(ours, 4096).decode()

    yield run
    os.close(ours)
    os.close(theirs)


def test_a_live_line_is_not_written_into_the_guests(capsys: pytest.CaptureFixture[str]) -> None:
    """A line of the guest's that has no end yet is broken before a live line, and only once."""
    console = Console(lambda data: sys.stderr.write(data.decode()))
    console.on_stderr = True
    write = beside(console)
    console.write(b"login: ")
    write("live 1\n")
    write("live 2\n")
    console.write(b"root\n")
    write("live 3\n")
    assert capsys.readouterr().err == "login: \nlive 1\nlive 2\nroot\nlive 3\n"


def test_a_live_line_moves_the_prompt_down(terminal_output: Callable[[str], str]) -> None:
    """On a terminal the guest's unfinished line is erased and shown again below the live line."""
    shown = terminal_output(r"""
        import sys
        from trapline.lab.observe import beside
        from trapline.session.terminal.console import Console
        def put(data):
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        console = Console(put)
        console.write(b"login: ")
        beside(console)("live\n")
        console.write(b"root\n")
    """)
    assert shown == "login: \r\x1b[Klive\nlogin: root\n"


def test_a_guest_whose_firmware_hangs_is_somewhere() -> None:
    """A firmware that never comes back leaves a place: the vCPU that called it, its mode and pc, and why."""
    guest = Guest(memory=4 << 20, vcpus=2)
    guest.load_bytes(assemble("1: j 1b", 0x8020_0000))
    guest.vm.vcpus[0].firmware_dump = "sbi_trap_error"
    result = guest.run(max_instructions=10)
    assert (result.reason, ended_by(guest)) == ("hung", 0)
    place = place_at_end(guest, ended_by(guest), result.message, Symbols())
    assert (place.vcpu, place.mode, place.pc) == (0, "VS", 0x8020_0000)
    assert place.what == result.message


def test_a_loop_is_told_once(tmp_path: Path) -> None:
    """A vCPU that takes one trap for ever is described in one place of the report."""
    path = tmp_path / "loop.bin"
    path.write_bytes(
        assemble("la t0, handler; csrw stvec, t0; ebreak; handler: .insn 0xffffffff; j handler", 0x8020_0000)
    )
    report = run_guest(RunOptions(str(path), settings("linux-7.2"), max_instructions=20_000, memory="4M"))
    out = io.StringIO()
    show_run(rich.console.Console(file=out, width=200), report)
    assert len(report.loops) == len(report.places) == 1
    shown = " ".join(out.getvalue().split())
    assert shown.count(report.loops[0].reason) == 1
    assert "goes round" not in shown

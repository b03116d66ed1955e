"""A person at a terminal: raw mode, the escape key, idle time that passes for real."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from machine_fakes import make_elf

from trapline.isa.assemble import assemble
from trapline.machine.console import Console, FileInput, terminal
from trapline.machine.machine import Machine

BASE = 0x8000_0000
ICANON_ECHO = termios.ICANON | termios.ECHO | termios.ISIG


@pytest.fixture
def terminals() -> Iterator[tuple[int, int]]:
    """A pseudo-terminal: the person's end and the program's."""
    person, program = pty.openpty()
    yield person, program
    os.close(person)
    os.close(program)


def _machine(source: str, program: int) -> Machine:
    board = Machine(engine="native", memory=1 << 20, console=Console(None, FileInput(program)))
    board.load_elf(make_elf(assemble(source, BASE)))
    return board


def test_raw_mode_ends_with_the_block(terminals: tuple[int, int]) -> None:
    """Inside the block keys arrive one by one, unechoed, Ctrl-C too; an error restores the terminal."""
    _, program = terminals
    before = termios.tcgetattr(program)
    assert before[3] & ICANON_ECHO == ICANON_ECHO
    with pytest.raises(RuntimeError, match="guest trouble"), terminal(program) as console:
        assert termios.tcgetattr(program)[3] & ICANON_ECHO == 0
        assert termios.tcgetattr(program)[1] == before[1]
        assert console.source.live
        raise RuntimeError("guest trouble")
    assert termios.tcgetattr(program) == before


def test_ctrl_a_x_ends_a_busy_machine(terminals: tuple[int, int]) -> None:
    """The escape key works while the guest computes."""
    person, program = terminals
    with terminal(program) as console:
        board = Machine(engine="native", memory=1 << 20, console=console)
        board.load_elf(make_elf(assemble("1: j 1b", BASE)))
        threading.Timer(0.1, os.write, (person, b"\x01x")).start()
        result = board.run(max_seconds=20)
    assert (result.reason, result.message, result.exit_status) == ("quit", "Ctrl-A x", 130)


def test_an_idle_machine_waits_for_real(terminals: tuple[int, int]) -> None:
    """With a person at the terminal a timer in 0.3 s takes 0.3 s, and almost no processor time."""
    source = """
        li t0, 0x2004000
        li t1, 3000000
        sd t1, 0(t0)
        li t1, 0x80
        csrw mie, t1
        wfi
        li t0, 0x100000
        li t1, 0x5555
        sw t1, 0(t0)
    1:  j 1b
    """
    board = _machine(source, terminals[1])
    wall, cpu = time.monotonic(), time.thread_time()
    assert board.run(max_seconds=20).reason == "exit"
    assert time.monotonic() - wall >= 0.29
    assert time.thread_time() - cpu < 0.2


def test_a_key_wakes_an_idle_machine(terminals: tuple[int, int]) -> None:
    """A machine that sleeps without any timer wakes for a key (UART, PLIC, MEIP)."""
    person, program = terminals
    source = """
        li t0, 0x0c000028
        li t1, 1
        sw t1, 0(t0)
        li t0, 0x0c002000
        li t1, 0x400
        sw t1, 0(t0)
        li t0, 0x10000001
        li t1, 1
        sb t1, 0(t0)
        li t0, 0x800
        csrw mie, t0
        wfi
        li t0, 0x10000000
        lbu s0, 0(t0)
        li t0, 0x100000
        li t1, 0x5555
        sw t1, 0(t0)
    1:  j 1b
    """
    with terminal(program) as console:
        board = Machine(engine="native", memory=1 << 20, console=console)
        board.load_elf(make_elf(assemble(source, BASE)))
        threading.Timer(0.2, os.write, (person, b"k")).start()
        assert board.run(max_seconds=20).reason == "exit"
    assert int(board.harts[0].x[8]) == ord("k")
    assert board.console.log[0][1] == b"k"


def test_a_prompt_appears_while_the_machine_idles() -> None:
    """Output without a newline is shown when the machine sleeps, even if nobody can answer."""
    source = """
        li t0, 0x10000000
        li t1, 36
        sb t1, 0(t0)
        li t0, 0x2004000
        li t1, 100000
        sd t1, 0(t0)
        li t1, 0x80
        csrw mie, t1
        wfi
    1:  j 1b
    """
    shown: list[tuple[bytes, bool]] = []
    console = Console(lambda data: shown.append((data, int(board.harts[0].instret) < 100)))
    board = Machine(engine="native", memory=1 << 20, console=console)
    board.load_elf(make_elf(assemble(source, BASE)))
    board.run(max_instructions=10_000)
    assert shown == [(b"$", True)]


def test_a_killed_process_leaves_a_sane_terminal(terminals: tuple[int, int], tmp_path: Path) -> None:
    """SIGTERM ends a run at a raw terminal, and the terminal is as it was."""
    person, program = terminals
    path = tmp_path / "loop.elf"
    path.write_bytes(make_elf(assemble("li t0, 0x10000000; li t1, 33; sb t1, 0(t0); 1: j 1b", BASE)))
    before = termios.tcgetattr(program)
    words = [sys.executable, "-m", "trapline", "boot", str(path), "--max-seconds", "60"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(words, stdin=program, stdout=program, stderr=program, env=environment) as process:
        seen = b""
        while b"!" not in seen:
            seen += os.read(person, 100)
        assert termios.tcgetattr(program) != before
        process.terminate()
        assert process.wait(30) == -signal.SIGTERM
    assert termios.tcgetattr(program) == before

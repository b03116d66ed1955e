"""A person at a terminal: raw mode, the escape key, idle time that passes for real."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

import pytest
from machine_fakes import make_elf

from trapline.isa.assemble import assemble
from trapline.machine.machine import Machine
from trapline.session.terminal.console import Console, terminal
from trapline.session.terminal.sources import FileInput
from trapline.session.terminal.terminal_guard import guarded, written

BASE = 0x8000_0000
ICANON_ECHO = termios.ICANON | termios.ECHO | termios.ISIG


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


NATIVE = (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT)
DEATHS = (*NATIVE, signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGXCPU, signal.SIGUSR1)


def _raw_and(words: list[str], person: int, program: int, before: list[object]) -> subprocess.Popen[bytes]:
    """Start a process whose terminal is the pseudo-terminal; return when it has shown a `!` in raw mode."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(words, stdin=program, stdout=program, stderr=program, env=environment)
    seen = b""
    while b"!" not in seen:
        assert select.select([person], [], [], 30)[0], seen
        seen += os.read(person, 100)
    assert b"Error" not in seen
    assert termios.tcgetattr(program) != before
    os.write(person, b"k")
    return process


def _comes_back(program: int, before: list[object]) -> bool:
    """Whether the terminal is as before within five seconds."""
    end = time.monotonic() + 5
    while termios.tcgetattr(program) != before and time.monotonic() < end:
        time.sleep(0.01)
    return termios.tcgetattr(program) == before


def test_a_killed_run_leaves_a_sane_terminal(terminals: tuple[int, int], tmp_path: Path) -> None:
    """SIGTERM and SIGKILL end a run at a raw terminal, and the terminal is as it was."""
    person, program = terminals
    path = tmp_path / "loop.elf"
    path.write_bytes(make_elf(assemble("li t0, 0x10000000; li t1, 33; sb t1, 0(t0); 1: j 1b", BASE)))
    before = termios.tcgetattr(program)
    words = [sys.executable, "-m", "trapline", "boot", str(path), "--max-seconds", "60"]
    for number in (signal.SIGTERM, signal.SIGKILL):
        with _raw_and(words, person, program, before) as process:
            process.send_signal(number)
            assert process.wait(30) == -number
        assert _comes_back(program, before)


IN_RAW_MODE = """
import ctypes, os, resource, signal, sys, time
from trapline.session.terminal.console import terminal
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
with terminal(0):
    os.write(1, b"!")
    os.read(0, 1)
    {how}
    time.sleep(60)
"""


@pytest.mark.parametrize("number", DEATHS, ids=lambda n: n.name)
def test_no_signal_leaves_the_terminal_raw(terminals: tuple[int, int], number: signal.Signals) -> None:
    """Whatever signal ends the process, from outside or by its own native code, the terminal is as it was."""
    person, program = terminals
    before = termios.tcgetattr(program)
    how = (
        f"getattr(ctypes.CDLL(None), 'raise')({int(number)})"
        if number != signal.SIGABRT
        else "ctypes.CDLL(None).abort()"
    )
    code = IN_RAW_MODE.format(how=how if number in NATIVE else f"os.kill(os.getpid(), {int(number)})")
    with _raw_and([sys.executable, "-c", code], person, program, before) as process:
        assert process.wait(30) == -number
    assert _comes_back(program, before)


def test_a_fault_in_native_code_leaves_a_sane_terminal(terminals: tuple[int, int]) -> None:
    """A read of address 8 by native code ends the process with SIGSEGV, and the terminal is as it was."""
    person, program = terminals
    before = termios.tcgetattr(program)
    code = IN_RAW_MODE.format(how="ctypes.string_at(8)")
    with _raw_and([sys.executable, "-c", code], person, program, before) as process:
        assert process.wait(30) == -signal.SIGSEGV
    assert _comes_back(program, before)


def test_a_mode_set_by_another_stays(terminals: tuple[int, int]) -> None:
    """A terminal that somebody else has changed since is not touched when the process dies: a shell's editor has it."""
    person, program = terminals
    before = termios.tcgetattr(program)
    code = IN_RAW_MODE.format(how="time.sleep(60)")
    with _raw_and([sys.executable, "-c", code], person, program, before) as process:
        other = termios.tcgetattr(program)
        other[3] |= termios.ECHO
        termios.tcsetattr(program, termios.TCSANOW, other)
        process.kill()
        process.wait(30)
    time.sleep(0.3)
    assert termios.tcgetattr(program) == other


def test_no_watcher_stays_behind(terminals: tuple[int, int]) -> None:
    """What waits for the process's death waits inside the block, and has ended when the block ends."""
    mode = termios.tcgetattr(terminals[1])
    with guarded(terminals[1], mode, mode) as guard:
        assert guard is not None
        assert guard.poll() is None
    assert guard.returncode == 0


def test_modes_are_written_as_stty_writes_them(terminals: tuple[int, int]) -> None:
    """The written form of a mode is that of `stty -g`, which the watcher compares it with."""
    shown = subprocess.run(["stty", "-g"], stdin=terminals[1], capture_output=True, check=True, text=True).stdout
    assert written(termios.tcgetattr(terminals[1])) == shown.strip()

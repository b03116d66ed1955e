"""The monitor behind Ctrl-A c, for a guest and for a board."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from machine_fakes import make_elf
from monitored import paged_board, paged_guest
from tests.small_elf import elf

from trapline.isa.assemble import assemble
from trapline.machine.machine import Machine
from trapline.session.tables import ranges, translate
from trapline.session.terminal.console import Console, terminal
from trapline.session.terminal.monitor import Monitor
from trapline.session.terminal.sources import FileInput
from trapline.vmm.guest import Guest


def _ask(made: Guest | Machine, *lines: str) -> list[str]:
    assert made.console.monitor is not None
    return [answer for line in lines for answer in made.console.monitor.run(line)]


def test_a_guests_registers_and_state() -> None:
    """info registers shows the guest's pc, mode, registers and VS-level CSRs; info status where it is."""
    made = paged_guest()
    text = "\n".join(_ask(made, "info registers"))
    assert re.search(r"pc 0x00000000802000\w\w   mode VS", text)
    assert "s3 0000000000001234" in text
    assert re.search(r"vsatp 8000000000080201", text)
    assert _ask(made, "info status")[0] == "VM status: running"
    assert "vcpu 0: runs in VS at 0x802000" in _ask(made, "info status")[1]


def test_a_guests_traps_and_memory() -> None:
    """info stats counts its traps so far, info mtree lists slots and devices, info mem what its table maps."""
    made = paged_guest()
    assert any(line.endswith("gstage-map resumed") for line in _ask(made, "info stats"))
    tree = _ask(made, "info mtree")
    assert tree[-1] == "0000000080000000-00000000803fffff slot 0 (ram)"
    assert "0000000010000000-00000000100000ff serial port" in tree
    assert _ask(made, "info mem") == [
        "0000000080000000-00000000bfffffff -> 00000080000000     40000000 VRWX----"
    ]  # fmt: skip


@pytest.mark.parametrize("make", [paged_guest, paged_board], ids=["guest", "board"])
def test_memory(make: Callable[[], Guest | Machine]) -> None:
    """x dumps virtual memory in every format, and i disassembles; xp is physical."""
    made = make()
    at = "0x80200000" if isinstance(made, Guest) else "0x80000000"
    first = made.vm.read_memory(0x8020_0000, 16) if isinstance(made, Guest) else made.regions.read(0x8000_0000, 16)
    words = [int.from_bytes(first[n : n + 4], "little") for n in range(0, 16, 4)]
    assert _ask(made, f"x/4xw {at}") == [f"{int(at, 0):016x}: " + " ".join(f"0x{w:08x}" for w in words)]
    for form in ("/2gx", " /2xg"):
        assert _ask(made, f"xp{form} {at}")[0].endswith(f"{int.from_bytes(first[8:], 'little'):#018x}")
    assert _ask(made, f"x/3db {at}")[0].endswith(" ".join(str(b - 256 if b > 127 else b) for b in first[:3]))
    assert "auipc t0" in _ask(made, f"x/1i {at}")[0]
    assert "0000006f  jal zero, 0x" in _ask(made, "x/i $pc")[0]


def test_strings() -> None:
    """x/s shows strings up to their NUL, escaped, and breaks long ones into lines of at most 80 columns."""
    made = paged_board()
    made.regions.write(0x8000_2000, b'say "hi"\n\x1b\0' + b"z" * 120 + b"\0")
    short, *long = _ask(made, "x/2s 0x80002000")
    assert short == '0000000080002000: "say \\"hi\\"\\n\\x1b"'
    assert "".join(line.split('"')[1] for line in long) == "z" * 120
    assert len(long) == 3
    assert max(map(len, long)) <= 80


@pytest.mark.parametrize("make", [paged_guest, paged_board], ids=["guest", "board"])
@pytest.mark.parametrize(
    "command", ["info registers", "x/64xb {}", "x/64db {}", "x/64cb {}", "x/64dh {}", "x/8xg {}", "help"]
)
def test_eighty_columns(make: Callable[[], Guest | Machine], command: str) -> None:
    """What the monitor lists fits 80 columns."""
    made = make()
    at = "0x80200000" if isinstance(made, Guest) else "0x80000000"
    lines = _ask(made, command.format(at))
    assert [line for line in lines if len(line) > 80] == []


WRONG = (
    "bogus", "x/zz", "x", "x/4xg", "p", "p 1 +", "p $foo", "p 1/0", "p (1", "gva2gpa", "info", "info bogus",
    "info registers foo", "cpu 9", "cpu x", "help bogus", "snapshot", "xp/1xg 1 2 3", "x/9xg 1 2 3",
)  # fmt: skip


def test_an_answer_to_what_is_wrong_is_narrow() -> None:
    """Each command that is wrong gets an answer, and none is wider than 80 columns."""
    made = paged_board()
    for line in WRONG:
        said = _ask(made, line)
        assert said, line
        assert max(map(len, said)) <= 80, said


def test_a_boards_state() -> None:
    """On a board the monitor shows M-mode's CSRs, regions, and traps by origin and destination."""
    made = paged_board()
    text = "\n".join(_ask(made, "info registers"))
    assert "mode M" in text
    assert "mstatus" in text
    assert "hgatp" in text
    assert any("instructions in M" in line for line in _ask(made, "info stats"))
    assert any(line.endswith("ram    RAM") for line in _ask(made, "info mtree"))
    assert _ask(made, "info mem")[0].startswith("0000000080000000-")
    assert "hart 0: runs in M" in _ask(made, "info cpus")[0]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("fly", "unknown command 'fly'"),
        ("info", "info status|cpus|registers"),
        ("info x", "info status|cpus|registers"),
        ("x", "x /NFMT EXPR"),
        ("x/4z 0", "x /NFMT EXPR"),
        ("x nowhere", "no register 'nowhere'"),
        ("xp 0x10", "no guest memory at [0x10..0x13]"),
        ("x 0x10", "0x10 is not mapped (sv39)"),
        ("cpu 1", "cpu N: 0 to 0"),
    ],
)
def test_bad_commands(line: str, says: str) -> None:
    """A command that cannot be done answers with one line."""
    answers = _ask(paged_guest(), line)
    assert len(answers) == 1
    assert says in answers[0]


def test_help_lists_every_command() -> None:
    """help has a line for each command, with its short name."""
    text = "\n".join(_ask(paged_guest(), "help"))
    for word in (
        "stop|s",
        "cont|c",
        "quit|q",
        "info status",
        "x /NFMT",
        "gva2gpa EXPR",
        "print|p [/FMT] EXPR",
        "system_reset",
        "Ctrl-A x",
    ):
        assert word in text


def test_the_line_is_edited() -> None:
    """Typed characters are echoed, erased, thrown away; the arrow keys bring back what was typed before."""
    shown = bytearray()
    made = paged_guest()
    assert made.console.monitor is not None
    monitor = Monitor(made.console.monitor._target, shown.extend)
    monitor.type(b"stopx\x7f\r")
    assert monitor.stopped
    monitor.type(b"nonsense\x15cont\r")
    assert not monitor.stopped
    monitor.type(b"\x1b[A\x1b[A\r")
    assert monitor.stopped
    monitor.type(b"\x1b[A\x1b[B\x1b[Cinfo status\r")
    assert b"VM status: paused" in shown
    assert b"unknown" not in shown


def test_tables_with_bad_entries() -> None:
    """A table that leads nowhere ends the walk, without an error."""

    def nothing(address: int) -> int:
        raise ValueError("nothing there")

    assert list(ranges(nothing, 8 << 60 | 1)) == []
    assert list(ranges(nothing, 0)) == []
    assert translate(nothing, 0, 0x1234) == 0x1234
    high = list(ranges(lambda at: 0x2000_00CF if at == 0x1000 + 8 * 511 else 0, 8 << 60 | 1))
    assert [(r.start, r.size) for r in high] == [(0xFFFF_FFFF_C000_0000, 1 << 30)]


class Person:
    """Reads a terminal and types at it."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor, self.seen = descriptor, b""

    def wait(self, text: str, seconds: float = 10) -> None:
        """Read until the text appears; forget what came before it."""
        while text.encode() not in self.seen:
            self.read(seconds)
        self.seen = self.seen.partition(text.encode())[2]

    def read(self, seconds: float = 30) -> None:
        """Read what comes next."""
        assert select.select([self.descriptor], [], [], seconds)[0], self.seen
        self.seen += os.read(self.descriptor, 4096)

    def type(self, text: str) -> None:
        """Type."""
        os.write(self.descriptor, text.encode())


ECHO = """
    li s0, 0x10000000
    li t0, 33
    sb t0, 0(s0)
1:  lbu t0, 5(s0)
    andi t0, t0, 1
    beqz t0, 1b
    lbu t0, 0(s0)
    sb t0, 0(s0)
    j 1b
"""


def _run(make: Callable[[Console], Guest | Machine], program: int, found: list[object]) -> None:
    """Run a machine on a terminal."""
    console = Console(lambda data: os.write(program, data), FileInput(program), escape=True)
    found.append(make(console).run(max_seconds=60))


def _echo_guest(console: Console) -> Guest:
    made = Guest(memory=4 << 20, console=console)
    made.load_bytes(assemble(ECHO, 0x8020_0000))
    return made


def _echo_board(console: Console) -> Machine:
    made = Machine(memory=4 << 20, console=console)
    made.load_elf(make_elf(assemble(ECHO, 0x8000_0000)))
    return made


@pytest.mark.parametrize("make", [_echo_guest, _echo_board], ids=["guest", "board"])
def test_a_session(terminals: tuple[int, int], make: Callable[[Console], Guest | Machine]) -> None:
    """Ctrl-A c reaches the monitor and comes back; stop holds the machine, cont lets it go on, quit ends the run."""
    person, found = Person(terminals[0]), []
    with terminal(terminals[1]):
        thread = threading.Thread(target=_run, args=(make, terminals[1], found))
        thread.start()
        person.wait("!")
        person.type("a")
        person.wait("a")
        person.type("\x01cstop\r")
        person.wait("(trapline) stop")
        person.wait("(trapline) ")
        person.type("info status\r")
        person.wait("VM status: paused")
        first = person_instructions(person)
        person.type("info status\r")
        person.wait("VM status: paused")
        assert person_instructions(person) == first
        person.type("\x01cb")
        person.wait("[the guest's console]")
        person.type("\x01ccont\r")
        person.wait("(trapline) cont")
        person.wait("b")
        person.type("\x01c\x01\x01c")
        person.wait("\x01c")
        person.type("\x01cquit\r")
        thread.join(30)
    result = found[0]
    assert (result.reason, result.message, result.exit_status) == ("quit", "in the monitor", 130)  # type: ignore[attr-defined]


def person_instructions(person: Person) -> int:
    """The count of instructions on the next status line."""
    person.wait(" at 0x")
    person.wait(", ")
    while b" instructions" not in person.seen:
        person.read()
    return int(person.seen.split(b" ")[0])


@pytest.mark.parametrize("command", ["run", "boot"])
def test_system_reset(terminals: tuple[int, int], command: str, tmp_path: Path) -> None:
    """system_reset starts the program again, from the beginning; Ctrl-A x ends it with code 130 and the table."""
    base = 0x8020_0000 if command == "run" else 0x8000_0000
    path = tmp_path / "echo.elf"
    path.write_bytes(elf(base, [(base, assemble(ECHO, base))]))
    words = [sys.executable, "-m", "trapline", command, str(path), "--max-seconds", "60"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(words, stdin=terminals[1], stdout=terminals[1], env=environment) as process:
        person = Person(terminals[0])
        person.wait("!", 60)
        person.type("x")
        person.wait("x")
        person.type("\x01csystem_reset\r")
        person.wait("system_reset")
        person.wait("!")
        person.type("\x01c")
        person.wait("[the guest's console]")
        person.type("y\x01x")
        person.wait("quit: Ctrl-A x")
        person.wait("instructions: ")
        assert process.wait(30) == 130


@pytest.mark.parametrize("make", [paged_guest, paged_board])
def test_a_snapshot_from_the_monitor(make: Callable[[], Guest | Machine], tmp_path: Path) -> None:
    """`snapshot FILE` writes the machine, which can be restored; what is wrong with the file is one line."""
    made = make()
    (said,) = _ask(made, f"snapshot {tmp_path / 'now'}")
    assert said.startswith(f"{tmp_path / 'now'}: ")
    assert type(made).restore(tmp_path / "now").position() == made.position()
    assert "cannot write" in _ask(made, f"snapshot {tmp_path / 'no' / 'such'}")[0]
    assert _ask(made, "snapshot")[0].startswith("snapshot FILE")

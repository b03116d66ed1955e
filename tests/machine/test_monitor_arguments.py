"""Each command of the monitor with arguments that it does not take, at the console and from gdb."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from trapline.gdb.commands import Commands
from trapline.gdb.target import target_of
from trapline.isa.assemble import assemble
from trapline.machine.machine import Machine
from trapline.machine.memory_map import RAM_BASE
from trapline.session.terminal.console import Console
from trapline.session.terminal.sources import NoInput
from trapline.vmm.guest import Guest

HUGE = "0x" + "f" * 40
NO_VALUE = "an expression is missing"
X, P, CATCH, UNCATCH = "x /NFMT EXPR", "print /FMT EXPR", "catch trap CAUSE", "uncatch N or all"
BOTH = [
    *((f"help {a}", f"unknown command {a!r}") for a in ("zzz", "-1", "9" * 9)),
    *((f"info {a}".strip(), "info status|cpus") for a in ("", "zzz", "-1", HUGE, "1 2 3")),
    *((f"info {topic} 1 2", f"info {topic} takes no argument") for topic in ("status", "mem", "mtree", "stats")),
    ("info registers zzz", "no register 'zzz'"),
    *(("print", NO_VALUE), ("print 1 2", "is no expression"), ("print zzz", "no register 'zzz'")),
    *(("print /zzz 1", P), (f"print {HUGE}", "has more than 64 bits"), ("print 1 + " + "9" * 150, "than 64 bits")),
    *(("x", X), ("x 1 2", "is no expression"), ("x zzz", "no register"), ("x -1", "0xffffffffffffffff")),
    *(("x /zzz 0", X), ("x /-1x 0", X), ("x /9999999999x 0", X), ("x /4097x 0", "at most 4096")),
    *(("xp", X), ("xp zzz", "no register"), ("xp -1", "0xffffffffffffffff"), (f"xp {HUGE}", "more than 64 bits")),
    *(("gva2gpa", NO_VALUE), ("gva2gpa 1 2", "is no expression"), ("gva2gpa zzz", "no register")),
    (f"gva2gpa {HUGE}", "more than 64 bits"),
    *(("snapshot", "snapshot FILE"), ("snapshot 1 2", "snapshot FILE"), ("snapshot /proc/no/such", "/proc/no/such")),
]
CONSOLE = [
    *((f"cpu {a}".strip(), "cpu N: 0 to 0") for a in ("", "zzz", "-1", "1", HUGE, "0 0")),
    *((f"{name} 1", f"{name} takes no argument") for name in ("stop", "cont", "system_reset", "quit")),
    ("gpa 0", "unknown command 'gpa'"),
]
GDB = [
    *(("gpa", NO_VALUE), ("gpa 1 2", "is no expression"), ("gpa zzz", "no register 'zzz'")),
    (f"gpa {HUGE}", "more than 64 bits"),
    *((f"catch {a}".strip(), CATCH) for a in ("", "zzz", "-1", HUGE, "1 2 3", "csr", "csr a b", "trap")),
    *(("catch csr -1", "no CSR is called"), ("catch trap -1", "no cause"), (f"catch trap {HUGE}", "no cause")),
    *((f"uncatch {a}".strip(), UNCATCH) for a in ("", "zzz", "-1", HUGE, "9" * 5000, "1 2")),
    *(("catches", "nothing is caught"), ("catches 1", "takes no argument"), ("routes zzz", "takes no argument")),
    *((f"{name} 1", "is for the console") for name in ("stop", "cont", "quit", "cpu")),
    ("system_reset 1", "system_reset takes no argument"),
    *(("help gpa", "gpa EXPR"), ("zzz", "unknown command 'zzz'")),
]


def board() -> Machine:
    made = Machine(memory=1 << 20, console=Console())
    made.regions.write(RAM_BASE, assemble("again: j again", RAM_BASE))
    return made


def guest() -> Guest:
    made = Guest(memory=4 << 20, console=Console(None, NoInput()))
    made.load_bytes(assemble("again: j again", RAM_BASE + 0x20_0000))
    return made


@pytest.mark.parametrize("make", [board, guest])
def test_wrong_arguments_are_one_clear_line(make: Callable[[], Machine | Guest]) -> None:
    """None, too many, no number, a negative and a huge one: each command says in one line what it takes."""
    made = make()
    monitor, gdb = made.console.monitor, Commands(target_of(made))
    assert monitor is not None
    asked = [
        *((line, says, monitor.run(line)) for line, says in BOTH + CONSOLE),
        *((line, says, gdb.run(line, 0).splitlines()) for line, says in BOTH + GDB),
    ]
    for line, says, answers in asked:
        assert len(answers) == 1, line
        assert says in answers[0], line
        assert len(answers[0]) <= 120, line
        assert "invalid literal" not in answers[0], line
    assert not monitor.quit_requested
    assert not monitor.stopped
    made.close()


def test_a_guest_physical_address_is_an_expression() -> None:
    """`monitor gpa` takes what `print` takes."""
    made = board()
    made.harts[0].x[10] = 0x1000
    gdb = Commands(target_of(made))
    assert gdb.run("gpa $a0 + 0x10", 0) == gdb.run("gpa 0x1010", 0) == "0x1010\n"

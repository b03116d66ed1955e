"""One guest under a real kernel and under its preset: what either side wrote is compared line by line."""

from __future__ import annotations

import io
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from real_host import real_host

from trapline.conform.compare import AcceptedLine, load_accepted_lines
from trapline.conform.console_diff import differences, lines_of
from trapline.conform.hosted_guest import FULL, MOST_WRITTEN, SHUTDOWN, SILENT, GuestFiles, run_hosted_guest
from trapline.conform.linux import LinuxGuest
from trapline.conform.own_guest import GuestComparison, conform_guest
from trapline.conform.port import Window
from trapline.isa.assemble import assemble
from trapline.lab.errors import UsageError
from trapline.lab.settings import settings
from trapline.machine.memory_map import RAM_BASE as RAM
from trapline.privilege.isa_string import DEFAULT_ISA
from trapline.views.linux_guest import show_guests
from trapline.views.terminal import _console

# DBCN write_byte and SRST; RFENCE's hfence_gvma with all harts, whose return value 6.16 changed.
SAY = "li a7, 0x4442434e; li a6, 2; li a0, {}; ecall"
HFENCE = "li a7, 0x52464e43; li a6, 4; li a0, 0; li a1, -1; ecall; sub a0, zero, a0; addi a0, a0, 48"
SAY_A0 = "li a7, 0x4442434e; li a6, 2; ecall"
OFF = "li a7, 0x53525354; li a6, 0; li a0, 0; li a1, 0; ecall"
ENDS = {
    SHUTDOWN: OFF,
    SILENT: "1:\n  wfi\n  j 1b",
    "Operation not supported": ".insn 0x0000000b",
}


def _guest(*pieces: str) -> bytes:
    return assemble("\n".join(p.replace("; ", "\n") for p in pieces), RAM + 0x20_0000)


def _files(code: bytes) -> GuestFiles:
    return GuestFiles(16 << 20, code, 0x20_0000, RAM + 0x20_0000, b"", 8 << 20, b"", 12 << 20)


@pytest.mark.parametrize("end", ENDS)
def test_a_guest_comes_to_its_end_under_a_preset(end: str) -> None:
    """A hosted guest ends by shutdown, by being killed or because it is silent, with what it wrote until then."""
    code = _guest(SAY.format(104), SAY.format(105), ENDS[end])
    seen = run_hosted_guest(settings("linux-6.12"), _files(code), DEFAULT_ISA, False, timebase=10_000_000)
    assert (seen.end, bytes(seen.console)) == (end, b"hi")


def test_a_guest_that_never_stops_writing_is_ended() -> None:
    """What a guest may write on its console is bounded."""
    code = _guest("begin:", "li a7, 0x4442434e; li a6, 0; li a0, 4096; li a1, 0x80200000; li a2, 0; ecall", "j begin")
    seen = run_hosted_guest(settings("linux-7.2"), _files(code), DEFAULT_ISA, False, timebase=10_000_000)
    assert (seen.end, len(seen.console)) == (FULL, MOST_WRITTEN)


def test_consoles_are_compared_by_line() -> None:
    """A line that is new, gone or other is named with its number on both sides; time stamps do not count."""
    real = b"[    0.100000] one\r\ntwo\nthree\nfive\n"
    hosted = b"[    0.200000] one\ntwo\n2.5\nthree\nFIVE\xff"
    found = differences(real, hosted)
    assert [(d.real_line, d.hosted_line, d.real, d.hosted) for d in found] == [
        (0, 3, None, "2.5"),
        (4, 5, "five", "FIVE\\xff"),
    ]


def test_long_consoles_are_compared_in_bounded_time() -> None:
    """Consoles of very many lines that differ everywhere are compared without aligning all of them."""
    left, right = b"".join(b"a%d\n" % n for n in range(40_000)), b"".join(b"b%d\n" % n for n in range(40_000))
    assert len(differences(left, right)) == len(lines_of(left))


def test_an_accepted_line_covers_all_of_a_difference() -> None:
    """A difference is accepted if the expression fits the line on each side that has it."""
    known = (AcceptedLine(re.compile(r"took \d+ ms"), "time", "source"),)
    found = differences(b"took 1 ms\ntook 3 ms\n", b"took 2 ms\ntook long\n", known)
    assert [d.accepted is not None for d in found] == [True, False]


def test_a_wrong_pattern_is_one_line(tmp_path: Path) -> None:
    """An expression that is none, and an unknown key, are refused with the entry's number."""
    path = tmp_path / "accepted.toml"
    for text in ("pattern = '('", "pattern = 'a'\nwhere = 1"):
        path.write_text(f"[[line]]\n{text}\nreason = 'r'\nsource = 's'\n")
        assert tomllib.loads(path.read_text())
        with pytest.raises(UsageError, match="line 1:"):
            load_accepted_lines(path)


def _comparison(real: bytes, hosted: bytes) -> GuestComparison:
    seen = run_hosted_guest(settings("linux-7.2"), _files(_guest(OFF)), DEFAULT_ISA, False, timebase=10_000_000)
    window = Window({"VS": 100}, {}, {})
    there = LinuxGuest("7.2", "", "opensbi-1.6", seen.end, {}, {"all": 1, "mmio": 0}, window, 1, 0.1, b"", real)
    return GuestComparison(there, seen, differences(real, hosted))


def test_differences_are_shown_bounded_and_harmless() -> None:
    """The view shows the first lines that differ, escapes what would command a terminal, and counts the rest."""
    out = io.StringIO()
    lines = b"".join(b"\x1b[2J%d\n" % n for n in range(100))
    show_guests(_console(out), [_comparison(lines, b"")])
    text = out.getvalue()
    assert "\x1b[2J" not in text
    assert "- 1: \\x1b[2J0" in text
    assert "60 more" in text
    assert text.rstrip().endswith("does not conform")


def test_the_data_has_every_field() -> None:
    """JSON has both consoles, both ends, and each line that differs with its numbers."""
    data = _comparison(b"a\nb\n", b"a\n").as_data()
    assert (data["passed"], data["different_lines"], data["real"]["end"], data["hosted"]["end"]) == (
        False, 1, SHUTDOWN, SHUTDOWN,
    )  # fmt: skip
    assert data["lines"] == [{"real_line": 2, "hosted_line": None, "real": "b", "hosted": None, "accepted": None}]


@pytest.mark.slow
def test_own_guests_under_a_real_kernel(tmp_path: Path) -> None:
    """A guest that shuts down, is killed or waits for ever does the same under the kernel and under its preset."""
    for end, code in ENDS.items():
        path = tmp_path / "guest.bin"
        path.write_bytes(_guest(HFENCE, SAY_A0, code))
        (found,) = conform_guest([real_host()], path)
        assert (found.real.end, found.passed) == (end, True)
        assert len(found.real.written) == 1


@pytest.mark.slow
def test_a_guest_finds_a_wrong_preset(tmp_path: Path) -> None:
    """The line in which a real kernel and the preset of another release differ is found."""
    path = tmp_path / "guest.bin"
    path.write_bytes(_guest(HFENCE, SAY_A0, OFF))
    (found,) = conform_guest([real_host()], path, ["linux-6.13"])
    assert not found.passed
    assert [(d.real_line, d.hosted_line) for d in found.lines] == [(1, 1)]


@pytest.mark.slow
def test_sbi_pmu_under_a_real_kernel(tmp_path: Path) -> None:
    """The guest that tries SBI PMU prints the same under a real kernel and under its preset, and each check holds."""
    guests = Path(__file__).resolve().parents[2] / "guests"
    subprocess.run(["make", "-s", "-C", str(guests), "pmu", f"BUILD={tmp_path}", "SCALE=quick"], check=True)
    (found,) = conform_guest([real_host()], tmp_path / "quick" / "pmu.elf")
    assert found.passed
    assert b"PASS" in found.real.written

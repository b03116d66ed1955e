"""Where a command finds itself: no reader, no terminal, another language, other file names, a home it cannot write."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trapline.cli.main import main
from trapline.fetch.fetch import FetchOptions, fetch
from trapline.fetch.store import Store
from trapline.isa.assemble import assemble
from trapline.lab.errors import UsageError

HELLO = "li t0, 0x10000000; li t1, 72; sb t1, 0(t0); li t0, 0x100000; li t1, 0x5555; sw t1, 0(t0); 2: j 2b"
ODD = os.fsdecode(b"gu\xff\xe9st.bin")
Capture = pytest.CaptureFixture[str]


def shell(line: str, folder: Path, **environment: str) -> tuple[int, bytes, str]:
    """Run a shell's command line in a folder, $T is trapline; return its exit code, output and standard error."""
    around = {
        **os.environ,
        "T": f"{sys.executable} -m trapline",
        "PYTHONPATH": os.pathsep.join(sys.path),
        **environment,
    }
    done = subprocess.run(["bash", "-c", line], env=around, capture_output=True, cwd=folder, timeout=120, check=False)
    return done.returncode, done.stdout, done.stderr.decode(errors="surrogateescape")


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A guest that writes a letter, in a file whose name is no UTF-8."""
    path = tmp_path / ODD
    path.write_bytes(assemble(HELLO, 0x8020_0000))
    return path


PURE = [
    ("policies",),
    ("policies", "show", "linux-6.12"),
    ("policies", "--changes"),
    ("policies", "diff", "linux-6.12", "linux-7.2"),
    ("route", "--event", "2"),
    ("audit", "linux-7.2", "--event", "fetch-hole", "--firmware", "opensbi-1.6", "--workers", "1"),
    ("cache",),
    ("demo", "--short"),
]


@pytest.mark.parametrize("words", PURE, ids=" ".join)
def test_json_on_standard_output_is_valid_and_alone(words: tuple[str, ...], capfd: Capture) -> None:
    """With --json - standard output is one JSON value, under every command that runs no guest of the user's."""
    main([*words, "--json", "-"])
    out, _ = capfd.readouterr()
    assert json.loads(out)


@pytest.mark.parametrize("words", ["run", "run --observe", "run --observe --live", "compare linux-6.12 linux-7.2"])
def test_json_of_a_guest_is_valid_and_alone(words: str, odd: Path, capfd: Capture) -> None:
    """With --json - what a guest writes goes to standard error, and standard output is one JSON value."""
    command = words.split()
    line = [*command, "--json", "-", "--", str(odd)] if command[0] == "compare" else [*command, str(odd), "--json", "-"]
    assert main(line) == 0
    out, _ = capfd.readouterr()
    assert json.loads(out)["guest"] == str(odd)


@pytest.mark.parametrize("words", ["--help", "run --help", "completion bash", "policies --json -", "demo --json -"])
def test_a_reader_that_goes_is_no_failure(words: str, tmp_path: Path) -> None:
    """Behind `| head -1` every command ends well and says nothing."""
    code, _, error = shell(f"set -o pipefail; $T {words} | head -1", tmp_path)
    assert (code, error) == (0, "")


@pytest.mark.parametrize("words", ["policies --json -", "policies", "completion bash"])
def test_standard_output_on_a_full_disk_is_one_line(words: str, tmp_path: Path) -> None:
    """What finds no room on standard output is one line and code 2."""
    code, _, error = shell(f"$T {words} > /dev/full", tmp_path)
    assert (code, error.count("\n"), "cannot write" in error) == (2, 1, True)


@pytest.mark.parametrize("locale", [{"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}])
def test_names_that_are_no_text(locale: dict[str, str], odd: Path) -> None:
    """A file whose name is no UTF-8 is a guest, a result and a trace like any other, in the language C too."""
    name = "$'gu\\xff\\xe9st.bin'"
    code, out, error = shell(f"$T run {name} --json $'r\\xff' --trace $'t\\xff'", odd.parent, **locale)
    assert (code, error) == (0, "")
    assert b"exit: the guest powered off" in out
    result = json.loads((odd.parent / os.fsdecode(b"r\xff")).read_text())
    assert (result["guest"], (odd.parent / os.fsdecode(b"t\xff")).exists()) == (ODD, True)
    code, _, error = shell("$T run $'none\\xff'", odd.parent, **locale)
    assert (code, error) == (2, "trapline: none\\udcff: No such file or directory\n")


def test_a_command_line_of_the_guest_is_bytes(odd: Path, capfd: Capture) -> None:
    """What --append says reaches the device tree byte by byte, be it UTF-8 or not."""
    from trapline.machine.tree.fdt import encode_value

    assert encode_value(os.fsdecode(b"a=\xff")) == b"a=\xff\0"
    assert main(["run", str(odd), "--append", os.fsdecode(b"a=\xff")]) == 0


def test_a_folder_that_cannot_be_written(odd: Path, capfd: Capture) -> None:
    """A command that writes nothing needs no right to write where it is started."""
    folder = odd.parent / "read-only"
    folder.mkdir(mode=0o555)
    code, out, error = shell(f"$T run {odd.parent}/$'gu\\xff\\xe9st.bin'", folder)
    assert (code, error, list(folder.iterdir())) == (0, "", [])
    assert b"powered off" in out


def colours(words: list[str], **environment: str) -> tuple[bool, bool]:
    """Run a command at a terminal; return whether what it shows has colours, and whether it has escape codes at all."""
    ours, theirs = pty.openpty()
    around = {**os.environ, "TERM": "xterm-256color", "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    process = subprocess.Popen([sys.executable, "-m", "trapline", *words], stdout=theirs, stderr=theirs, env=around)
    os.close(theirs)
    seen = bytearray()
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        seen += data
    os.close(ours)
    assert process.wait() == 0
    return bool(re.search(rb"\x1b\[(\d+;)*(3|4|9)\d", seen)), b"\x1b" in seen


@pytest.mark.parametrize(
    ("environment", "expected"),
    [({}, (True, True)), ({"NO_COLOR": "1"}, (False, True)), ({"TERM": "dumb"}, (False, False))],
)
def test_colours_are_for_terminals_that_want_them(environment: dict[str, str], expected: tuple[bool, bool]) -> None:
    """A terminal gets colours, with NO_COLOR only bold and faint text, and a dumb one plain text."""
    words = ["route", "--event", "2", "--policy", "linux-7.2"]
    assert colours(words, **{"NO_COLOR": "", **environment}) == expected


def test_a_cache_that_cannot_be_written_says_what_moves_it(tmp_path: Path) -> None:
    """Fetching into a place where no folder can be made names the place and the variable that moves it."""

    class Closed(Store):
        def locked(self, waiting: Any = None) -> Any:
            raise PermissionError(13, "Permission denied", str(self.root.parent))

    with pytest.raises(UsageError, match=r"Permission denied \(TRAPLINE_CACHE names another place\)"):
        fetch(FetchOptions("linux"), store=Closed(tmp_path / "kernels"))

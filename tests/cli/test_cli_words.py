"""Simple command lines are parsed from a table of what cyclopts said of the options, and mean the same."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from trapline.cli.words import COMMANDS, FLAG, Options, Table, parsed

SOURCE = str(Path(__file__).resolve().parents[2] / "src")
VALUES = (
    "text",
    "5",
    "0x10",
    "1_0",
    "-1",
    "-",
    "",
    "none",
    "NULL",
    "trap",
    "native",
    "both",
    "1.5",
    "²",
    "rv64gc",
    "9" * 30,
)
LINES = 25  # for each command


def tabled() -> dict[str, Options]:
    """What cyclopts says of every command that has a table."""
    from trapline.cli.application import app
    from trapline.cli.described import described

    return {name: options for name in COMMANDS if (options := described(app[name])) is not None}


def lines(command: str, options: Options) -> list[list[str]]:
    """Command lines of one to three options, good ones and bad ones, some of them behind a positional argument."""
    drawn = random.Random(command)
    names = [name for name in options if name]
    made = []
    for _ in range(LINES):
        words = [command, *drawn.choices(("x", "linux-7.2"), k=drawn.randrange(2))]
        for name in drawn.choices(names, k=drawn.randint(1, 3)) if names else ():
            value = drawn.choice(VALUES)
            flag = options[name][2] == FLAG and drawn.random() < 0.9
            words += [name] if flag else [f"{name}={value}"] if drawn.random() < 0.5 else [name, value]
        made.append(words)
    return made


def test_a_simple_line_means_what_cyclopts_makes_of_it() -> None:
    """What the table parses, cyclopts parses to the same command with equal arguments; nothing wrong passes."""
    from trapline.cli.application import app

    simple = 0
    for command, options in tabled().items():
        for words in lines(command, options):
            found = parsed(words, options)
            if found is not None:
                function, bound, _ = app.parse_args(words, print_error=False, exit_on_error=False)
                assert (function, tuple(found[1]), found[2]) == (found[0], bound.args, bound.kwargs), words
                simple += 1
    assert simple > 50


@pytest.mark.parametrize("words", [
    ["boot", "x", "--max-instructions", "5", "--rng", "--drive", "a", "--drive=b,ro", "--json", "-"],
    ["run", "x", "--smp", "2", "--policy", "linux-6.12", "--misaligned=hardware", "--memory", "512M", "-s"],
    ["audit", "--all", "--json", "file"],
    ["stat", "--once"],
])  # fmt: skip
def test_usual_lines_are_simple(words: list[str]) -> None:
    """Lines that people type need no cyclopts: groups of options, numbers, choices, flags, repeated options."""
    assert parsed(words, tabled()[words[0]]) is not None


def test_the_second_start_does_without_cyclopts(tmp_path: Path) -> None:
    """A start with the table of an earlier one imports neither cyclopts nor rich, and says the same."""
    code = (
        "import sys; from trapline.cli import main; code = main(); "
        "print(code, [name for name in ('cyclopts', 'attrs', 'rich') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": SOURCE, "TRAPLINE_CACHE": str(tmp_path)}
    command = [sys.executable, "-c", code, "boot", "--smp", "2"]
    first, second = (
        subprocess.run(command, env=environment, capture_output=True, text=True, check=False) for _ in range(2)
    )
    assert first.stderr == second.stderr
    assert second.stderr.count("\n") == 1
    assert second.stdout == "2 []\n"


@pytest.mark.parametrize("at", [0, 3, 4, 40, -1])
def test_a_damaged_table_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """A table in which one byte differs, wherever it stands, is as none, and is made anew."""
    monkeypatch.setenv("TRAPLINE_CACHE", str(tmp_path))
    Table().learn("stat")
    (file,) = tmp_path.glob("command-line-*")
    data = bytearray(file.read_bytes())
    data[at] ^= 0x10
    file.write_bytes(data)
    assert Table().options("stat") is None
    Table().learn("stat")
    assert Table().options("stat") is not None


def test_the_version_is_what_cyclopts_would_print(capsys: pytest.CaptureFixture[str]) -> None:
    """--version alone needs no cyclopts, and prints the same line."""
    from trapline.cli import main
    from trapline.cli.application import app

    assert main(["--version"]) == 0
    ours = capsys.readouterr().out
    app(["--version"], result_action="return_value")
    assert capsys.readouterr().out == ours

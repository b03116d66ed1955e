"""What a shell sees: completion, help that errors point to, pure JSON, pictures without a network."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cyclopts import App

from trapline.cli import main
from trapline.isa.assemble import assemble

Capture = pytest.CaptureFixture[str]
BASE = 0x8020_0000


@pytest.fixture
def endless(tmp_path: Path) -> str:
    """A guest that traps once and never ends."""
    path = tmp_path / "guest.bin"
    path.write_bytes(assemble("la t0, 1f; csrw stvec, t0; .insn 0x0000000b\n.align 2\n1: j 1b", BASE))
    return str(path)


def test_bash_completes_commands_and_options(capsys: Capture, tmp_path: Path) -> None:
    """The script that `trapline completion bash` prints completes commands, options, and the names that they take."""
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "trapline.bash"
    script.write_text(capsys.readouterr().out)
    wants = {
        "ro": "route", "run --firmw": "--firmware", "run --policy linux-7.": "linux-7.2", "boot --tinst z": "zero",
        "audit --firmware hard": "hard-wired",
    }  # fmt: skip
    for words, wanted in wants.items():
        line = words.split()
        code = (
            f"source {script}; COMP_WORDS=(trapline {words}); COMP_CWORD={len(line)}; "
            f"_trapline trapline {line[-1]} x; echo ${{COMPREPLY[@]}}"
        )
        done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
        assert wanted in done.stdout.split()


def test_bash_completes_files_where_nothing_has_a_name(capsys: Capture) -> None:
    """A guest or an initrd is a file: bash's own completion goes on where the script knows no word."""
    assert main(["completion", "bash"]) == 0
    assert "\ncomplete -o bashdefault -o default -F _trapline trapline" in capsys.readouterr().out


def test_zsh_completes_names_and_files(capsys: Capture) -> None:
    """No specification of an option or an argument ends without saying what it completes."""
    assert main(["completion", "zsh"]) == 0
    out = capsys.readouterr().out
    assert "\n  compdef _cyclopts_trapline trapline\n" in out  # where it is sourced
    lines = [line.strip() for line in out.splitlines()]
    assert any(line.startswith("'*--policy[") and ":policy:{compadd linux-5.16 " in line for line in lines)
    assert [line for line in lines if "--initrd[" in line and ":initrd:_files'" not in line] == []
    positional = [line.removesuffix(" \\") for line in lines if line[:3] in ("'1:", "'*:")]
    assert [line for line in positional if not line.endswith(("_files'", "->cmds'", "->args'"))] == []


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_a_script(capsys: Capture, shell: str) -> None:
    """There is a script for zsh and fish, too."""
    assert main(["completion", shell]) == 0
    assert "trapline" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "help_of", "near"),
    [
        (["run", "--polcy", "x"], "trapline run --help", "--policy"),
        (["route", "--firmwear", "x"], "trapline route --help", "--firmware"),
        (["policies", "diff", "one"], "trapline policies diff --help", ""),
        (["runn"], "trapline --help", "run"),
        (["policies", "linux-7.2", "bao"], "trapline policies --help", "'bao': policies takes NAME and options"),
        (["run", "a", "b", "c"], "trapline run --help", "'b', 'c': run takes GUEST and options"),
    ],
)
def test_errors_point_to_the_help_of_their_command(capsys: Capture, words: list[str], help_of: str, near: str) -> None:
    """A misspelt option names the nearest one, and the help of the command that it was given to."""
    assert main(words) == 2
    text = capsys.readouterr().err
    assert f"({help_of})" in text
    assert near in text


@pytest.mark.parametrize("command", ["run", "boot"])
def test_json_alone_is_on_standard_output(capsys: Capture, endless: str, command: str) -> None:
    """With --json - nothing else is written to standard output, not even an empty line at a limit."""
    main([command, endless, "--max-instructions", "500", "--json", "-"])
    text = capsys.readouterr().out
    assert text.startswith("{")
    assert json.loads(text)["reason"] == "limit"


def test_version_names_the_program(capsys: Capture) -> None:
    """--version prints the program's name and its version."""
    main(["--version"])
    assert re.fullmatch(r"trapline \S+.*\n", capsys.readouterr().out)


def test_a_plot_needs_no_network_and_marks_kills(capsys: Capture, endless: str, tmp_path: Path) -> None:
    """A page has no script, fetches nothing, and a killed run's bar says how it ended."""
    page = tmp_path / "plot.html"
    words = ["compare", "linux-5.16", "linux-7.2", "--plot", str(page), "--", endless, "--max-instructions", "500"]
    assert main(words) == 3
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"<(?:script|link|img)\b|https?://|@import|url\(", text)
    assert "linux-5.16 (killed -14)" in text
    assert "linux-7.2 (limit)" in text


def commands() -> list[tuple[str, ...]]:
    """Every command and sub-command, by introspection."""
    from trapline.cli.application import app

    def below(known: App, chain: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        yield chain
        for name in known:
            if not name.startswith("-"):
                yield from below(known[name], (*chain, name))

    return list(below(app, ()))


@functools.cache
def help_text(chain: tuple[str, ...], columns: str) -> str:
    """Return a command's help on a terminal of that width."""
    environment = {**os.environ, "COLUMNS": columns, "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [sys.executable, "-m", "trapline", *chain, "--help"]
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=True).stdout


def help_words(chain: tuple[str, ...], columns: str) -> tuple[list[str], int]:
    """Return the words of a command's help, without its frames, and how wide it is."""
    shown = help_text(chain, columns)
    return re.sub(r"[─│╭╮╰╯]", " ", shown).split(), max(map(len, shown.splitlines()))


def test_help_fits_eighty_columns_and_cuts_no_word() -> None:
    """The --help of every command is at most 80 columns wide there, and has no word that a wide terminal has not."""
    found = commands()
    assert {("run",), ("boot",), ("conform",)} <= set(found)
    for chain in found:
        narrow, width = help_words(chain, "80")
        whole, _ = help_words(chain, "400")
        assert width <= 80, chain
        assert set(narrow) <= set(whole), chain


def test_help_says_what_every_option_is() -> None:
    """Each option of every command has words beside it, and no default that is nothing."""
    for chain in commands():
        for line in help_text(chain, "400").splitlines():
            if re.match(r"│ +(\* +)?-", line):
                assert re.search(r"\S {2,}\S.*\w\w", line.strip("│ ")), (chain, line)
            assert "[default: ()]" not in line
            assert '[default: ""]' not in line


def test_paragraphs_of_help_are_filled() -> None:
    """A line of a paragraph ends where the next word has no room, not where the source's line does."""
    lines = help_text(("conform",), "80").splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("Real firmware"))
    for line, following in zip(lines[at : at + 2], lines[at + 1 : at + 3], strict=True):
        assert len(line.rstrip()) + 1 + len(following.split()[0]) > 80

"""Numbers, ISA strings and policy files on the command line: bad ones give one line and exit code 2."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args

import pytest
from cyclopts import App

from trapline.cli import main
from trapline.cli.application import app

Capture = pytest.CaptureFixture[str]

COUNTS = ("0", "-1", "99999999999999999999", "abc", "1.5", "1e6", "", "nan", "²", "9" * 5000)
NUMBERS = [
    (command, option, value)
    for command, option in [
        (("run", "x"), "--timebase"),
        (("run", "x"), "--smp"),
        (("run", "x"), "--max-instructions"),
        (("boot", "x"), "--timebase"),
        (("boot", "x"), "--smp"),
        (("boot", "x"), "--max-instructions"),
        (("boot", "x"), "--signature-granularity"),
        (("audit",), "--workers"),
        (("conform",), "--repeat"),
    ]
    for value in COUNTS
]
SECONDS = [
    ((c, "x"), "--max-seconds", v) for c in ("run", "boot") for v in ("0", "-1", "1e400", "inf", "nan", "abc", "")
]


def fails(capsys: Capture, *words: str) -> str:
    """Run a command line that is wrong; return the one line that it gives."""
    assert main(list(words)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert len(err) < 300
    assert "internal error" not in err
    return err


@pytest.mark.parametrize(("command", "option", "value"), [*NUMBERS, *SECONDS])
def test_a_number_that_is_none_is_refused(command: tuple[str, ...], option: str, value: str, capsys: Capture) -> None:
    """Nothing, text, zero, a negative number and one that is too large are refused by every numeric option."""
    assert option in fails(capsys, *command, f"{option}={value}")


@pytest.mark.parametrize("command", [("route",), ("run", "x"), ("boot", "x"), ("conform",)])
@pytest.mark.parametrize("isa", ["rv64foo", "rv32imac", "rv64", "rv64gch_zfoo", "rv64gc h", "x" * 5000])
def test_an_isa_string_that_is_none_is_refused(command: tuple[str, ...], isa: str, capsys: Capture) -> None:
    """Every command that takes an ISA string says what is wrong with it."""
    assert "--isa" in fails(capsys, *command, f"--isa={isa}")


@pytest.mark.parametrize("isa", ["rv64gc", "rv64i"])
def test_a_hart_without_hypervisor_has_no_routes(isa: str, capsys: Capture) -> None:
    """Without the H extension there is no guest whose traps could be routed."""
    assert "no H extension" in fails(capsys, "route", "--isa", isa)


@pytest.mark.parametrize("command", [("route",), ("audit",), ("run", "x"), ("policies", "show")])
def test_a_policy_file_that_is_wrong_is_refused(command: tuple[str, ...], tmp_path: Path, capsys: Capture) -> None:
    """Every command that takes a policy says in which file and line it is wrong."""
    file = tmp_path / "mine.toml"
    file.write_text('default = "kill"\n[cause.inst-access]\naction = "redirekt"\n')
    words = (
        [*command, str(file)]
        if command != ("run", "x") and command != ("route",)
        else [*command, "--policy", str(file)]
    )
    assert "mine.toml: line 3: cause 'inst-access': action" in fails(capsys, *words)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import sys; sys.exit(3)", "SystemExit"),
        ("x = (", "SyntaxError"),
        ("answer = 3", "@action"),
        ("from trapline.kvm.actions import action\n@action\ndef answer(hart, x): ...\n", "hart alone"),
    ],
)
def test_a_function_that_is_none_is_refused(code: str, message: str, tmp_path: Path, capsys: Capture) -> None:
    """A policy's Python file that fails, or has no such action, is no internal error."""
    (tmp_path / "own.py").write_text(code)
    file = tmp_path / "mine.toml"
    file.write_text('extends = "linux-7.2"\ndefault = "kill"\n[cause.2]\naction = "kill"\nfunction = "own.py:answer"\n')
    assert message in fails(capsys, "route", "--event", "illegal$", "--policy", str(file))


def test_a_policy_under_which_no_guest_runs_is_refused(tmp_path: Path, capsys: Capture) -> None:
    """A policy that maps no memory is refused by what would run a guest under it."""
    file = tmp_path / "mine.toml"
    file.write_text('default = "kill"\n')
    assert "no guest can run under it" in fails(capsys, "route", "--event", "illegal$", "--policy", str(file))


EXTREMES = ("-1", "99999999999999999999", "9" * 5000, "nan", "inf", "1e400", "²", "２", "٣", "0x", "0b2", "1.5", "--")
WITHIN = {
    "--memory": ("{}", "{}M"),
    "--memslot": ("{}:4K:ram", "0x90000000:{}:ram", "{}"),
    "--aia": ("aplic-imsic,guests={}", "{}"),
    "--net": (
        "user,hostfwd=tcp:127.0.0.1:{}-:22",
        "user,hostfwd=tcp:127.0.0.1:22-:{}",
        "user,allow=tcp:{}",
        "user,allow=tcp:1-{}",
    ),
    "--drive": ("x,{}",),
    "--share": ("/nowhere{}",),
}


@pytest.mark.parametrize(
    ("command", "option", "form"),
    [
        (command, option, form)
        for command in ("run", "boot")
        for option, forms in WITHIN.items()
        for form in forms
        if (command, option) != ("boot", "--memslot")
    ],
)
def test_a_number_within_text_is_refused(command: str, option: str, form: str, guest: str, capsys: Capture) -> None:
    """Every number inside a text is refused where it is negative, endless, none, or in digits that are not ASCII."""
    spent = []
    for value in ("-1", *EXTREMES):  # the first imports what the others use
        started = time.thread_time()
        fails(capsys, command, guest, "--engine=reference", f"{option}={form.format(value)}")
        spent.append(time.thread_time() - started)
    assert max(spent[1:]) < 2


@pytest.mark.parametrize("command", ["run", "boot"])
@pytest.mark.parametrize("value", ["99999999999999999999", "9" * 5000, "9999999999999G", "２", "٣", ""])
def test_a_moment_that_never_comes_is_refused(
    command: str, value: str, guest: str, tmp_path: Path, capsys: Capture
) -> None:
    """--snapshot-at takes a number of instructions that a run can reach, in ASCII digits."""
    words = (command, guest, "--snapshot", str(tmp_path / "s"), f"--snapshot-at={value}", "--max-instructions=10")
    assert "--snapshot-at" in fails(capsys, *words)


def numeric_options() -> list[tuple[tuple[str, ...], str]]:
    """Every option of every command whose type is a number, by introspection."""
    from trapline.cli.application import app

    found = []

    def below(known: App, chain: tuple[str, ...]) -> None:
        if known.default_command is not None and chain:
            for argument in known.assemble_argument_collection():
                kinds = {argument.hint, *get_args(argument.hint)}
                if kinds & {int, float} and bool not in kinds and argument.name.startswith("--"):
                    found.append((chain, argument.name))
        for name in known:
            if not name.startswith("-"):
                below(known[name], (*chain, name))

    below(app, ())
    return found


@pytest.mark.parametrize(("chain", "option"), numeric_options())
def test_every_numeric_option_refuses_extremes(chain: tuple[str, ...], option: str, capsys: Capture) -> None:
    """No numeric option of any command takes what is endless, no number, below zero or not in ASCII digits."""
    for value in ("-1", "9" * 5000, "nan", "inf", "1e400", "²", "２", "", "--"):
        assert option in fails(capsys, *chain, f"{option}={value}")


def test_the_numeric_options_are_found() -> None:
    """Introspection finds those that everybody knows."""
    found = numeric_options()
    assert {(("run",), "--timebase"), (("run",), "--max-seconds"), (("boot",), "--smp")} <= set(found)


@pytest.fixture
def guest(tmp_path: Path) -> str:
    """A program that is good for run and boot, so that only the option can be wrong."""
    path = tmp_path / "x.bin"
    path.write_bytes((0x0000006F).to_bytes(4, "little"))
    return str(path)


@pytest.mark.parametrize(
    "option", ["--memory=-1", "--aia=aplic-imsic,guests=x", "--net=user,hostfwd=tcp:x", "--drive=,ro", "--net=bridge"]
)
@pytest.mark.parametrize("command", ["run", "boot"])
def test_what_is_wrong_is_said_before_native_code_is_made(
    command: str, option: str, guest: str, tmp_path: Path
) -> None:
    """With an empty cache, whose filling takes a minute, a wrong text is still one line within seconds."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TRAPLINE_CACHE": str(tmp_path / "cache")}
    words = [sys.executable, "-m", "trapline", command, guest, option]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert not list(tmp_path.rglob("*native*"))


@pytest.mark.parametrize(
    ("command", "option", "text", "value"),
    [
        ("run", "--max-instructions", "500M", 500_000_000),
        ("boot", "--max-instructions", "3k", 3_000),
        ("boot", "--timebase", "10M", 10_000_000),
        ("run", "--profile-every", "1_000K", 1_000_000),
        ("boot", "--trace-last", "2k", 2_000),
        ("fuzz", "--runs", "1G", 1_000_000_000),
        ("conform", "--repeat", "0x10", 16),
    ],
)
def test_counts_take_units_of_a_thousand(command: str, option: str, text: str, value: int) -> None:
    """Every count may be written with k, M or G: thousands, millions, thousands of millions."""
    _, bound, _ = app.parse_args([command, option, text], print_error=False, exit_on_error=False)
    name = option[2:].replace("-", "_")
    assert value in [getattr(group, name, group) for group in bound.arguments.values()]


@pytest.mark.parametrize("text", ["5MB", "1.5M", "M", "3T", "0x1M", "9223372036854775807k"])
def test_units_that_are_none_are_refused(text: str, capsys: Capture) -> None:
    """A unit of bytes, half a unit, another letter, or more than 63 bits: the line says how counts are written."""
    assert "(20k, 500M, 1G)" in fails(capsys, "boot", "x", "--max-instructions", text)

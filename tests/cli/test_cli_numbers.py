"""Numbers, ISA strings and policy files on the command line: bad ones give one line and exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from trapline.cli import main

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

"""Runs the pack on any simulator: a command line, what it printed, how it ended."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trapline.lab.errors import UsageError
from trapline.session.terminal.sigint import on_death

PLACE = "{elf}"
_BAD = re.compile(r"^BAD (.+?): (.+?) is (0x[0-9a-f]+), must be (0x[0-9a-f]+(?: or 0x[0-9a-f]+)?): (.+)$")
_SUM = re.compile(r"^(?:ok|failed): (\d+) bad of (\d+) checks, cases skipped: (\d+)$")


@dataclass(frozen=True, slots=True)
class Failure:
    """A check that did not hold: in which case, what was seen, and the section that says what must be."""

    case: str
    what: str
    seen: str
    must: str
    rule: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a program ended on a simulator: passed, failed, hung (it was ended), or dead (no verdict and not 0)."""

    program: str
    verdict: str
    failures: tuple[Failure, ...] = ()
    checks: int | None = None  # None if it did not say
    skipped: int | None = None
    said: str = field(default="", compare=False)  # the last lines, where there is no verdict

    def as_data(self) -> dict[str, Any]:
        """Return what JSON holds."""
        return asdict(self)


def words_of(command: str) -> list[str]:
    """Return the words of a command line; UsageError if it has no place for the program."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"{command!r}: {error}", "--run") from None
    if not any(PLACE in word for word in words):
        raise UsageError(f"{command!r} does not say where the program goes", "--run", f"write {PLACE} in it")
    return words


def run(words: Sequence[str], program: str, path: Path, seconds: float) -> Outcome:
    """Run one program; UsageError if the command cannot be started."""
    command = [word.replace(PLACE, str(path)) for word in words]
    try:
        started = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
    except OSError as error:
        raise UsageError(f"cannot start {command[0]!r}: {error.strerror}", "--run") from None
    with started, on_death(lambda: _end(started)):
        try:
            said, hung = started.communicate(timeout=seconds)[0], False
        except subprocess.TimeoutExpired:
            _end(started)
            said, hung = started.communicate()[0], True
        except BaseException:
            _end(started)
            raise
    code = started.returncode
    return judge(program, said.decode("utf-8", "replace"), code, hung)


def _end(started: subprocess.Popen[bytes]) -> None:
    """End a simulator with all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(started.pid, signal.SIGKILL)


def judge(program: str, said: str, code: int, hung: bool = False) -> Outcome:
    """Return the outcome of what a simulator printed and its exit code, which counts if nothing was printed."""
    failures, total = [], None
    lines = [line.strip() for line in said.splitlines()]
    for line in lines:
        if match := _BAD.match(line):
            failures.append(Failure(*match.groups()))
        elif match := _SUM.match(line):
            total = match
    if total is not None:
        verdict = "failed" if failures or int(total[1]) else "passed"
        return Outcome(program, verdict, tuple(failures), int(total[2]), int(total[3]))
    verdict = "hung" if hung else "failed" if failures else "dead" if code else "passed"
    return Outcome(program, verdict, tuple(failures), said="\n".join([line for line in lines if line][-5:]))


def roots(failures: Iterable[Failure]) -> list[Failure]:
    """Return the failures without those that follow from another mode, or another cause, in the same case."""
    found, decided = [], set()
    for one in failures:
        if one.case not in decided:
            found.append(one)
        if one.what.startswith("taker") or one.what in ("mcause", "scause", "vscause"):
            decided.add(one.case)
    return found


def kinds(failures: Iterable[tuple[str, Failure]]) -> list[tuple[str, Failure, int]]:
    """Return failures of one kind once: the program, the first of them, and how many there are."""
    found: dict[tuple[str, ...], tuple[str, Failure, int]] = {}
    for program, one in failures:
        event = one.case.split(",")[0].split(" from ")[0]
        key = (program, event, one.what, one.rule)
        first = found.get(key, (program, one, 0))
        found[key] = (first[0], first[1], first[2] + 1)
    return list(found.values())


def groups(outcomes: Iterable[Outcome]) -> list[tuple[str, Failure, int]]:
    """Return the kinds of failures, without those that follow from another."""
    return kinds((outcome.program, one) for outcome in outcomes for one in roots(outcome.failures))

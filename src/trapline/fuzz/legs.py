"""What a worker of the common executor does for a search: legs of it, one behind another.

A process goes on from leg to leg with what it has made and learnt; the first one names its stream of random numbers.
"""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from pathlib import Path

from trapline.fuzz.findings import Case, Key
from trapline.fuzz.folder import Folder
from trapline.fuzz.search import News, Plan, Search

LEG = 1.0  # seconds of a leg that is not for so many programs
SILENCE = 300  # seconds after which a batch is taken for hung, and its process ends
TRIAL = 30  # seconds for one program


@dataclass(frozen=True, slots=True)
class Leg:
    """A part of a search: `most` programs, or LEG seconds; not beyond a moment of time.monotonic."""

    number: int
    plan: Plan
    folder: Path
    times: int  # how often the folder was searched before
    most: int | None = None
    deadline: float | None = None
    known: tuple[Key, ...] = ()


@dataclass(frozen=True, slots=True)
class Heard:
    """What a leg brought, the processor seconds that it took, and why the folder cannot be used any more."""

    news: News
    cpu: float
    unwritten: str = ""


@dataclass(frozen=True, slots=True)
class Trial:
    """One program that may bring a process down."""

    plan: Plan
    case: Case


@dataclass(slots=True)
class _Going:
    """The search that this process is in."""

    of: tuple[Path, int]
    search: Search
    folder: Folder


_going: list[_Going] = []
_tried: list[Search] = []


def going(leg: Leg) -> tuple[Search, Folder]:
    """Return the search of this process and its folder; begun with the first leg."""
    of = leg.folder, leg.times
    if not _going or _going[0].of != of:
        _going[:] = [_Going(of, Search(leg.plan, f"{leg.times}/{leg.number}"), Folder(leg.folder, {}))]
    search, folder = _going[0].search, _going[0].folder
    search.before = lambda programs, case: folder.note(leg.number, programs, case)
    return search, folder


def run_leg(leg: Leg) -> Heard:
    """Run one leg. Its programs are noted in the folder while they run; a process that hangs ends by SIGALRM."""
    total, cpu = News(), time.process_time()
    unwritten = ""
    try:
        _run(leg, total)
    except OSError as error:  # what the search itself raises is a finding of its
        unwritten = error.strerror or str(error)
    signal.alarm(0)
    return Heard(total, time.process_time() - cpu, unwritten)


def _run(leg: Leg, total: News) -> None:
    search, folder = going(leg)
    search.known.update(leg.known)
    search.corpus += folder.others()
    began = time.monotonic()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    while _goes_on(leg, total.runs, began):
        signal.alarm(SILENCE)
        news = search.step() if leg.most is None else search.step(leg.most - total.runs)
        total.runs += news.runs
        total.groups += news.groups
        total.again += news.again
        for program in news.corpus:
            folder.add(program)
    folder.forget(leg.number)


def _goes_on(leg: Leg, runs: int, began: float) -> bool:
    now = time.monotonic()
    if leg.deadline is not None and now >= leg.deadline:
        return False
    return runs < leg.most if leg.most is not None else now - began < LEG


def run_trial(trial: Trial) -> None:
    """Run one program; it may bring the process down."""
    if not _tried or _tried[0].plan != trial.plan:
        _tried[:] = [Search(trial.plan)]
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(TRIAL)
    _tried[0].world(trial.case.isa).judge(trial.case.program, trial.case.zoo)
    signal.alarm(0)

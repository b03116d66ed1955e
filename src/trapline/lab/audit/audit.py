"""`trapline audit`: execute every event under every firmware and check what a guest can count on.

The properties are those of PROPERTIES; c is about firmware that ignores hedeleg, e about cause, epc, tval, privilege.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from types import NoneType
from typing import Any

from trapline.engine.api import Engine
from trapline.firmware.models import FirmwareModel
from trapline.lab.audit.checks import FAIL, Finding, check
from trapline.lab.audit.same import Asked, Facts, Known, Results, watched
from trapline.lab.audit.shown import ShownAudit
from trapline.lab.executor.api import Executor, Here, local
from trapline.lab.firmware_names import ALL, firmware_named
from trapline.lab.probe.events import UNREACHABLE
from trapline.lab.probe.image import Entry, build
from trapline.lab.probe.oracle import expected
from trapline.lab.probe.probe import Observation, ProbeError, ProbeVm
from trapline.lab.route import event_names, harts, to_route
from trapline.lab.settings import Settings, guest_isa, policy_of, settings
from trapline.lang.given import require_kind
from trapline.policies import Policy
from trapline.privilege.causes import CAUSE_NAMES, INTERRUPT, cause_name
from trapline.privilege.isa_string import DEFAULT_ISA, extensions

PROPERTIES = {
    "a": "nothing that VU can raise kills or hangs the VM",
    "b": "nothing that VS can raise kills or hangs the VM",
    "c": "a delegated cause that arrives in HS all the same still has an outcome",
    "d": "statistics show every redirect, and the counters agree with the trace",
    "e": "the guest sees what hardware would have given it",
}

Progress = Callable[[int, int, str], None]
Found = tuple[list[Finding], int, dict[int, set[str]]]
FEW_PROBES = 20  # of one hart: they stay together, for a VM takes as long as ten of them
REFERENCE = "linux-7.2"  # the policy under which what firmware makes of harts is compared
FEW_JOBS = 8  # fewer are done sooner than a worker process is there
TELL = 1.0  # seconds between two words of a worker process on what it has found


@dataclass(frozen=True, slots=True)
class Job:
    """One configuration to execute all events in."""

    settings: Settings
    model: FirmwareModel
    isa: str = DEFAULT_ISA
    engine: str | Engine = "native"
    only: frozenset[str] | None = None


@dataclass(slots=True, repr=False)
class Audit(ShownAudit[Finding]):
    """All findings, how much was executed, and which causes VU can raise alone."""

    policies: tuple[str, ...]
    firmware: tuple[str, ...]
    findings: list[Finding] = field(default_factory=list)
    executed: int = 0
    raises: dict[int, set[str]] = field(default_factory=dict)  # cause: conditions under which VU raised it
    partial: bool = False  # only some events were asked for
    interrupted: bool = False  # Ctrl-C: this is the result so far

    def vu_alone(self) -> dict[int, str]:
        """Return for every cause (that was asked for) the answer to "can VU alone raise it?"."""
        answers = {}
        for cause in CAUSE_NAMES:
            conditions = self.raises.get(cause)
            if self.partial and conditions is None:
                continue
            if conditions is None:
                answers[cause] = f"no: {UNREACHABLE.get(cause, 'no event from VU raised it')}"
            elif "" in conditions:
                answers[cause] = "yes"
            else:
                answers[cause] = f"if {' or '.join(sorted(conditions))}"
        return answers

    def as_data(self) -> dict[str, Any]:
        alone = self.vu_alone()
        return {
            **self.head(PROPERTIES),
            "vu_alone": [{"cause": c, "name": cause_name(c), "answer": a} for c, a in alone.items()],
        }


@dataclass(frozen=True, slots=True)
class Part:
    """Every so manieth probe, in all configurations: what follows from a run of a probe is found in the same part."""

    jobs: tuple[Job, ...]
    number: int
    parts: int


@dataclass(slots=True)
class _Seen:
    """What a part found in one configuration: findings by the place of their probe."""

    findings: list[tuple[int, Finding]] = field(default_factory=list)
    executed: int = 0
    raises: dict[int, set[str]] = field(default_factory=dict)


def run_job(job: Job, results: Results | None = None) -> Found:
    """Execute the events of one configuration: findings, how many were executed, what VU raised.

    `results` is what is known from other policies in the same configuration; no probe is run whose result follows.
    Nothing is executed for host-fwft on firmware that does not grant it: that is the same as without.
    """
    seen = _run_part(job, Results() if results is None else results, 0, 1)
    return [finding for _, finding in seen.findings], seen.executed, seen.raises


def _run_part(job: Job, results: Results, number: int, parts: int) -> _Seen:
    seen, place = _Seen(), 0
    for turn, (isa, only) in enumerate(harts(job.isa, job.only)):
        entries = build(frozenset(extensions(isa)), only).entries
        together = len(entries) < FEW_PROBES
        if not entries or (together and turn % parts != number):
            place += len(entries)
            continue
        hart = _Probes(job, results, isa, only)
        if job.settings.host_fwft and not hart.granted:
            return _Seen()
        for entry in entries:
            place += 1
            if not together and place % parts != number:
                continue
            seen.executed += 1
            known = hart.run(entry)
            seen.findings += [(place, finding) for finding in known.findings]
            if known.raised is not None:
                seen.raises.setdefault(known.raised, set()).add(entry.event.condition)
    return seen


class _Probes:
    """The probes of one configuration on one hart; the VM is made when the first of them must be run."""

    def __init__(self, job: Job, results: Results, isa: str, only: frozenset[str] | None) -> None:
        self._job, self._results, self._only = job, results, only

        def make() -> ProbeVm:
            return self._made(policy_of(REFERENCE), isa)

        ground = results.ground(job.model, job.settings.host_fwft, isa, make)
        self._facts, self.granted = Facts(job.settings.policy, isa, ground), ground.granted

    def _made(self, policy: Policy, isa: str) -> ProbeVm:
        job = self._job
        chosen = replace(job.settings, policy=policy)
        return ProbeVm(chosen, isa=isa, engine=job.engine, only=self._only, firmware=job.model)

    @cached_property
    def _vm(self) -> ProbeVm:
        facts = self._facts
        return self._made(watched(facts.policy) if facts.can_share else facts.policy, facts.isa)

    @cached_property
    def _counters(self) -> frozenset[str]:
        return frozenset(c.name for c in self._facts.policy.counters)

    def run(self, entry: Entry) -> Known:
        """Return what a probe gives, from a run if need be."""
        facts = self._facts
        known = self._results.find(entry, facts) if facts.can_share else None
        if known is None:
            known = self._raise(entry)
            if facts.can_share:
                self._results.keep(entry, facts, known)
        return known

    def _raise(self, entry: Entry) -> Known:
        chosen, firmware, probes = self._job.settings, self._job.model.name, self._vm
        try:
            seen = probes.run(entry)
        except ProbeError as error:
            return Known(None, (Finding.of(chosen, firmware, entry.event, entry.mode, ("e", FAIL, str(error))),), None)
        row = to_route(seen)
        answers = expected(self._facts.isa, self._only)[entry.event.id, entry.mode]
        findings = check(chosen, firmware, seen, row, answers, self._counters)
        raised = row.cause if row.from_ == "VU" and row.path[1:] else None
        return Known(_asked(probes, seen, any(f.log for f in findings)), tuple(findings), raised)


def _asked(probes: ProbeVm, seen: Observation, killed: bool) -> Asked:
    """For what policy and firmware were asked in the last run."""
    causes = probes.raised | probes.causes
    if probes.firmware_came:  # it may hand on another cause than it got
        causes = causes | {one.cause for one in seen.log}
    traps = sum(1 << cause for cause in causes if cause < 64)
    timed = seen.end == "hung" or any(cause & INTERRUPT for cause in causes)
    return Asked(frozenset(probes.causes), frozenset(probes.own), traps, killed, timed, not probes.firmware_came)


def _jobs(
    policies: Sequence[Policy], models: Sequence[FirmwareModel], fwft: Sequence[bool], misaligned: str, **more: Any
) -> list[Job]:
    return [Job(Settings(p, m.name, on, misaligned), m, **more) for p in policies for m in models for on in fwft]


def run_part(part: Part) -> Iterator[tuple[int, list[_Seen]]]:
    """Execute a part: yield what it found in the next configurations, and the place of the first of these."""
    results, told, found, due = Results(), 0, list[_Seen](), 0.0
    for job in part.jobs:
        found.append(_run_part(job, results, part.number, part.parts))
        if time.monotonic() >= due or told + len(found) == len(part.jobs):
            yield told, found
            told, found, due = told + len(found), [], time.monotonic() + TELL


def _joined(seen: dict[int, _Seen]) -> Found:
    """Put together what all parts found in one configuration, in the order of its probes."""
    parts = seen.values()
    found = sorted((one for part in parts for one in part.findings), key=itemgetter(0))
    raises: dict[int, set[str]] = {}
    for part in parts:
        for cause, conditions in part.raises.items():
            raises.setdefault(cause, set()).update(conditions)
    return [finding for _, finding in found], sum(part.executed for part in parts), raises


def _execute(
    jobs: list[Job], executor: Executor, note: Progress | None
) -> Generator[tuple[int, int, list[_Seen]], None, None]:
    """Yield the number of a part, the place of a job, and what the part found in it and those behind it.

    RuntimeError: a worker could not run a part. One that is tried again tells the same again.

    One process takes a job after the other; several take probes of all jobs.
    """
    results, every = Results(), len(jobs)
    if isinstance(executor, Here):
        for place, job in enumerate(jobs):
            yield 0, place, [_run_part(job, results, 0, 1)]
            _tell(note, place + 1, every, job)
        return
    parts = executor.workers
    units = [Part(tuple(jobs), number, parts) for number in range(parts)]
    ended = [0] * parts
    for done in executor.execute(run_part, units):
        if done.error:
            raise RuntimeError(f"part {done.unit.number} was given up after {done.tries} tries: {done.error}")
        if done.more and done.value is not None:
            number, (first, found) = done.unit.number, done.value
            yield number, first, found
            ended[number] = max(ended[number], first + len(found))
            _tell(note, sum(ended) // parts, every, jobs[ended[number] - 1])


def _tell(note: Progress | None, done: int, every: int, job: Job) -> None:
    if note is not None:
        note(done, every, job.settings.policy.name)


def audit(
    policies: str | Path | Policy | Sequence[str | Path | Policy] = "linux-7.2",
    *,
    firmware: Sequence[str] | str | None = None,
    host_fwft: Sequence[bool] = (False, True),
    misaligned: str = "trap",
    isa: str = DEFAULT_ISA,
    engine: str | Engine = "native",
    event: str | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Audit:
    """Execute every event from VS and VU under each policy, firmware model and host-fwft, and check the properties."""
    several = [policies] if isinstance(policies, (str, Path, Policy)) else policies
    require_kind("policies", several, list, tuple)
    named = (firmware,) if isinstance(firmware, str) else firmware
    require_kind("firmware", named, list, tuple, NoneType)
    chosen = [policy_of(p) for p in several]
    settings(chosen[0], misaligned=misaligned)
    isa = guest_isa(isa)
    models = [firmware_named(n) for n in named] if named else list(ALL.values())
    only = event_names(event)
    jobs = _jobs(chosen, models, host_fwft, misaligned, isa=isa, engine=engine, only=only)
    result = Audit(tuple(p.name for p in chosen), tuple(m.name for m in models), partial=only is not None)
    few = len(jobs) < FEW_JOBS or not isinstance(engine, str)
    executing = _execute(jobs, Here() if few else local(workers), progress)
    seen: list[dict[int, _Seen]] = [{} for _ in jobs]
    try:
        for number, first, found in executing:
            for place, one in enumerate(found, start=first):
                seen[place][number] = one
    except KeyboardInterrupt:
        result.interrupted = True
    finally:
        executing.close()
    for findings, executed, raises in map(_joined, seen):
        result.findings += findings
        result.executed += executed
        for cause, conditions in raises.items():
            result.raises.setdefault(cause, set()).update(conditions)
    return result

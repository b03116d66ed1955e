"""`trapline audit`: execute every event under every firmware and check what a guest can count on.

Properties:
  a  nothing that VU can raise kills or hangs the VM
  b  nothing that VS can raise kills or hangs the VM
  c  a delegated cause that arrives in HS because the firmware ignored hedeleg still has an outcome
  d  statistics: KVM's own counters move for every redirect; the compiled counters agree with the trace
  e  what the guest sees (cause, epc, tval, privilege) is what hardware would have given it
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trapline.engine.api import Engine
from trapline.firmware.models import FirmwareModel
from trapline.lab.audit_shown import ShownAudit
from trapline.lab.checks import Finding, check
from trapline.lab.events import UNREACHABLE
from trapline.lab.executor import Executor, Here, in_order, local
from trapline.lab.firmware_names import ALL, firmware_named
from trapline.lab.oracle import expected
from trapline.lab.probe import ProbeError
from trapline.lab.route import event_names, probe_vms, to_route
from trapline.lab.settings import Settings, guest_isa, policy_of, settings
from trapline.policies import Policy
from trapline.privilege.causes import CAUSE_NAMES, cause_name
from trapline.privilege.isa_string import DEFAULT_ISA

PROPERTIES = {
    "a": "nothing that VU can raise kills or hangs the VM",
    "b": "nothing that VS can raise kills or hangs the VM",
    "c": "a delegated cause that arrives in HS all the same still has an outcome",
    "d": "statistics show every redirect, and the counters agree with the trace",
    "e": "the guest sees what hardware would have given it",
}

Progress = Callable[[int, int, str], None]
Found = tuple[list[Finding], int, dict[int, set[str]]]
FEW_JOBS = 8  # fewer are done sooner than a worker process is there


@dataclass(frozen=True, slots=True)
class Job:
    """One configuration to execute all events in."""

    settings: Settings
    model: FirmwareModel
    isa: str = DEFAULT_ISA
    engine: str | Engine = "native"
    only: frozenset[str] | None = None


@dataclass(slots=True, repr=False)
class Audit(ShownAudit):
    """All findings, how much was executed, and which causes VU can raise alone."""

    policies: tuple[str, ...]
    firmware: tuple[str, ...]
    findings: list[Finding] = field(default_factory=list)
    executed: int = 0
    raises: dict[int, set[str]] = field(default_factory=dict)  # cause: conditions under which VU raised it
    partial: bool = False  # only some events were asked for
    interrupted: bool = False  # Ctrl-C: this is the result so far

    @property
    def failures(self) -> list[Finding]:
        """Findings that fail the audit."""
        return [f for f in self.findings if f.severity == "fail"]

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
        """Return the JSON form."""
        alone = self.vu_alone()
        return {
            "policies": list(self.policies),
            "firmware": list(self.firmware),
            "executed": self.executed,
            "interrupted": self.interrupted,
            "passed": not self.failures,
            "properties": PROPERTIES,
            "findings": [f.as_data() for f in self.findings],
            "vu_alone": [{"cause": c, "name": cause_name(c), "answer": a} for c, a in alone.items()],
        }


def run_job(job: Job) -> Found:
    """Execute the events of one configuration: findings, how many were executed, what VU raised.

    Nothing is executed for host-fwft on firmware that does not grant it: that is the same as without.
    """
    found: list[Finding] = []
    executed, granted = 0, False
    raises: dict[int, set[str]] = {}
    for probes in probe_vms(job.settings, job.isa, job.engine, job.only, firmware=job.model):
        granted = granted or probes.vm.host_delegates_misaligned
        if job.settings.host_fwft and not granted:
            return [], 0, {}
        answers = expected(probes.isa, probes.only)
        for entry in probes.image.entries:
            executed += 1
            try:
                seen = probes.run(entry)
            except ProbeError as error:
                found.append(Finding.broken(job.settings, job.model.name, entry, str(error)))
                continue
            row = to_route(seen)
            if row.from_ == "VU" and row.path[1:]:
                raises.setdefault(row.cause, set()).add(entry.event.condition)
            kvm_counters = frozenset(probes.vcpu.stats.kvm)
            found += check(job.settings, job.model.name, seen, row, answers[entry.event.id, entry.mode], kvm_counters)
    return found, executed, raises


def _jobs(
    policies: Sequence[Policy], models: Sequence[FirmwareModel], fwft: Sequence[bool], misaligned: str, **more: Any
) -> list[Job]:
    return [Job(Settings(p, m.name, on, misaligned), m, **more) for p in policies for m in models for on in fwft]


def _numbered(numbered: tuple[int, Job]) -> Found:
    return run_job(numbered[1])


def _results(jobs: list[Job], executor: Executor) -> Generator[Found, None, None]:
    """Yield what each job found, in the order of the jobs; RuntimeError: a worker could not run one of them."""
    if isinstance(executor, Here):
        yield from map(run_job, jobs)
        return
    for done in in_order(executor.execute(_numbered, enumerate(jobs)), lambda numbered: numbered[0]):
        if done.value is None:
            raise RuntimeError(f"{_where(done.unit[1])} was given up after {done.tries} tries: {done.error}")
        yield done.value


def _where(job: Job) -> str:
    return f"policy {job.settings.policy.name} on {job.model.name}"


def audit(
    policies: str | Path | Policy | Sequence[str | Path | Policy] = "linux-7.2",
    *,
    firmware: Sequence[str] | None = None,
    host_fwft: Sequence[bool] = (False, True),
    misaligned: str = "trap",
    isa: str = DEFAULT_ISA,
    engine: str | Engine = "native",
    event: str | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Audit:
    """Execute every event from VS and VU under each policy, firmware model and host-fwft, and check the properties."""
    several = [policies] if isinstance(policies, (str, Path, Policy)) else list(policies)
    chosen = [policy_of(p) for p in several]
    settings(chosen[0], misaligned=misaligned)
    isa = guest_isa(isa)
    models = [firmware_named(n) for n in firmware] if firmware else list(ALL.values())
    only = event_names(event)
    jobs = _jobs(chosen, models, host_fwft, misaligned, isa=isa, engine=engine, only=only)
    result = Audit(tuple(p.name for p in chosen), tuple(m.name for m in models), partial=only is not None)
    few = len(jobs) < FEW_JOBS or not isinstance(engine, str)
    results = _results(jobs, Here() if few else local(workers))
    try:
        for done, (job, (found, executed, raises)) in enumerate(zip(jobs, results, strict=True), 1):
            result.findings += found
            result.executed += executed
            for cause, conditions in raises.items():
                result.raises.setdefault(cause, set()).update(conditions)
            if progress is not None:
                progress(done, len(jobs), job.settings.policy.name)
    except KeyboardInterrupt:
        result.interrupted = True
    finally:
        results.close()
    return result

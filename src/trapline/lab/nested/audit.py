"""`trapline audit --nested`: execute every event in L2 and in L1 and hold each level's view against hardware's.

The properties are those of PROPERTIES. For b a flat guest is the measure; c is about scause, sepc, stval, htval,
htinst, SPP, SPV, SPVP and GVA, d about cause, epc, tval, privilege and how it ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from trapline.engine.api import Engine
from trapline.firmware.models import FirmwareModel
from trapline.isa.system import is_counter
from trapline.lab.audit.audit import FEW_JOBS, Progress
from trapline.lab.audit.checks import FAIL, NOTE, Finding, Result, agreement, disassembled, switched_off
from trapline.lab.audit.shown import ShownAudit
from trapline.lab.executor.api import Here, local
from trapline.lab.firmware_names import ALL, firmware_named
from trapline.lab.nested.image import hypervisor
from trapline.lab.nested.oracle import Shown, expected
from trapline.lab.nested.probe import Levels, NestedProbeVm
from trapline.lab.nested.route import DEFAULT_L1, NestedRoute, nested_vms, to_nested_route, wanted
from trapline.lab.probe.events import Event
from trapline.lab.probe.probe import Observation, ProbeError, ProbeVm
from trapline.lab.settings import Settings, guest_isa, policy_of, settings
from trapline.lang.values import U64
from trapline.policies import Policy, policy_names
from trapline.privilege.causes import VIRTUAL_INST
from trapline.privilege.isa_string import DEFAULT_ISA

PROPERTIES = {
    "a": "nothing that vVU or vVS raises kills or hangs L1 or the VM",
    "b": "nothing that vU or vHS raises kills or hangs the VM",
    "c": "L1 sees what hardware would have shown it",
    "d": "L2 sees what hardware would have shown it",
    "e": "the counters agree with the trace",
}
# What HS-mode can do and VS-mode cannot: for these a flat guest is no measure.
OF_H = ("csr-hypervisor", "csr-vs", "hfence-gvma", "hfence-vvma", "hlv", "hsv")
_DEATHS = ("killed", "hung", "l1-dead", "lost", "vmm")


@dataclass(frozen=True, slots=True)
class NestedFinding(Finding):
    """A property that does not hold, under which L1."""

    l1: str = ""

    def as_data(self) -> dict[str, Any]:
        return {**Finding.as_data(self), "l1": self.l1}


@dataclass(slots=True, repr=False)
class NestedAudit(ShownAudit[NestedFinding]):
    """All findings, and how much was executed."""

    policies: tuple[str, ...]
    l1: tuple[str, ...]
    firmware: tuple[str, ...]
    findings: list[NestedFinding] = field(default_factory=list)
    executed: int = 0
    interrupted: bool = False

    def as_data(self) -> dict[str, Any]:
        return {**self.head(PROPERTIES), "l1": list(self.l1)}


def check_levels(
    levels: Levels, row: NestedRoute, shown: tuple[Shown, ...], flat: Observation | None, vm: NestedProbeVm
) -> Iterator[Result]:
    """Yield what is wrong with one row; `flat` is the same event in a guest of a VM that does not nest, for L1's."""
    seen, inner = levels.seen, row.from_.startswith("vV")
    ends = {s.end for s in shown}
    if seen.end in _DEATHS and seen.end not in ends:
        as_flat = flat is not None and flat.end == seen.end
        what = _death(row) + (", as of a flat guest" if as_flat else "")
        yield "a" if inner else "b", NOTE if as_flat else FAIL, what
        return
    for prop, severity, what in agreement(seen, handler=False):
        yield "e" if prop == "d" else prop, severity, what
    excuse = _excuse(levels, vm)
    if inner and not any(levels.notes == s.notes for s in shown):
        yield "c", NOTE if excuse else FAIL, excuse or f"L1 sees {_notes(levels, shown)}"
    log = tuple(seen.log)
    if not any((seen.end, log) == (s.end, s.log) for s in shown):
        if flat is not None and (flat.end, flat.log) == (seen.end, seen.log) and seen.entry.event.id not in OF_H:
            yield "c", NOTE, "not as hardware has it, and as a flat guest has it"
            return
        what = excuse or f"{'L2' if inner else 'L1'} sees {_causes(seen.end, log)}, hardware gives {_wanted(shown)}"
        yield "d" if inner else "c", NOTE if excuse else FAIL, what


def _death(row: NestedRoute) -> str:
    if row.end == "killed":
        return f"the VM is killed with -{row.errno}"
    return {"l1-dead": "L1 gets a trap of its own in its handler, which ends it"}.get(
        row.end, "it never comes back" if row.end == "hung" else f"it ends by {row.end}"
    )


def _excuse(levels: Levels, vm: NestedProbeVm) -> str:
    """Why an instruction may be illegal where the machine of the oracle has it."""
    if name := switched_off(levels.seen):
        return f"illegal instruction: this firmware does not switch {name} on"
    if _of_l0(levels, vm):
        return "illegal instruction: L0 gives this counter to no guest, and L1 opened it to L2"
    first = levels.records[0].path if levels.records else ()
    if first[1:] == ("M", "vVS") and not levels.notes and levels.seen.log:
        return "the firmware gives L2 a trap that L1 did not delegate"
    virtual = vm.vcpu.nested.hart if vm.vcpu.nested is not None else None
    has = {n: int(getattr(virtual, f"has_{n}", 1)) for n in levels.seen.entry.event.isa} if virtual is not None else {}
    if name := next((n for n, there in has.items() if there == 0), ""):
        return f"illegal instruction: L1 does not have {name}"
    return ""


def _of_l0(levels: Levels, vm: NestedProbeVm) -> bool:
    """Whether it reads a counter that L1 has opened to L2 and L0's policy keeps from its own guests."""
    first = levels.records[0] if levels.records else None
    if first is None or first.cause != VIRTUAL_INST or vm.l1_policy is None or not is_counter(U64(first.tval)):
        return False
    bit = 1 << (first.tval >> 20 & 31)
    return not vm.settings.policy.hcounteren & bit and bool(vm.l1_policy.hcounteren & bit)


def _causes(end: str, log: Sequence[Any]) -> str:
    found = ", ".join(f"cause {s.cause:#x}" if s.cause >> 63 else f"cause {s.cause}" for s in log) or "no trap"
    return f"{found} and {end}" if end else found


def _wanted(shown: tuple[Shown, ...]) -> str:
    return " or ".join(dict.fromkeys(_causes(s.end, s.log) for s in shown))


def _notes(levels: Levels, shown: tuple[Shown, ...]) -> str:
    """Say where the notes part: in a word of one, or in what traps L1 saw at all."""
    wanted_notes = shown[0].notes
    if [n.cause for n in wanted_notes] != [n.cause for n in levels.notes]:
        return f"{_causes('', levels.notes)}, hardware gives {_causes('', wanted_notes)}"
    parts = []
    for ours, theirs in zip(levels.notes, wanted_notes, strict=True):
        a, b = ours.as_data(), theirs.as_data()
        parts += [f"{name} {int(a[name]):#x} of cause {ours.cause}, hardware gives {int(b[name]):#x}"
                  for name in a if a[name] != b[name]]  # fmt: skip
    return "; ".join(dict.fromkeys(parts[:3]))


@dataclass(frozen=True, slots=True)
class Job:
    """One configuration."""

    settings: Settings
    model: FirmwareModel
    hypervisor: Policy | None  # L1's policy; None: the events of L1 itself
    isa: str
    engine: str | Engine
    only: frozenset[str] | None


def run_job(job: Job) -> tuple[list[NestedFinding], int]:
    """Execute the events of one configuration: findings, and how many were executed."""
    found: list[NestedFinding] = []
    executed, granted = 0, False
    for vm in nested_vms(job.settings, job.hypervisor, job.isa, job.engine, job.only, job.model):
        granted = granted or vm.vm.host_delegates_misaligned
        if job.settings.host_fwft and not granted:
            return [], 0
        answers = expected(job.hypervisor, vm.vcpu.hart, vm.isa, vm.only)
        flat = None
        if job.hypervisor is None:
            flat = ProbeVm(job.settings, isa=vm.isa, engine=job.engine, firmware=job.model, only=vm.only)
        for entry in vm.image.entries:
            executed += 1
            try:
                levels = vm.run_levels(entry)
                other = flat.run(flat.image.entry(entry.event.id, entry.mode)) if flat is not None else None
            except ProbeError as error:
                found.append(_finding(job, entry.event, entry.mode, ("a", FAIL, str(error))))
                continue
            row = to_nested_route(levels, inner=job.hypervisor is not None)
            for one in check_levels(levels, row, answers[entry.event.id, entry.mode], other, vm):
                made = _finding(job, entry.event, row.from_, one, row)
                if made.severity == FAIL:
                    made = _with_code(made, levels)
                found.append(made)
    return found, executed


def _with_code(finding: NestedFinding, levels: Levels) -> NestedFinding:
    death = levels.seen.death
    return replace(finding, code=disassembled(levels.seen.entry), log=death.log if death else ())


def _finding(job: Job, event: Event, mode: str, found: Result, row: NestedRoute | None = None) -> NestedFinding:
    l1 = job.hypervisor.name if job.hypervisor is not None else ""
    return NestedFinding.of(job.settings, job.model.name, event, mode, found, row, l1=l1)


def run_numbered(unit: tuple[int, Job]) -> tuple[list[NestedFinding], int]:
    """Run the job of a numbered one."""
    return run_job(unit[1])


def every_l1() -> list[str]:
    """The presets whose data make L1 different programs, the first of each."""
    programs = dict[bytes, str]()
    for name in policy_names():
        programs.setdefault(hypervisor(policy_of(name)).data, name)
    return list(programs.values())


def nested_audit(
    policies: str | Path | Policy | Sequence[str | Path | Policy] = "linux-7.2",
    l1: Sequence[str | Path | Policy] = (DEFAULT_L1,),
    *,
    firmware: Sequence[str] | None = None,
    host_fwft: Sequence[bool] = (False, True),
    misaligned: str = "trap",
    isa: str = DEFAULT_ISA,
    engine: str | Engine = "native",
    event: str | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> NestedAudit:
    """Execute every event under each L0 policy, L1 policy, firmware model and host-fwft, and check the properties.

    RuntimeError: a worker could not run a configuration.
    """
    several = [policies] if isinstance(policies, (str, Path, Policy)) else list(policies)
    chosen, inner = [policy_of(p) for p in several], [policy_of(p) for p in l1]
    settings(chosen[0], misaligned=misaligned)
    isa, only = guest_isa(isa), wanted(event)
    models = [firmware_named(n) for n in firmware] if firmware else list(ALL.values())
    jobs = [
        Job(Settings(p, m.name, on, misaligned), m, h, isa, engine, only)
        for p in chosen for m in models for on in host_fwft for h in (None, *inner)
    ]  # fmt: skip
    result = NestedAudit(tuple(p.name for p in chosen), tuple(p.name for p in inner), tuple(m.name for m in models))
    few = len(jobs) < FEW_JOBS or not isinstance(engine, str)
    executing = (Here() if few else local(workers)).execute(run_numbered, enumerate(jobs))
    seen: dict[int, tuple[list[NestedFinding], int]] = {}
    try:
        for done in executing:
            place, job = done.unit
            if done.value is None:
                raise RuntimeError(f"configuration {place} was given up after {done.tries} tries: {done.error}")
            seen[place] = done.value
            if progress is not None:
                progress(len(seen), len(jobs), job.settings.policy.name)
    except KeyboardInterrupt:
        result.interrupted = True
    for place in sorted(seen):
        found, executed = seen[place]
        result.findings += found
        result.executed += executed
    return result

"""Which hypervisors survive a trap that killed a guest: its instruction is executed again under each policy.

The dead vCPU is put back to where it died, the policy is exchanged, and KVM_RUN is called once more, to the first
trap. So hardware, firmware and hypervisor decide as they do in a run. The VM is of no other use afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from typing import Any

from trapline.dataclass import dataclass
from trapline.kvm.report.trace import TrapRecord
from trapline.kvm.run_stop import RunStop
from trapline.kvm.snapshot import change_policy
from trapline.kvm.uapi.numbers import Exit
from trapline.kvm.uapi.stats import hardware_traps
from trapline.kvm.vcpu import Vcpu
from trapline.kvm.vm import Vm
from trapline.plain import plain
from trapline.policies import Policy, PolicyError, load_policy, policy_names
from trapline.policies.versions import series_of
from trapline.privilege.causes import INTERRUPT, cause_name
from trapline.privilege.csr import csr_read
from trapline.privilege.csr_numbers import VSCAUSE
from trapline.privilege.fields import HSTATUS_VTW

_SERVED = (Exit.MMIO, Exit.RISCV_SBI, Exit.RISCV_CSR, Exit.SYSTEM_EVENT)
_STEPS = 4  # calls of KVM_RUN to get past host interrupts


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of the same guest, at the same instruction, under another policy."""

    policy: str
    outcome: str
    survives: bool


@dataclass(frozen=True, slots=True)
class Survival:
    """The fates under all presets, in their order; `died` is the run's, or the release that it stands on."""

    died: str
    fates: tuple[Fate, ...]

    def versions(self) -> list[Fate]:
        """Return the fates under the versions of the hypervisor that killed, oldest first; none if there is one."""
        family = self.died.partition("-")[0]
        found = [f for f in self.fates if f.policy == family or f.policy.startswith(f"{family}-")]
        return found if len(found) > 1 and self.died in [f.policy for f in found] else []

    def mended(self) -> Fate | None:
        """Return the first version, from the run's on, since which all survive; None if the newest does not.

        It may be the run's own series, if a later point release of that survives.
        """
        versions = self.versions()
        at = next((n for n, f in enumerate(versions) if f.policy == self.died), len(versions))
        dead = [n for n, f in enumerate(versions) if not f.survives]
        first = max(at, dead[-1] + 1 if dead else 0)
        return versions[first] if first < len(versions) else None

    def outcomes(self) -> dict[str, list[str]]:
        """Return what happens, and under which presets, releases in a row as one word."""
        names = [f.policy for f in self.fates]
        found = dict.fromkeys(f.outcome for f in self.fates)
        return {o: ranges(names, [f.policy for f in self.fates if f.outcome == o]) for o in found}

    def as_data(self) -> dict[str, Any]:
        mended = self.mended()
        return {
            "mended": mended.policy if mended else None,
            "fates": [plain(f, "policy outcome survives") for f in self.fates],
        }


def survival(vm: Vm, dead: int, policies: Sequence[str] | None = None) -> Survival:
    """Execute the instruction that ended vCPU `dead` under each preset; the VM's state is spent."""
    policy = vm.policy
    vcpu = next(v for v in vm.vcpus if v.id == dead)
    state, csrs, loaded = bytes(vcpu.hart.mem.cast("B")), copy(vcpu.csrs), vcpu.loaded
    fates = []
    for name in policies or policy_names():
        vcpu.hart.mem.cast("B")[:] = state
        vcpu.csrs, vcpu.loaded = copy(csrs), loaded
        try:
            fates.append(_fate(vm, vcpu, load_policy(name)))
        except PolicyError:
            continue
    died = f"linux-{series_of(policy.release)}" if policy.release else policy.name
    return Survival(died, tuple(fates))


class _First(Exception):
    """Carries the first exception that left the guest out of KVM_RUN."""

    def __init__(self, record: TrapRecord) -> None:
        self.record = record


def _raise_first(record: TrapRecord) -> None:
    if not record.cause & INTERRUPT:
        raise _First(record)


def _fate(vm: Vm, vcpu: Vcpu, policy: Policy) -> Fate:
    vcpu.death = vcpu.csr_insn = None
    vcpu.hart.kvm_mmio_open = 0
    vcpu.sbi.return_open, vcpu.blocked, vcpu.firmware_dump = False, False, ""
    vm.on_trap, vm.on_log = None, None
    change_policy(vm, policy)
    vcpu.put()
    vcpu.csrs.vsie = 0  # an interrupt would come first
    hstatus = int(vcpu.hart.guest_hstatus) & ~HSTATUS_VTW
    vcpu.hart.guest_hstatus = hstatus | (0 if policy.has_feature("wfi-runs") else HSTATUS_VTW)
    vm.on_trap = _raise_first
    before = hardware_traps(vcpu.hart)
    try:
        for _ in range(_STEPS):
            stop = vcpu.run(1)
            if stop is not RunStop.LIMIT or _moved(before, hardware_traps(vcpu.hart)):
                break
    except _First as first:
        return Fate(policy.name, *_ended(vcpu, first.record))
    finally:
        vm.on_trap = None
    given = _moved(before, hardware_traps(vcpu.hart))
    return Fate(policy.name, f"guest {given[0]}" if given else "no trap", True)


def _moved(before: dict[tuple[int, str, str], int], after: dict[tuple[int, str, str], int]) -> list[int]:
    """Return the causes of exceptions that hardware has given to the guest since."""
    return [
        cause
        for (cause, origin, where), n in after.items()
        if where == "VS" and not cause & INTERRUPT and n != before.get((cause, origin, where), 0)
    ]


def _ended(vcpu: Vcpu, record: TrapRecord) -> tuple[str, bool]:
    """Return how an exception ended, and whether the guest goes on."""
    if record.end == "killed":
        return f"killed -{record.errno}", False
    if record.end == "guest":
        return f"guest {int(vcpu.hart.call(csr_read, VSCAUSE))}", True
    if record.end == "vmm":
        reason = vcpu.kvm_run.exit_reason
        return f"vmm {reason.name.lower()}", reason in _SERVED
    return record.end, record.end != "hung"


def ranges(order: Sequence[str], chosen: Sequence[str]) -> list[str]:
    """Return names; releases of Linux that follow one another as "linux-6.14 to linux-7.3"."""
    out: list[str] = []
    for run in _runs(order, set(chosen)):
        linux = [n for n in run if n.startswith("linux-")]
        if len(linux) > 2:
            out.append(f"{linux[0]} to {linux[-1]}")
        else:
            out += linux
        out += [n for n in run if not n.startswith("linux-")]
    return out


def _runs(order: Sequence[str], chosen: set[str]) -> Iterator[list[str]]:
    """Yield the chosen names that follow one another in the given order."""
    run: list[str] = []
    for name in order:
        if name in chosen:
            run.append(name)
        elif run:
            yield run
            run = []
    if run:
        yield run


def describe(survival: Survival) -> list[str]:
    """Say in sentences who survives: mended when, and what happens under whom."""
    mended = survival.mended()
    lines = []
    if mended is not None:
        lines.append(f"mended in {mended.policy}: {words(mended.outcome)}")
    elif versions := survival.versions():
        lines.append(f"not mended up to {versions[-1].policy}")
    return lines + [f"{words(outcome)}: {', '.join(names)}" for outcome, names in survival.outcomes().items()]


def words(outcome: str) -> str:
    """Say what an outcome means for the guest."""
    kind, _, rest = outcome.partition(" ")
    if kind == "guest":
        return f"the guest gets cause {rest} ({cause_name(int(rest))})"
    known = {"resumed": "goes on", "emulated": "emulated", "no trap": "no trap", "hung": "hangs in the firmware"}
    if kind == "vmm":
        return "served by the VMM" if rest in [e.name.lower() for e in _SERVED] else f"ends as KVM_EXIT_{rest.upper()}"
    return known.get(outcome, outcome)

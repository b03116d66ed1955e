"""Statistics: KVM's own counters as of the policy's version, and what KVM does not count.

KVM's names come from the policy, in KVM's order. Names under `trapline/` are ours: every cause by
origin and outcome (delegated traps out of the hart's compiled counters), guest page faults, kills.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, ClassVar

from trapline.firmware.exit_log import KINDS, HostedExit, counted, spent
from trapline.kvm.report.cost import estimate
from trapline.kvm.uapi.stats_fd import HISTOGRAM_BUCKETS
from trapline.lang.state.words import LAYOUT
from trapline.policies import Policy
from trapline.privilege.causes import GUEST_PAGE_FAULTS, INST_ACCESS, cause_name
from trapline.session.observe.trap_counts import Trap, trap_at
from trapline.session.observe.trap_counts import counted as counted_traps
from trapline.session.state.plain_types import U64

if TYPE_CHECKING:
    from trapline.kvm.report.trace import TrapRecord
    from trapline.lang.state import Hart

Route = tuple[int, str, tuple[str, ...], tuple[str, ...], str, int]  # cause, origin, path, how, end, errno

GENERIC_VCPU = ("halt_wakeup", "halt_wait_ns", "blocking")
GENERIC_VM = ("remote_tlb_flush", "remote_tlb_flush_requests")

_KVM_STAT = LAYOUT.fields["kvm_stat"].index


class VcpuStats:
    """One vCPU's counters."""

    snapshot_types: ClassVar = {"kvm": dict[str, U64], "routes": Counter[Route], "firmware": Counter[Route]}

    def after_restore(self) -> None:
        """Refuse routes that nothing takes."""
        for _, _, path, how, end, _ in (*self.routes, *self.firmware):
            if len(path) < 2 or not how or ("HS" in path and estimate(how[-1], end) is None):
                raise ValueError(f"no route {path} {how} {end}")

    def __init__(self, policy: Policy) -> None:
        self.kvm: dict[str, int] = {c.name: 0 for c in policy.counters}
        self.generic: dict[str, int] = dict.fromkeys(GENERIC_VCPU, 0)
        self.halt_wait_hist = [0] * HISTOGRAM_BUCKETS  # by the logarithm of a wait in nanoseconds
        self.routes: Counter[Route] = Counter()  # those that Python handled
        self.firmware: Counter[Route] = Counter()  # instructions that they are estimated to have taken in M-mode

    def count(self, name: str) -> None:
        """Move one of KVM's counters; versions that lack it ignore that."""
        if name in self.kvm:
            self.kvm[name] += 1

    def record(self, record: TrapRecord) -> None:
        """Count the outcome of a trap that left the guest."""
        route = record.cause, record.origin, record.path, record.how, record.end, record.errno
        self.routes[route] += 1
        self.firmware[route] += record.m_instructions

    def all_routes(self, hart: Hart) -> Counter[Route]:
        """Return how often each route was taken, in the subset or in Python."""
        return self.routes + hosted_routes(hart)

    def all_firmware(self, hart: Hart) -> Counter[Route]:
        """Return the instructions that firmware is estimated to have executed, by route."""
        return self.firmware + hosted_firmware(hart)

    def fold(self, hart: Hart) -> None:
        """Take over what hosted exits have counted."""
        names = tuple(self.kvm)[: len(hart.kvm_stat)]
        for number, moved in enumerate(hart.mem[_KVM_STAT : _KVM_STAT + len(names)].tolist()):
            if moved:
                self.kvm[names[number]] += moved
                hart.kvm_stat[number] = 0
        self.generic["blocking"] = int(hart.kvm_blocked)
        if hart.kvm_halt_wait != 0 or hart.kvm_wakeups != 0:
            self.generic["halt_wait_ns"] += int(hart.kvm_halt_wait)
            self.generic["halt_wakeup"] += int(hart.kvm_wakeups)
            hart.kvm_halt_wait = hart.kvm_wakeups = 0
            for bucket in range(HISTOGRAM_BUCKETS):
                self.halt_wait_hist[bucket] += int(hart.kvm_halts[bucket])
                hart.kvm_halts[bucket] = 0

    def fold_routes(self, hart: Hart) -> None:
        """Likewise the routes; the firmware must have taken over its part."""
        self.routes += hosted_routes(hart)
        self.firmware += hosted_firmware(hart)
        for number in range(len(hart.exit_count)):
            hart.exit_count[number] = hart.exit_firmware[number] = 0

    def snapshot(self, hart: Hart) -> dict[str, int]:
        """Return every counter by name: KVM's, the generic ones, ours."""
        self.fold(hart)
        return {**self.kvm, **self.generic, **self.trapline(hart)}

    def trapline(self, hart: Hart) -> dict[str, int]:
        """Return what KVM does not count, without zeros."""
        found = Counter[str]()
        for (cause, origin, _, how, end, _), n in self.all_routes(hart).items():
            found[_counter_name(cause, origin, how[-1], end)] += n
            if cause in GUEST_PAGE_FAULTS:
                found["trapline/guest_page_faults"] += n
            if cause == INST_ACCESS:
                found["trapline/inst_access_exits"] += n
            if end == "killed":
                found["trapline/kills"] += n
        for (cause, origin, destination), n in hardware_traps(hart).items():
            if destination == "VS":
                found[_counter_name(cause, origin, "delegated")] += n
        return dict(sorted(found.items()))


@cache
def _counter_name(cause: int, *rest: str) -> str:
    return "/".join(("trapline", cause_name(cause), *rest))


def hosted_routes(hart: Hart) -> Counter[Route]:
    """Return the routes of the exits that the subset handled."""
    return _by_route(counted(hart))


def hosted_firmware(hart: Hart) -> Counter[Route]:
    """Return the instructions of firmware that stand for these exits, by route."""
    return _by_route(spent(hart))


def _by_route(numbers: Iterable[tuple[HostedExit, int]]) -> Counter[Route]:
    found: Counter[Route] = Counter()
    for exit_, n in numbers:
        found[route_of(exit_)] += n
    return found


@cache
def route_of(exit_: HostedExit) -> Route:
    """Return the route of an exit that the subset handled."""
    kind = KINDS[exit_.kind]
    return exit_.cause, exit_.path[0], exit_.path, kind.how, kind.end, 0


def hardware_traps(hart: Hart) -> dict[Trap, int]:
    """Return the compiled counters of guest traps."""
    found = ((trap_at(index), n) for index, n in counted_traps(hart).items())
    return {trap: n for trap, n in found if trap[1] in ("VU", "VS")}


def total(snapshots: Iterable[dict[str, int]]) -> dict[str, int]:
    """Sum the counters of several vCPUs, as KVM's debugfs does."""
    summed = Counter[str]()
    for snapshot in snapshots:
        summed.update(snapshot)
    return dict(summed)

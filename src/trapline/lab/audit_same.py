"""Probes whose result is known: the same guest, under a policy that answers all that was asked in the same way.

A VM is deterministic. Two runs of one probe under two policies can part only where the policy is asked and
answers differently. What a run asks is known: the rules of the causes that arrived in HS, what SBI and CSR
emulation have if such an exit came, the features and bugs that any code has asked for, and the words that every
VM begins with. Where all of those are equal, the result of the earlier run is the result.

It is, too, on another firmware, if the probe never came there: where the vCPU begins in the same state, and medeleg
has the same bits for all that was raised. A call of the SBI may ask the firmware in Python, so its probes are run.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from trapline.kvm.report.cost import measured_version
from trapline.kvm.uapi.isa_ext import SINCE
from trapline.lab.checks import KVM_COUNTERS, Finding
from trapline.lang.state.words import LAYOUT
from trapline.policies import Action, Policy
from trapline.policies.names import BugName, FeatureName
from trapline.privilege.causes import ECALL_VS

if TYPE_CHECKING:
    from trapline.lab.probe import ProbeVm

_TEXT = frozenset(("since", "until", "fixed", "source", "note"))  # of a rule, that no VM reads
# Asked for when a vCPU is made, and looked at in calls of the SBI, or in virtual instructions, alone.
_OF_CALLS = frozenset(
    (
        "fence-range-wraps", "fwft-stale-feature", "hfence-calls-are-nops", "hsm-status-of-the-caller",
        "sbi-unknown-function-invalid", "v01-all-harts-by-mask",
    )
)  # fmt: skip
_OF_INSTRUCTIONS = frozenset(("wfi-of-user-is-illegal", "wrs"))
_STATE = [f for f in LAYOUT.fields.values() if not f.host and f.name not in ("medeleg", "medeleg_mask")]
_asked: set[str] = set()  # features, bugs and extensions that a watched policy was asked for in this process

Entry = tuple[str, str]  # an event's id, and the mode that raises it


class WatchedPolicy(Policy, frozen=True, kw_only=True):
    """A policy that notes which features and bugs it is asked for."""

    def has_bug(self, name: BugName) -> bool:
        """Whether the hypervisor has the known bug `name`."""
        _asked.add(name)
        return any(b.name == name for b in self.bugs)

    def has_feature(self, name: FeatureName) -> bool:
        """Whether the hypervisor can do `name`."""
        _asked.add(name)
        return any(f.name == name for f in self.features)

    def knows(self, name: str, since: str) -> bool:
        """Whether the hypervisor knows the ISA extension `name`."""
        _asked.add(_extension(name))
        return super().knows(name, since)


def _extension(name: str) -> str:
    return f"isa/{name}"


def watched(policy: Policy) -> Policy:
    """Return the same policy, which notes what it is asked for."""
    return WatchedPolicy(**{name: getattr(policy, name) for name in policy.__struct_fields__})


@dataclass(frozen=True, slots=True)
class Known:
    """What a probe gave, and the causes for which the policy was asked."""

    causes: frozenset[int]
    traps: int  # of all exceptions that the hart took: hedeleg may have a say in where they went
    findings: tuple[Finding, ...]
    raised: int | None  # the cause that VU raised
    alone: bool = False  # the firmware had no say in it, beyond medeleg


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """One firmware with one setting of host-fwft, and the state in which a vCPU begins on it under one policy."""

    firmware: str
    host_fwft: bool
    granted: bool
    state: bytes  # of the hart, without what belongs to the host and medeleg
    medeleg: int

    @classmethod
    def of(cls, firmware: str, host_fwft: bool, probes: ProbeVm) -> Ground:
        """Read it off a VM that has run nothing."""
        hart = probes.begin()
        state = b"".join(hart.mem[field.index : field.index + field.count].tobytes() for field in _STATE)
        return cls(firmware, host_fwft, probes.vm.host_delegates_misaligned, state, int(hart.medeleg))


class Facts:
    """What one policy answers on one ground, as values that can be compared."""

    def __init__(self, policy: Policy, isa: str, ground: Ground) -> None:
        self.policy, self.isa, self.ground = policy, isa, ground
        self._about: dict[frozenset[int], Hashable] = {}

    @cached_property
    def can_share(self) -> bool:
        """Whether all that the policy does is said by its fields: it brings no code and nests no guests."""
        p = self.policy
        return p.nested == "off" and not any(rule.function for rule in (p.default, *p.causes.values()))

    @cached_property
    def _names(self) -> frozenset[str]:
        known = {_extension(name) for name, since in SINCE.items() if self.policy.knows(name, since)}
        features, bugs = {f.name for f in self.policy.features}, {b.name for b in self.policy.bugs}
        return frozenset(known | features | bugs)

    @cached_property
    def machine(self) -> Hashable:
        """What a VM and its vCPU are made with, whatever the guest does."""
        p = self.policy
        words = (p.hideleg, p.hcounteren, p.debug_undelegates, p.nacl, measured_version(p.release))
        return words, _plain(p.mmio)

    def names(self) -> frozenset[str]:
        """Its features, its bugs and the extensions that it knows: those that a VM asks for, calls aside."""
        return self._names & _asked - _OF_CALLS - _OF_INSTRUCTIONS

    def about(self, causes: frozenset[int]) -> Hashable:
        """What the policy says of these causes."""
        if causes not in self._about:
            self._about[causes] = self._say(causes)
        return self._about[causes]

    def said_of(self, finding: Finding) -> Finding:
        """Return what was found elsewhere as a finding of this policy on this ground."""
        firmware, host_fwft = self.ground.firmware, self.ground.host_fwft
        return replace(finding, policy=self.policy.name, firmware=firmware, host_fwft=host_fwft)

    def calls(self, causes: frozenset[int]) -> bool:
        """Whether one of them may be a call of the SBI."""
        return any(cause == ECALL_VS or self.policy.rule(cause).action is Action.SBI for cause in causes)

    def _say(self, causes: frozenset[int]) -> Hashable:
        p = self.policy
        rules = [(c, p.rule(c)) for c in sorted(causes)]
        there = {c.name for c in p.counters}
        counters = {name for c, r in rules for name in (*r.counters, KVM_COUNTERS.get(c, "")) if name in there}
        said: list[Hashable] = [frozenset(counters), *((c, _plain(r)) for c, r in rules)]
        calls = self.calls(causes)
        emulates = any(r.action is Action.EMULATE for _, r in rules)
        if emulates:
            said += [_plain(p.csrs), self._names & _OF_INSTRUCTIONS]
        if calls or emulates:  # the counters of the SBI's PMU are CSRs
            said += [_plain((p.sbi, p.sbi_version, p.fwft, p.release)), self._names & _OF_CALLS]
        return tuple(said)


def _plain(value: Any) -> Hashable:
    """Return a rule, or several, as a value without its text."""
    plain: Hashable = _without_text(msgspec.to_builtins(value, str_keys=True))
    return plain


def _without_text(value: Any) -> Any:
    if isinstance(value, dict):
        return tuple((k, _without_text(v)) for k, v in value.items() if k not in _TEXT)
    if isinstance(value, (list, tuple)):
        return tuple(_without_text(v) for v in value)
    return value


class Results:
    """What is known of the probes on each hart, on any firmware with any host-fwft, under any policy."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, Entry], list[tuple[Facts, Known]]] = {}
        self._grounds: dict[tuple[str, bool, str], Ground] = {}

    def ground(self, firmware: str, host_fwft: bool, isa: str, make: Callable[[], ProbeVm]) -> Ground:
        """Return the ground of probes; `make` makes a VM there, under the same policy each time."""
        key = firmware, host_fwft, isa
        if key not in self._grounds:
            self._grounds[key] = Ground.of(firmware, host_fwft, make())
        return self._grounds[key]

    def find(self, entry: Entry, facts: Facts) -> Known | None:
        """Return the result of a probe as it is under a policy, if it follows from what is known."""
        for other, known in self._known.get((facts.isa, entry), ()):
            same = _same_ground(other.ground, facts.ground, known)
            same = same and not (other.policy.hedeleg ^ facts.policy.hedeleg) & known.traps
            same = same and other.machine == facts.machine and other.names() == facts.names()
            if same and other.about(known.causes) == facts.about(known.causes):
                return replace(known, findings=tuple(facts.said_of(finding) for finding in known.findings))
        return None

    def keep(self, entry: Entry, facts: Facts, known: Known) -> None:
        """Keep the result of a run."""
        self._known.setdefault((facts.isa, entry), []).append((facts, known))


def _same_ground(one: Ground, other: Ground, known: Known) -> bool:
    if one is other:
        return True
    return known.alone and one.state == other.state and not (one.medeleg ^ other.medeleg) & known.traps

"""Probes whose result is known: the same guest, where policy and firmware answer all that was asked in the same way.

A VM is deterministic. Two runs of one probe can part only where the policy or the firmware is asked and answers
differently, or where the vCPU begins in another state. What a run asked is known (`Asked`): the causes that
arrived in HS, those of all traps that the hart took, whether firmware came, whether an interrupt or time had a
say. `Facts.answers` is what one policy on one firmware answers to that, as one value: where it is equal, the result
of the earlier run is the result.

All that a policy says is part of the answer, apart from what is named here with the probes that it cannot concern.
Of firmware that never came only medeleg is. tests/lab/test_lab_audit_same.py changes one thing after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from trapline.firmware.models import FirmwareModel
from trapline.kvm.report.cost import measured_version
from trapline.kvm.uapi.isa_ext import SINCE
from trapline.lab.audit.checks import KVM_COUNTERS, Finding
from trapline.lang.state.words import LAYOUT
from trapline.policies import Action, Policy
from trapline.policies.names import BugName, FeatureName
from trapline.policies.schema import CauseRule
from trapline.privilege.causes import ECALL_VS, GUEST_PAGE_FAULTS, INTERRUPT
from trapline.privilege.fields import (
    ENVCFG_ADUE,
    ENVCFG_CBCFE,
    ENVCFG_CBIE,
    ENVCFG_CBZE,
    ENVCFG_PBMTE,
    ENVCFG_STCE,
)

if TYPE_CHECKING:
    from trapline.lab.probe.image import Entry
    from trapline.lab.probe.probe import ProbeVm

# Of a rule: what no VM reads, what hedeleg says, and what guest debugging, which is off, would have.
_TEXT = frozenset(
    ("since", "until", "fixed", "source", "note", "delegate", "if_debug", "debug_undelegates"),
)
# Asked for when a vCPU is made, and looked at in some probes alone: where the SBI is called,
_OF_CALLS = frozenset(
    (
        "fence-range-wraps", "fwft-stale-feature", "hfence-calls-are-nops", "hsm-status-error-lost",
        "hsm-status-of-the-caller", "sbi-unknown-function-invalid", "v01-all-harts-by-mask",
    )
)  # fmt: skip
# where the hypervisor decodes an instruction,
_OF_INSTRUCTIONS = frozenset(("counters-as-hardware", "wfi-of-user-is-illegal", "wfi-runs", "wrs"))
# where it is given a page or an access,
_OF_ACCESSES = frozenset(
    ("mmio-checks-address", "mmio-refuses-sp-store-with-zero-bits", "read-only-maps-first"),
)
# where it is given anything,
_OF_EXITS = frozenset(("reads-as-the-guest", "redirect-keeps-privilege"))
# where interrupts come,
_OF_INTERRUPTS = frozenset(("sstc", "vsip-hvip-conversion"))
# where the VM is killed, and the log has hstatus,
_OF_LOGS = frozenset(("wfi-runs",))
# nowhere: a probe touches one page that is not mapped,
_OF_NOTHING = frozenset(("transparent-huge-pages",))
# and in events that name the extension.
_OF_EVENTS = frozenset(f"isa/{name}" for name in ("sscofpmf", "svadu", "svpbmt", "zicbom", "zicboz"))
_NARROW = _OF_CALLS | _OF_INSTRUCTIONS | _OF_ACCESSES | _OF_EXITS | _OF_INTERRUPTS | _OF_LOGS | _OF_NOTHING | _OF_EVENTS
# What menvcfg gives concerns events that name the extension, page tables that use it, and time.
_GIVEN = ENVCFG_STCE | ENVCFG_PBMTE | ENVCFG_ADUE | ENVCFG_CBZE | ENVCFG_CBCFE | ENVCFG_CBIE
_GATED = frozenset(("sstc", "svadu", "svpbmt", "zicbom", "zicboz"))
_OF_GIVEN = frozenset(("menvcfg", "ctx_base", "stimer_at", "kvm_sstc"))
# Extensions of events that read what hcounteren gives: counters, stimecmp (its TM), and scountovf.
_COUNTERS = frozenset(("zicntr", "zihpm", "sstc", "sscofpmf"))
_ENDS = frozenset((Action.REDIRECT, Action.KILL, Action.EXIT, Action.DEBUG))  # actions that decode no access
_STATE = [f for f in LAYOUT.fields.values() if not f.host and f.name not in ("medeleg", "medeleg_mask")]
# Of a firmware model: not its words, what the state of the hart says, how it answers calls and what it costs.
_SAID = (
    "name", "summary", "sources", "medeleg", "mideleg", "tied_zero", "mcounteren", "scounteren", "menvcfg",
    "mstateen0", "fwft", "sbi", "measured_on",
)  # fmt: skip
_HABITS = tuple(f.name for f in fields(FirmwareModel) if f.name not in _SAID)
_WORD_STORE = "sw"  # by which a probe says that it is at its mark
_asked: set[str] = set()  # features, bugs and extensions that a watched policy was asked for in this process


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
class Asked:
    """For what policy and firmware were asked in one run of a probe."""

    causes: frozenset[int]  # that arrived in HS
    own: frozenset[int]  # the same without the writes of MARK and END
    traps: int  # of all exceptions that the hart took: medeleg and hedeleg may have a say in where they went
    killed: bool  # the log of that is part of the result
    timed: bool  # an interrupt came, or a limit ended it: what exits cost has a say
    alone: bool  # the firmware had no say in it, beyond medeleg


@dataclass(frozen=True, slots=True)
class Known:
    """What a probe gave, and what it asked for; None if it did not get to its event."""

    asked: Asked | None
    findings: tuple[Finding, ...]
    raised: int | None  # the cause that VU raised


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """One firmware with one setting of host-fwft, and the state in which a vCPU begins on it under one policy."""

    firmware: FirmwareModel
    host_fwft: bool
    granted: bool
    state: bytes  # of the hart, without what belongs to the host, medeleg, and what menvcfg gives
    given: bytes  # that
    medeleg: int

    @classmethod
    def of(cls, firmware: FirmwareModel, host_fwft: bool, probes: ProbeVm) -> Ground:
        """Read it off a VM that has run nothing."""
        hart = probes.begin()
        words = {f.name: hart.mem[f.index : f.index + f.count].tobytes() for f in _STATE}
        given = b"".join(words.pop(name) for name in sorted(_OF_GIVEN))
        state, rest = b"".join(words.values()), (int(hart.menvcfg) & ~_GIVEN).to_bytes(8, "little")
        granted = probes.vm.host_delegates_misaligned
        return cls(firmware, host_fwft, granted, state + rest, given, int(hart.medeleg))

    def says(self, asked: Asked, isa: frozenset[str], *, calls: bool, timed: bool) -> Hashable:
        """What it has to do with a run."""
        said: list[Hashable] = [self.state, self.medeleg & asked.traps]
        said += [self.given] if timed or isa & _GATED else []
        if calls or not asked.alone:
            said += [getattr(self.firmware, name) for name in _HABITS]
            said += [self.firmware.name, self.host_fwft] if timed else []
        return tuple(said)


class Facts:
    """What one policy answers on one ground, as values that can be compared."""

    def __init__(self, policy: Policy, isa: str, ground: Ground) -> None:
        self.policy, self.isa, self.ground = policy, isa, ground
        self._answers: dict[tuple[Asked, tuple[str, ...]], Hashable] = {}
        self._when = -1

    @cached_property
    def can_share(self) -> bool:
        """Whether all that the policy does is said by its fields: it brings no code and nests no guests."""
        p = self.policy
        return p.nested == "off" and not any(rule.function for rule in (p.default, *p.causes.values()))

    def answers(self, asked: Asked, isa: tuple[str, ...]) -> Hashable:
        """What the policy and the firmware answer in a run of an event with these extensions."""
        if self._when != len(_asked):
            self._answers.clear()
            self._when = len(_asked)
        key = asked, isa
        found = self._answers.get(key)
        if found is None:
            found = self._answers[key] = _number(self._say(asked, frozenset(isa)))
        return found

    def said_of(self, finding: Finding) -> Finding:
        """Return what was found elsewhere as a finding of this policy on this ground."""
        firmware, host_fwft = self.ground.firmware.name, self.ground.host_fwft
        return finding.said_of(self.policy.name, firmware, host_fwft)

    def _say(self, asked: Asked, isa: frozenset[str]) -> Hashable:
        p, names = self.policy, _names(self.policy) & _asked
        rules = [(c, p.rule(c)) for c in sorted(asked.causes) if not c & INTERRUPT]
        calls = any(cause == ECALL_VS or rule.action is Action.SBI for cause, rule in rules)
        emulates = any(rule.action is Action.EMULATE for _, rule in rules)
        timed = asked.timed or emulates or calls or "sstc" in isa
        own = asked.own.difference(c for c in asked.own if c & INTERRUPT)
        given = any(c in GUEST_PAGE_FAULTS or p.rule(c).action not in _ENDS for c in own)
        there = {c.name for c in p.counters}
        counters = {name for c, r in rules for name in (*r.counters, KVM_COUNTERS.get(c, "")) if name in there}
        said: list[Hashable] = [
            self.ground.says(asked, isa, calls=calls, timed=timed), p.hedeleg & asked.traps, p.hideleg, p.nacl,
            names - _NARROW, names & _OF_EVENTS & {_extension(name) for name in isa},
            _WORD_STORE in p.mmio.instructions, frozenset(counters), *((c, _plain_rule(r)) for c, r in rules),
        ]  # fmt: skip
        if asked.own:
            said.append(names & _OF_EXITS)
        if asked.killed:
            said.append(names & _OF_LOGS)
        if given:
            said += [_plain(p.mmio), names & _OF_ACCESSES]
        if emulates:
            said += [_plain(p.csrs), names & _OF_INSTRUCTIONS]
        if timed:
            said += [measured_version(p.release), names & _OF_INTERRUPTS]
        if isa & _COUNTERS or emulates or calls:
            said.append(p.hcounteren)
        if calls:
            said += [_plain((p.sbi, p.sbi_version, p.fwft, p.release)), names & _OF_CALLS]
        elif emulates:  # the counters of the SBI's PMU are CSRs
            said += [_plain(tuple(rule for rule in p.sbi if rule.name == "PMU"))]
        return tuple(said)


_names_of: dict[int, tuple[Policy, frozenset[str]]] = {}  # by the policy's id, which is its own while it is here


def _names(policy: Policy) -> frozenset[str]:
    """Return the names of all features, bugs and extensions that a policy has."""
    if policy_ := _names_of.get(id(policy)):
        return policy_[1]
    known = {_extension(name) for name, since in SINCE.items() if policy.knows(name, since)}
    names = frozenset(known | {f.name for f in policy.features} | {b.name for b in policy.bugs})
    _names_of[id(policy)] = policy, names
    return names


_numbers: dict[Hashable, int] = {}


def _number(answer: Hashable) -> int:
    """Return a number for an answer: comparing numbers is quick."""
    return _numbers.setdefault(answer, len(_numbers))


@lru_cache(maxsize=4096)
def _plain_rule(rule: CauseRule) -> Hashable:
    return _plain(rule)


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


class _Runs:
    """The runs of one probe on one hart: what was asked, and what each answer gave."""

    def __init__(self) -> None:
        self.runs: list[tuple[Facts, Asked, Known]] = []
        self._found: dict[Asked, dict[Hashable, Known]] = {}
        self._when = -1

    def find(self, facts: Facts, isa: tuple[str, ...]) -> Known | None:
        if self._when != len(_asked):  # more is asked for than before: some that were alike may differ
            self._found.clear()
            self._when = len(_asked)
            for other, asked, known in self.runs:
                self._found.setdefault(asked, {})[other.answers(asked, isa)] = known
        for asked, by_answer in self._found.items():
            known_ = by_answer.get(facts.answers(asked, isa))
            if known_ is not None:
                return known_
        return None

    def keep(self, facts: Facts, asked: Asked, known: Known, isa: tuple[str, ...]) -> None:
        self.runs.append((facts, asked, known))
        if self._when == len(_asked):
            self._found.setdefault(asked, {})[facts.answers(asked, isa)] = known


class Results:
    """What is known of the probes on each hart, on any firmware with any host-fwft, under any policy."""

    def __init__(self) -> None:
        self._runs: dict[tuple[str, str, str], _Runs] = {}
        self._grounds: dict[tuple[str, bool, str], Ground] = {}

    def ground(self, firmware: FirmwareModel, host_fwft: bool, isa: str, make: Callable[[], ProbeVm]) -> Ground:
        """Return the ground of probes; `make` makes a VM there, under the same policy each time."""
        key = firmware.name, host_fwft, isa
        if key not in self._grounds:
            self._grounds[key] = Ground.of(firmware, host_fwft, make())
        return self._grounds[key]

    def find(self, entry: Entry, facts: Facts) -> Known | None:
        """Return the result of a probe as it is under a policy, if it follows from what is known."""
        runs = self._runs.get((facts.isa, entry.event.id, entry.mode))
        known = None if runs is None else runs.find(facts, entry.event.isa)
        if known is None or not known.findings:
            return known
        return Known(known.asked, tuple(facts.said_of(finding) for finding in known.findings), known.raised)

    def keep(self, entry: Entry, facts: Facts, known: Known) -> None:
        """Keep the result of a run that got to its event."""
        if known.asked is not None:
            runs = self._runs.setdefault((facts.isa, entry.event.id, entry.mode), _Runs())
            runs.keep(facts, known.asked, known, entry.event.isa)

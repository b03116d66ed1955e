"""What a policy file may say, and what a resolved policy is.

A file holds rules. A rule of a versioned family says since and until (inclusive) which version it
holds; resolving a version picks exactly one rule for each cause. A plain file has no versions.
"""

from __future__ import annotations

import enum
from operator import attrgetter
from typing import Any, Literal

import msgspec

from trapline.lang.given import near, short, whole
from trapline.policies.names import (
    BUG_NAMES,
    FEATURE_NAMES,
    BugName,
    Emulator,
    FeatureName,
    FirmwareEventName,
    FwftName,
    MmioInstruction,
    NaclFeature,
    NestedBugName,
    NestedMode,
    Requirement,
    SbiMode,
    TracepointName,
    known,
)

_NAME = attrgetter("name")


class PolicyError(ValueError):
    """A policy that cannot be used; the message names the bad value."""


class Action(enum.StrEnum):
    """What HS-mode does with a trap of the guest that reaches it."""

    REDIRECT = "redirect"  # software entry into VS-mode at vstvec
    MAP = "map"  # map the page of a memory slot into the G-stage
    MMIO = "mmio"  # decode the access and give it to a device
    SBI = "sbi"  # serve the call
    EMULATE = "emulate"  # decode a virtual instruction
    DEBUG = "debug"  # KVM_EXIT_DEBUG
    EXIT = "exit"  # KVM_EXIT_UNKNOWN to the VMM, without an error
    KILL = "kill"  # KVM_RUN fails with an errno


class Default(enum.StrEnum):
    """What happens to a cause without a rule; also what a `[rest]` rule may do."""

    REDIRECT = "redirect"
    EXIT = "exit"
    KILL = "kill"


class Refusal(enum.StrEnum):
    """What becomes of an access that cannot be done."""

    KILL = "kill"
    REDIRECT = "redirect"  # the guest gets an access fault, as from a bus


class Implicit(enum.StrEnum):
    """What becomes of an access by the guest's page table walk outside the slots."""

    ACCESS = "access"  # taken for one of the instruction that made the hart walk
    KILL = "kill"
    REDIRECT = "redirect"  # the guest gets an access fault


class Condition(enum.StrEnum):
    """A state of the vCPU without which a rule's action is a kill."""

    CFI = "henvcfg-cfi"  # henvcfg.LPE or henvcfg.SSE is set


class Ranged(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Fields of every rule: the versions for which it holds, and who says so (policies.versions)."""

    since: str | tuple[str, ...] = ""  # the release that brought it, with the point releases that got it too
    until: str = ""  # the last release that has it
    fixed: tuple[str, ...] = ()  # or the releases that no longer have it, one for each series
    source: str = ""


class CauseRule(Ranged, frozen=True, kw_only=True):
    """One cause: whether it is delegated, and what HS-mode does when it arrives there all the same."""

    action: Action
    delegate: bool | None = None  # the bit in hedeleg; unsaid: as inherited, else clear
    spv: bool = True  # the action needs hstatus.SPV = 1 (the trap came from the guest); else kill
    errno: int = 14  # of a kill; also when `spv` or `condition` fails
    condition: Condition | None = None
    if_debug: Action | None = None  # while KVM_SET_GUEST_DEBUG is on
    debug_undelegates: bool = False  # KVM_SET_GUEST_DEBUG takes the hedeleg bit back
    counters: tuple[str, ...] = ()  # statistics moved when the exit is handled, in order
    firmware_event: FirmwareEventName | Literal[""] = ""  # SBI PMU firmware event that the guest may count
    without_slot: Action | None = None  # guest page faults outside every memory slot
    without_slot_as: str = ""  # the cause that the guest sees if that is a redirect
    without_slot_errno: int = 95
    without_device: Refusal | None = None  # MMIO where the VMM has no device; unsaid: reads are 0, writes are lost
    function: str = ""  # "FILE.py:NAME" of an action in the Python subset, in the place of `action` (kvm.actions)
    note: str = ""


class Rest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One rule for every cause that the file does not name; of what it extends only the rows in `keep` stay."""

    action: Default
    keep: tuple[str, ...] = ()
    spv: bool = True
    errno: int = 14
    counters: tuple[str, ...] = ()
    source: str = ""
    note: str = ""


class Word(Ranged, frozen=True, kw_only=True):
    """A CSR value."""

    value: int


class Counter(Ranged, frozen=True, kw_only=True):
    """A statistics counter, in the hypervisor's own order."""

    name: str
    note: str = ""


class Named(Ranged, frozen=True, kw_only=True):
    """A remark, and what it is about."""

    name: str
    note: str = ""


class Bug(Ranged, frozen=True, kw_only=True):
    """Something that the hypervisor does wrong."""

    name: BugName
    note: str = ""


class NestedBug(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One of them that concerns nested guests, and the [nested] modes that have it."""

    name: NestedBugName
    modes: tuple[NestedMode, ...]
    source: str
    note: str


class NestedBugs(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The file nested.toml."""

    bug: tuple[NestedBug, ...]


class Feature(Ranged, frozen=True, kw_only=True):
    """Something that the hypervisor can do."""

    name: FeatureName
    note: str = ""


class Fwft(Ranged, frozen=True, kw_only=True):
    """A firmware feature that a guest may set."""

    name: FwftName
    note: str = ""


class Tracepoint(Ranged, frozen=True, kw_only=True):
    """A tracepoint that the hypervisor has."""

    name: TracepointName
    note: str = ""


class CsrRule(Ranged, frozen=True, kw_only=True):
    """CSR numbers first..last, trapped as virtual instruction, and who emulates them."""

    name: str
    first: int
    last: int
    emulate: Emulator
    requires: Requirement = ""  # the guest gets an illegal instruction if it does not have this extension


class SbiRule(Ranged, frozen=True, kw_only=True):
    """SBI extension identifiers first..last offered to the guest."""

    name: str
    first: int
    last: int
    mode: SbiMode
    enabled: bool = True


class Mmio(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which accesses the MMIO decoder understands, and what becomes of others.

    `implicit` is about page tables of the guest's that lie outside its memory.
    """

    instructions: tuple[MmioInstruction, ...]
    unsupported: Refusal = Refusal.KILL
    misaligned: Refusal = Refusal.KILL
    implicit: Implicit = Implicit.ACCESS
    unsupported_errno: int = 95
    misaligned_errno: int = 5
    source: str = ""


class Nested(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Whether a guest may be a hypervisor itself (docs/nested.md)."""

    mode: NestedMode = "ideal"
    nacl: tuple[NaclFeature, ...] = ()  # features of SBI NACL; none: the guest hypervisor does not have the extension


class PolicyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The TOML file."""

    default: Default | None = None
    rest: Rest | None = None
    name: str = ""
    family: str = ""
    versions: tuple[str, ...] = ()
    description: str = ""
    extends: str = ""
    default_errno: int = 14
    hedeleg: int | tuple[str, ...] | None = None
    hideleg: int | None = None
    hcounteren: int | tuple[Word, ...] | None = None
    cause: dict[str, CauseRule | tuple[CauseRule, ...]] = {}
    counter: tuple[Counter, ...] = ()
    bug: tuple[Bug, ...] = ()
    without_bug: tuple[BugName | Literal["all"], ...] = ()
    tracepoint: tuple[Tracepoint, ...] = ()
    fwft: tuple[Fwft, ...] = ()
    feature: tuple[Feature, ...] = ()
    without_feature: tuple[FeatureName, ...] = ()
    sbi_version: int | tuple[Word, ...] | None = None
    csr: tuple[CsrRule, ...] = ()
    sbi: tuple[SbiRule, ...] = ()
    mmio: Mmio | None = None
    nested: Nested | None = None
    note: tuple[Named, ...] = ()


def _cause(cause: int | str) -> int:
    if not isinstance(cause, str):
        return whole("cause", cause, most=63)
    from trapline.policies.causes import NUMBERS

    if cause not in NUMBERS:
        raise ValueError(f"no cause is called {short(cause)}{near(cause, NUMBERS)}")
    return NUMBERS[cause]


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """A resolved policy: one answer for every cause, no versions left."""

    name: str
    family: str = ""
    version: str = ""
    extends: str = ""  # the policy or file that it stands on
    description: str = ""
    default: CauseRule
    hedeleg: int
    hideleg: int
    hcounteren: int
    debug_undelegates: int
    causes: dict[int, CauseRule]
    counters: tuple[Counter, ...]
    bugs: tuple[Bug, ...]
    tracepoints: tuple[Tracepoint, ...]
    fwft: tuple[Fwft, ...]
    features: tuple[Feature, ...]
    sbi_version: int
    csrs: tuple[CsrRule, ...]
    sbi: tuple[SbiRule, ...]
    mmio: Mmio
    nested: NestedMode = "off"
    nacl: tuple[NaclFeature, ...] = ()
    notes: tuple[Named, ...]

    @property
    def release(self) -> str:
        """The release of Linux that this is or extends; nothing for other hypervisors."""
        return self.version if self.family == "linux" else ""

    def rule(self, cause: int | str) -> CauseRule:
        """Return what is done with `cause`, 0 to 63 or a name, in HS-mode (ValueError, TypeError for others)."""
        return self.causes.get(_cause(cause), self.default)

    def delegates(self, cause: int | str) -> bool:
        """Whether hedeleg has the bit of `cause`, 0 to 63 or a name (ValueError, TypeError for others)."""
        return bool(self.hedeleg >> _cause(cause) & 1)

    def has_bug(self, name: BugName) -> bool:
        """Whether the hypervisor has the known bug `name`; ValueError if no hypervisor has one of that name."""
        return name in map(_NAME, self.bugs) or not known("bug", name, BUG_NAMES)

    def has_feature(self, name: FeatureName) -> bool:
        """Whether the hypervisor can do `name`; ValueError if no feature has that name."""
        return name in map(_NAME, self.features) or not known("feature", name, FEATURE_NAMES)

    def knows(self, name: str, since: str) -> bool:
        """Whether the hypervisor knows the ISA extension `name`: a Linux that is older than `since` does not."""
        from trapline.policies.versions import parse

        return not self.release or parse(since) <= parse(self.release)

    def csr_rule(self, number: int) -> CsrRule | None:
        """Return who emulates CSR `number`, 0 to 0xfff, if anyone (ValueError, TypeError for others)."""
        whole("number", number, most=0xFFF)
        return next((r for r in self.csrs if r.first <= number <= r.last), None)

    def sbi_rule(self, extension: int) -> SbiRule | None:
        """Return how SBI extension `extension` is offered, if it is; it is a number of 64 bits, as in a7."""
        whole("extension", extension)
        return next((r for r in self.sbi if r.first <= extension <= r.last), None)

    def __repr__(self) -> str:
        rest = f"{len(self.causes)} rules, {self.default.action.value} for the rest"
        return f"<Policy {self.name}: hedeleg {self.hedeleg:#x}, {rest}>"

    def _repr_html_(self) -> str:
        from trapline.privilege.causes import cause_name
        from trapline.shown import html_table

        bits = (cause for cause in range(64) if self.delegates(cause))
        rows = [
            (cause, cause_name(cause), "hedeleg" if self.delegates(cause) else "", self.rule(cause).action.value)
            for cause in sorted({*self.causes, *bits})
        ]
        return html_table(("cause", "name", "delegated", "in HS"), rows, repr(self).strip("<>"))

    def as_data(self) -> dict[str, Any]:
        data: dict[str, Any] = msgspec.to_builtins(self, str_keys=True)
        return data

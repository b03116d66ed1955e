"""From a policy file, and what it extends, to a resolved policy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from msgspec.structs import replace

from trapline.policies import causes
from trapline.policies.schema import (
    Action,
    CauseRule,
    CsrRule,
    Mmio,
    Named,
    Policy,
    PolicyError,
    PolicyFile,
    Ranged,
    SbiRule,
    Word,
)
from trapline.policies.versions import holding, parse, the_one

N = TypeVar("N", bound=Ranged)

_NO_MMIO = Mmio(instructions=())
_EMULATORS = ("counter", "user", "aia", "illegal")
_SBI_MODES = ("kernel", "forward", "event")
_WITHOUT_SLOT = (Action.REDIRECT, Action.MMIO, Action.KILL, Action.EXIT)
_GUEST_PAGE_FAULTS = (20, 21, 23)


def resolve(file: PolicyFile, name: str, version: str, base: Policy | None) -> Policy:
    """Return the policy that `file` describes for `version`, on top of `base`."""
    if file.versions and version not in file.versions:
        known = f"{file.versions[0]} to {file.versions[-1]}"
        raise PolicyError(f"unknown version {version!r} of {file.family} (known: {known})")
    rules = _cause_rules(file, version)
    hedeleg = _hedeleg(file, rules, base)
    for cause, rule in (base.causes if base else {}).items():
        rules.setdefault(cause, rule)
    rules = {c: replace(r, delegate=bool(hedeleg >> c & 1)) for c, r in sorted(rules.items())}
    return Policy(
        name=name,
        family=file.family or (base.family if base else ""),
        version=version or (base.version if base and not file.family else ""),
        description=file.description or (base.description if base else ""),
        default=_default(file),
        hedeleg=hedeleg,
        hideleg=_hideleg(file, base),
        hcounteren=_word("hcounteren", file.hcounteren, version, base.hcounteren if base else 0),
        debug_undelegates=sum(1 << c for c, r in rules.items() if r.debug_undelegates),
        causes=rules,
        counters=_merge(base.counters if base else (), holding(file.counter, version)),
        bugs=_bugs(file, version, base),
        tracepoints=_merge(base.tracepoints if base else (), holding(file.tracepoint, version)),
        fwft=_merge(base.fwft if base else (), holding(file.fwft, version)),
        features=_merge(base.features if base else (), holding(file.feature, version)),
        sbi_version=_word("sbi_version", file.sbi_version, version, base.sbi_version if base else 0),
        csrs=_csrs(file, version, base),
        sbi=_sbi(file, version, base),
        mmio=file.mmio or (base.mmio if base else _NO_MMIO),
        notes=(base.notes if base else ()) + holding(file.note, version),
    )


def check_ranges(file: PolicyFile) -> None:
    """Check every version that a file names, whether or not it is the one that is asked for."""
    tables: list[Iterable[Ranged]] = [file.counter, file.bug, file.tracepoint, file.fwft, file.csr, file.sbi, file.note]
    tables.append(file.feature)
    tables += [r if isinstance(r, tuple) else (r,) for r in file.cause.values()]
    tables += [words for words in (file.hcounteren, file.sbi_version) if isinstance(words, tuple)]
    for rule in (r for table in tables for r in table):
        for version in (rule.since, rule.until):
            if version and not file.versions:
                raise PolicyError(f"version {version!r} in a policy without versions")
            if version and version not in file.versions:
                raise PolicyError(f"version {version!r} is not one of this family's versions")
        if rule.since and rule.until and parse(rule.since) > parse(rule.until):
            raise PolicyError(f"since {rule.since!r} comes after until {rule.until!r}")


def _cause_rules(file: PolicyFile, version: str) -> dict[int, CauseRule]:
    rules: dict[int, CauseRule] = {}
    for text, given in file.cause.items():
        cause = causes.number(text)
        if cause in rules:
            raise PolicyError(f"cause {causes.name(cause)} is given twice (as {text!r} too)")
        rule = the_one(f"cause {text!r}", given if isinstance(given, tuple) else (given,), version)
        if rule is None:
            raise PolicyError(f"cause {text!r}: no rule holds for version {version!r}")
        _check_rule(text, cause, rule)
        rules[cause] = rule
    return rules


def _check_rule(text: str, cause: int, rule: CauseRule) -> None:
    if rule.delegate:
        causes.hedeleg_mask(1 << cause)
    if rule.action is Action.MAP and cause not in _GUEST_PAGE_FAULTS:
        raise PolicyError(f"cause {text!r}: action 'map' is for guest page faults only")
    if rule.action is Action.MMIO and cause not in (21, 23):
        raise PolicyError(f"cause {text!r}: action 'mmio' is for load and store guest page faults only")
    if rule.action is Action.EMULATE and cause != 22:
        raise PolicyError(f"cause {text!r}: action 'emulate' is for virtual-inst-fault only")
    if rule.action is Action.SBI and cause != 10:
        raise PolicyError(f"cause {text!r}: action 'sbi' is for supervisor-syscall only")
    if rule.without_slot is not None and rule.without_slot not in _WITHOUT_SLOT:
        raise PolicyError(f"cause {text!r}: without_slot {rule.without_slot.value!r} makes no sense")
    if rule.without_slot is Action.MMIO and cause == 20:
        raise PolicyError(f"cause {text!r}: an instruction fetch cannot be MMIO")
    if rule.without_slot_as:
        causes.number(rule.without_slot_as)
    for errno in (rule.errno, rule.without_slot_errno):
        if not 0 < errno < 4096:
            raise PolicyError(f"cause {text!r}: errno {errno} is not in 1..4095")


def _hedeleg(file: PolicyFile, rules: dict[int, CauseRule], base: Policy | None) -> int:
    mask = base.hedeleg if base else 0
    if file.hedeleg is not None:
        mask = causes.hedeleg_mask(file.hedeleg)
    for cause, rule in rules.items():
        if rule.delegate is None:
            continue
        if file.hedeleg is not None and rule.delegate != bool(mask >> cause & 1):
            raise PolicyError(
                f"hedeleg {mask:#x} and delegate = {str(rule.delegate).lower()} of cause "
                f"{causes.name(cause)!r} contradict each other"
            )
        mask = mask | 1 << cause if rule.delegate else mask & ~(1 << cause)
    return mask


def _default(file: PolicyFile) -> CauseRule:
    return CauseRule(action=Action(file.default.value), errno=file.default_errno, source="the policy's default")


def _hideleg(file: PolicyFile, base: Policy | None) -> int:
    value = file.hideleg if file.hideleg is not None else base.hideleg if base else 0
    if value & ~0x444:
        raise PolicyError(f"hideleg {value:#x}: only bits 2, 6 and 10 can be delegated to VS-mode")
    return value


def _word(what: str, given: int | tuple[Word, ...] | None, version: str, inherited: int) -> int:
    if isinstance(given, tuple):
        rule = the_one(what, given, version)
        given = rule.value if rule else None
    value = given if given is not None else inherited
    if not 0 <= value < 1 << 32:
        raise PolicyError(f"{what} {value:#x} is not a 32-bit value")
    return value


def _merge(old: tuple[N, ...], new: tuple[N, ...]) -> tuple[N, ...]:
    """Later entries replace earlier ones of the same name, in place."""
    by_name = {e.name: e for e in old}  # type: ignore[attr-defined]
    by_name.update({e.name: e for e in new})  # type: ignore[attr-defined]
    return tuple(by_name.values())


def _bugs(file: PolicyFile, version: str, base: Policy | None) -> tuple[Named, ...]:
    bugs = _merge(base.bugs if base else (), holding(file.bug, version))
    for gone in file.without_bug:
        if all(b.name != gone for b in bugs):
            raise PolicyError(
                f"without_bug: there is no bug {gone!r} here ({', '.join(b.name for b in bugs) or 'none'})"
            )
    return tuple(b for b in bugs if b.name not in file.without_bug)


def _csrs(file: PolicyFile, version: str, base: Policy | None) -> tuple[CsrRule, ...]:
    rules = _merge(base.csrs if base else (), holding(file.csr, version))
    for rule in rules:
        if rule.emulate not in _EMULATORS:
            raise PolicyError(f"csr {rule.name!r}: emulate {rule.emulate!r} is not one of {', '.join(_EMULATORS)}")
        if not 0 <= rule.first <= rule.last < 4096:
            raise PolicyError(f"csr {rule.name!r}: {rule.first:#x} to {rule.last:#x} is not a range of CSR numbers")
    return rules


def _sbi(file: PolicyFile, version: str, base: Policy | None) -> tuple[SbiRule, ...]:
    rules = _merge(base.sbi if base else (), holding(file.sbi, version))
    for rule in rules:
        if rule.mode not in _SBI_MODES:
            raise PolicyError(f"sbi {rule.name!r}: mode {rule.mode!r} is not one of {', '.join(_SBI_MODES)}")
        if not 0 <= rule.first <= rule.last < 1 << 32:
            raise PolicyError(f"sbi {rule.name!r}: {rule.first:#x} to {rule.last:#x} is not a range of extensions")
    return rules

"""From a policy file, and what it extends, to a resolved policy."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from trapline.policies import causes
from trapline.policies.names import KVM_COUNTERS, SBI_NAMES, nearest, shown
from trapline.policies.schema import (
    Action,
    Bug,
    CauseRule,
    CsrRule,
    Feature,
    Mmio,
    NestedBug,
    NestedBugs,
    Policy,
    PolicyError,
    PolicyFile,
    Ranged,
    SbiRule,
    Word,
)
from trapline.policies.versions import holding, parse, reached, releases, series_of, split_key, the_one
from trapline.privilege.causes import (
    ECALL_VS,
    GUEST_PAGE_FAULTS,
    INST_GUEST_PAGE_FAULT,
    LOAD_GUEST_PAGE_FAULT,
    STORE_GUEST_PAGE_FAULT,
    VIRTUAL_INST,
)

N = TypeVar("N", bound=Ranged)

_NO_MMIO = Mmio(instructions=())
_WITHOUT_SLOT = (Action.REDIRECT, Action.MMIO, Action.KILL, Action.EXIT)
_IF_DEBUG = (Action.REDIRECT, Action.DEBUG, Action.KILL, Action.EXIT)
_COUNTER = re.compile(r"[a-z][a-z0-9_]{0,46}")  # with its zero byte 48 bytes in the statistics file


def resolve(file: PolicyFile, name: str, version: str, base: Policy | None) -> Policy:
    """Return the policy that `file` describes for `version`, on top of `base`."""
    if file.versions and version not in file.versions and series_of(version) not in file.versions:
        known = f"{file.versions[0]} to {file.versions[-1]}"
        raise PolicyError(f"unknown version {version!r} of {file.family} (known: {known})")
    if not name.isprintable() or not 0 < len(name) <= 64:
        raise PolicyError(f"name {shown(name)}: expected up to 64 characters that can be printed")
    rules = _cause_rules(file, version)
    hedeleg = _hedeleg(file, rules, base)
    for cause, rule in _inherited(file, base).items():
        rules.setdefault(cause, rule)
    rules = {c: replace(r, delegate=bool(hedeleg >> c & 1)) for c, r in sorted(rules.items())}
    policy = Policy(
        name=name,
        family=file.family or (base.family if base else ""),
        version=version or (base.version if base and not file.family else ""),
        extends=file.extends,
        description=file.description or (base.description if base else ""),
        default=_default(file),
        hedeleg=hedeleg,
        hideleg=_hideleg(file, base),
        hcounteren=_word("hcounteren", file.hcounteren, version, base.hcounteren if base else 0),
        debug_undelegates=sum(1 << c for c, r in rules.items() if r.debug_undelegates),
        causes=rules,
        counters=_merge("counter", base.counters if base else (), holding(file.counter, version)),
        bugs=_bugs(file, version, base),
        tracepoints=_merge("tracepoint", base.tracepoints if base else (), holding(file.tracepoint, version)),
        fwft=_merge("fwft", base.fwft if base else (), holding(file.fwft, version)),
        features=_features(file, version, base),
        sbi_version=_word("sbi_version", file.sbi_version, version, base.sbi_version if base else 0),
        csrs=_csrs(file, version, base),
        sbi=_sbi(file, version, base),
        mmio=_mmio(file, base),
        nested=file.nested.mode if file.nested else (base.nested if base else "off"),
        nacl=file.nested.nacl if file.nested else (base.nacl if base else ()),
        notes=(base.notes if base else ()) + holding(file.note, version),
    )
    _check_counters(policy, file)
    return policy


def check_ranges(file: PolicyFile) -> None:
    """Check every version that a file names, whether or not it is the one that is asked for."""
    tables: list[Iterable[Ranged]] = [file.counter, file.bug, file.tracepoint, file.fwft, file.csr, file.sbi, file.note]
    tables.append(file.feature)
    tables += [_several(r) for r in file.cause.values()]
    tables += [words for words in (file.hcounteren, file.sbi_version) if isinstance(words, tuple)]
    for rule in (r for table in tables for r in table):
        since, until = releases(rule.since), [rule.until] if rule.until else []
        for version in (*since, *until, *rule.fixed):
            if not file.versions:
                raise PolicyError(f"version {version!r} in a policy without versions")
            if version not in file.versions and series_of(version) not in file.versions:
                raise PolicyError(f"version {version!r} is not one of this family's versions")
            parse(version)
        if until and since and not reached([min(since, key=split_key)], until[0]):
            raise PolicyError(f"since {rule.since!r} comes after until {rule.until!r}")
        if until and rule.fixed:
            raise PolicyError(f"until {rule.until!r} and fixed {', '.join(rule.fixed)}: one of them says it")


def _cause_rules(file: PolicyFile, version: str) -> dict[int, CauseRule]:
    rules: dict[int, CauseRule] = {}
    for text, given in file.cause.items():
        cause = causes.number(text)
        if cause in rules:
            raise PolicyError(f"cause {causes.name(cause)} is given twice (as {text!r} too)")
        rule = the_one(f"cause {text!r}", _several(given), version)
        if rule is None:
            raise PolicyError(f"cause {text!r}: no rule holds for version {version!r}")
        _check_rule(text, cause, rule)
        rules[cause] = rule
    return rules


def _several(given: CauseRule | tuple[CauseRule, ...]) -> tuple[CauseRule, ...]:
    return given if isinstance(given, tuple) else (given,)


def _check_rule(text: str, cause: int, rule: CauseRule) -> None:
    if rule.delegate:
        causes.hedeleg_mask(1 << cause)
    if rule.action is Action.MAP and cause not in GUEST_PAGE_FAULTS:
        raise PolicyError(f"cause {text!r}: action 'map' is for guest page faults only")
    if rule.action is Action.MMIO and cause not in (LOAD_GUEST_PAGE_FAULT, STORE_GUEST_PAGE_FAULT):
        raise PolicyError(f"cause {text!r}: action 'mmio' is for load and store guest page faults only")
    if rule.action is Action.EMULATE and cause != VIRTUAL_INST:
        raise PolicyError(f"cause {text!r}: action 'emulate' is for virtual-inst-fault only")
    if rule.action is Action.SBI and cause != ECALL_VS:
        raise PolicyError(f"cause {text!r}: action 'sbi' is for supervisor-syscall only")
    if rule.without_slot is not None and rule.without_slot not in _WITHOUT_SLOT:
        raise PolicyError(f"cause {text!r}: without_slot {rule.without_slot.value!r} makes no sense")
    if rule.without_slot is Action.MMIO and cause == INST_GUEST_PAGE_FAULT:
        raise PolicyError(f"cause {text!r}: an instruction fetch cannot be MMIO")
    if rule.without_slot_as:
        causes.number(rule.without_slot_as)
    if rule.without_device is not None and rule.without_slot is not Action.MMIO and rule.action is not Action.MMIO:
        raise PolicyError(f"cause {text!r}: without_device goes with action or without_slot 'mmio'")
    if rule.if_debug is not None and rule.if_debug not in _IF_DEBUG:
        raise PolicyError(f"cause {text!r}: if_debug {rule.if_debug.value!r} makes no sense")
    for errno in (rule.errno, rule.without_slot_errno):
        _check_errno(f"cause {text!r}", errno)


def _check_errno(where: str, errno: int) -> None:
    if not 0 < errno < 4096:
        raise PolicyError(f"{where}: errno {errno} is not in 1..4095")


def _inherited(file: PolicyFile, base: Policy | None) -> dict[int, CauseRule]:
    """Return the rows of what the file extends that hold for causes which it does not name."""
    rows = base.causes if base else {}
    if file.rest is None:
        return rows
    kept: dict[int, CauseRule] = {}
    for text in file.rest.keep:
        cause = causes.number(text)
        if cause not in rows:
            raise PolicyError(f"rest: keep {text!r}: what this file extends has no row of it")
        kept[cause] = rows[cause]
    return kept


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
    """The rule of all causes without a row: `[rest]`, or `default` in short."""
    rest = file.rest
    if rest is not None:
        if file.default is not None and file.default is not rest.action:
            raise PolicyError(
                f"default {file.default.value!r} and rest: action {rest.action.value!r} contradict each other"
            )
        _check_errno("rest", rest.errno)
        return CauseRule(
            action=Action(rest.action.value),
            errno=rest.errno,
            spv=rest.spv,
            counters=rest.counters,
            source=rest.source,
            note=rest.note,
        )
    assert file.default is not None
    _check_errno("default_errno", file.default_errno)
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


def _merge(kind: str, old: tuple[N, ...], new: tuple[N, ...]) -> tuple[N, ...]:
    """Later entries replace those of the same name in what is extended, in place; a file names each once."""
    by_name: dict[str, N] = {e.name: e for e in old}  # type: ignore[attr-defined]
    given = [str(e.name) for e in new]  # type: ignore[attr-defined]
    for name in given:
        if given.count(name) > 1:
            raise PolicyError(f"{kind} {shown(name)} is given twice")
    by_name.update(zip(given, new, strict=True))
    return tuple(by_name.values())


def _without(kind: str, entries: tuple[N, ...], gone: tuple[str, ...]) -> tuple[N, ...]:
    names: list[str] = [e.name for e in entries]  # type: ignore[attr-defined]
    if "all" in gone:
        return ()
    for name in gone:
        if name not in names:
            raise PolicyError(f"without_{kind}: there is no {kind} {name!r} here ({', '.join(names) or 'none'})")
    return tuple(e for e, name in zip(entries, names, strict=True) if name not in gone)


def _bugs(file: PolicyFile, version: str, base: Policy | None) -> tuple[Bug, ...]:
    """What the base has, with those of the [nested] mode that the file names instead of the base's, and its own."""
    before = base.bugs if base else ()
    if file.nested is not None:
        nested = nested_bugs()
        others = tuple(b for b in before if b.name not in {n.name for n in nested})
        before = others + tuple(
            Bug(name=n.name, source=n.source, note=n.note) for n in nested if file.nested.mode in n.modes
        )
    return _without("bug", _merge("bug", before, holding(file.bug, version)), file.without_bug)


@cache
def nested_bugs() -> tuple[NestedBug, ...]:
    """Return what is known to be wrong with nested guests, and with which [nested] modes."""
    toml = Path(__file__).with_name("nested.toml").read_text(encoding="utf-8")
    return msgspec.toml.decode(toml, type=NestedBugs).bug


def _features(file: PolicyFile, version: str, base: Policy | None) -> tuple[Feature, ...]:
    features = _merge("feature", base.features if base else (), holding(file.feature, version))
    return _without("feature", features, file.without_feature)


def _check_counters(policy: Policy, file: PolicyFile) -> None:
    """Every counter that a rule moves is declared, and every one that the file declares is moved by someone."""
    declared = [c.name for c in policy.counters]
    rules = [*((f"cause {causes.name(c)!r}", r) for c, r in policy.causes.items()), ("rest", policy.default)]
    counted = {name for _, rule in rules for name in rule.counters}
    counted |= {name for given in file.cause.values() for rule in _several(given) for name in rule.counters}
    for where, rule in rules:
        for name in rule.counters:
            if name not in declared:
                raise PolicyError(f"{where}: no [[counter]] is called {shown(name)} {nearest(name, declared)}")
    for name in (c.name for c in file.counter):
        if not _COUNTER.fullmatch(name):
            raise PolicyError(f"counter {shown(name)}: expected up to 47 of a-z, 0-9 and _")
        if name not in counted and name not in KVM_COUNTERS:
            hint = nearest(name, [*KVM_COUNTERS, *sorted(counted)])
            raise PolicyError(
                f"counter {shown(name)}: neither KVM nor a rule moves it {hint if '?' in hint else ''}".rstrip()
            )


def _csrs(file: PolicyFile, version: str, base: Policy | None) -> tuple[CsrRule, ...]:
    rules = _merge("csr", base.csrs if base else (), holding(file.csr, version))
    for rule in rules:
        if not 0 <= rule.first <= rule.last < 4096:
            raise PolicyError(f"csr {rule.name!r}: {rule.first:#x} to {rule.last:#x} is not a range of CSR numbers")
    return rules


def _sbi(file: PolicyFile, version: str, base: Policy | None) -> tuple[SbiRule, ...]:
    rules = _merge("sbi", base.sbi if base else (), holding(file.sbi, version))
    for rule in rules:
        if rule.mode != "forward" and rule.name not in SBI_NAMES:
            hint = nearest(rule.name, SBI_NAMES)
            raise PolicyError(
                f"sbi {shown(rule.name)}: mode {rule.mode!r}, but the kernel serves no such extension {hint}"
            )
        if not 0 <= rule.first <= rule.last < 1 << 32:
            raise PolicyError(f"sbi {shown(rule.name)}: {rule.first:#x} to {rule.last:#x} is not a range of extensions")
    return rules


def _mmio(file: PolicyFile, base: Policy | None) -> Mmio:
    mmio = file.mmio or (base.mmio if base else _NO_MMIO)
    for errno in (mmio.unsupported_errno, mmio.misaligned_errno):
        _check_errno("mmio", errno)
    return mmio

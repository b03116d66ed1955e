"""A probe is not run again where an earlier run under another policy says what it gives."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from trapline.firmware.models import FirmwareModel
from trapline.lab.audit.audit import Job, run_job
from trapline.lab.audit.same import Facts, Ground, Results
from trapline.lab.firmware_names import ALL
from trapline.lab.probe.events import EVENTS
from trapline.lab.probe.image import Entry
from trapline.lab.probe.probe import Observation, ProbeVm
from trapline.lab.settings import Settings
from trapline.policies import Action, load_policy, policy_names
from trapline.policies.schema import Bug, Policy
from trapline.privilege.isa_string import DEFAULT_ISA

MODEL: FirmwareModel = ALL["opensbi-1.6"]


def job(policy: Policy, **more: Any) -> Job:
    """A configuration with this policy."""
    return Job(Settings(policy, MODEL.name), MODEL, **more)


@pytest.mark.parametrize(
    "names",
    [
        ("linux-6.13", "linux-6.14", "linux-7.1", "linux-7.2"),
        ("linux-6.2", "xvisor", "proposed"),
    ],
)
def test_what_is_known_changes_nothing(names: tuple[str, ...]) -> None:
    """Every probe of several policies gives, one after the other with what is known, what each alone gives."""
    results = Results()
    jobs = [job(load_policy(name)) for name in names]
    assert [run_job(j, results) for j in jobs] == [run_job(j) for j in jobs]


def test_equal_policies_run_once() -> None:
    """A policy that differs in its name and its words alone needs no VM, and its findings bear its name."""
    results, policy = Results(), load_policy("linux-6.12")
    only = frozenset({"mmio-c-lbu", "ecall"})
    found, executed, raises = run_job(job(policy, only=only), results)
    renamed = job(replace(policy, name="mine", description="words"), only=only, engine="there is none")
    again = run_job(renamed, results)
    assert found
    assert {f.policy for f in again[0]} == {"mine"}
    assert (len(again[0]), *again[1:]) == (len(found), executed, raises)


def test_other_rules_are_executed() -> None:
    """A rule, a bit of hedeleg or a bug that is another gives what a run without other policies gives."""
    policy, results = load_policy("linux-7.2"), Results()
    rule = replace(policy.rule(21), without_slot=Action.KILL)
    others = [
        replace(policy, causes={**policy.causes, 21: rule}),
        replace(policy, hedeleg=policy.hedeleg & ~(1 << 8 | 1 << 12)),
        replace(policy, bugs=(*policy.bugs, Bug(name="redirect-keeps-privilege"))),
        replace(policy, counters=()),
    ]
    only = frozenset(e.id for e in EVENTS if e.cause in {2, 8, 12, 21})
    plain = run_job(job(policy, only=only), results)
    found = [run_job(job(other, only=only), results) for other in others]
    assert found == [run_job(job(other, only=only)) for other in others]
    assert found[0] != plain


def test_policies_with_code_or_nested_guests_share_nothing() -> None:
    """What a policy does by a function of its own, or for a guest hypervisor, is not said by its rules."""
    policy = load_policy("linux-7.2")
    function = replace(policy.rule(2), function="mine.py:act")
    ground = Ground(MODEL, False, False, b"", b"", 0)
    assert Facts(policy, DEFAULT_ISA, ground).can_share
    assert not Facts(replace(policy, causes={2: function}), DEFAULT_ISA, ground).can_share
    assert not Facts(replace(policy, nested="ideal"), DEFAULT_ISA, ground).can_share


def test_firmware_that_had_no_say_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every probe on several firmware gives what it gives there alone; those that never came to firmware run once."""
    ran: list[Entry] = []
    run = ProbeVm.run

    def counted(vm: ProbeVm, entry: Entry) -> Observation:
        ran.append(entry)
        return run(vm, entry)

    monkeypatch.setattr(ProbeVm, "run", counted)
    policy = load_policy("linux-7.2")
    only = frozenset({"mmio-c-lbu", "ecall", *(e.id for e in EVENTS if e.cause in {4, 12, 13, 22})})
    names = [("opensbi-1.1", False), ("opensbi-1.9", False), ("delegates-all", True), ("hard-wired", False)]
    jobs = [Job(Settings(policy, name, fwft), ALL[name], only=only) for name, fwft in (*names, ("opensbi-1.1", True))]
    alone = [run_job(j) for j in jobs]
    apart = len(ran)
    ran.clear()
    results = Results()
    assert [run_job(j, results) for j in jobs] == alone
    assert alone[-1] == ([], 0, {})
    assert len(ran) < apart * 3 // 4


def test_a_cause_that_firmware_found_itself_is_compared() -> None:
    """Where firmware meets a page fault in an access that it emulates, hedeleg of the page fault is compared."""
    only, results = frozenset({"misaligned-load-unmapped"}), Results()
    policy, model = load_policy("linux-7.2"), ALL["opensbi-1.1"]
    policies = (policy, replace(policy, name="other", hedeleg=policy.hedeleg & ~(1 << 13)))
    jobs = [Job(Settings(p, model.name), model, only=only) for p in policies]
    assert [run_job(j, results) for j in jobs] == [run_job(j) for j in jobs]


def test_hcounteren_is_compared_where_it_gates() -> None:
    """Every probe gives, with each of the low bits of hcounteren taken away and with all, what it gives there alone."""
    only, results = frozenset(e.id for e in EVENTS if {"zicntr", "zihpm", "sstc"} & set(e.isa)), Results()
    policy = load_policy("linux-7.2")
    values = (policy.hcounteren, *(policy.hcounteren & ~(1 << bit) for bit in range(4)), 0)
    jobs = [job(replace(policy, hcounteren=value), only=only) for value in values]
    assert [run_job(j, results) for j in jobs] == [run_job(j) for j in jobs]


def _one_thing_each() -> dict[str, tuple[Policy, FirmwareModel]]:
    """One policy on one firmware, and the same with one thing changed."""
    base = load_policy("linux-7.2")
    presets = [load_policy(name) for name in policy_names()]
    bugs = {bug.name: bug for p in presets for bug in p.bugs}
    features = {feature.name: feature for p in presets for feature in p.features}
    made = {name: (base, model) for name, model in ALL.items()}
    for name, bug in bugs.items():
        without = tuple(b for b in base.bugs if b.name != name)
        made[name] = replace(base, bugs=without if len(without) < len(base.bugs) else (*base.bugs, bug)), MODEL
    for feature_name, feature in features.items():
        fewer = tuple(f for f in base.features if f.name != feature_name)
        other = fewer if len(fewer) < len(base.features) else (*base.features, feature)
        made[feature_name] = replace(base, features=other), MODEL
    for number, mmio in enumerate(dict.fromkeys(p.mmio for p in presets)):
        made[f"mmio-{number}"] = replace(base, mmio=mmio), MODEL
    for version in ("5.17", "6.2", "6.9", "6.12"):
        made[version] = replace(base, version=version), MODEL
    made["hcounteren"] = replace(base, hcounteren=0), MODEL
    return {name: (replace(policy, name=name), model) for name, (policy, model) in made.items()}


@pytest.mark.slow
def test_no_change_of_one_thing_is_missed() -> None:
    """A bug, a feature, a release or a firmware that is another: every probe gives what it gives there alone."""
    results = Results()
    run_job(job(load_policy("linux-7.2")), results)
    for name, (policy, model) in _one_thing_each().items():
        changed = Job(Settings(policy, model.name), model)
        assert run_job(changed, results) == run_job(changed), name


def _changed(policy: Policy, others: list[Policy], rng: Random) -> Policy:
    """The policy with up to three things that are another one's, or not there."""
    for _ in range(rng.randrange(4)):
        other, cause = rng.choice(others), rng.randrange(24)
        choices: list[dict[str, Any]] = [
            {"causes": {**policy.causes, cause: other.rule(cause)}},
            {"hedeleg": policy.hedeleg ^ 1 << rng.choice([0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 13, 15, 18])},
            {"bugs": tuple(b for b in policy.bugs if rng.random() < 0.7)},
            {"features": tuple(f for f in policy.features if rng.random() < 0.7)},
            {"mmio": other.mmio},
            {"sbi": other.sbi, "sbi_version": other.sbi_version, "fwft": other.fwft},
            {"csrs": other.csrs},
            {"features": other.features, "bugs": other.bugs},
            {"family": other.family, "version": other.version},
            {"hcounteren": other.hcounteren, "hideleg": other.hideleg, "counters": other.counters},
        ]
        policy = replace(policy, **rng.choice(choices))
    return replace(policy, name=f"changed-{rng.randrange(10**9)}")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_no_policy_is_taken_for_another(seed: int) -> None:
    """Presets with parts of others, on any firmware: what is known gives what each gives alone."""
    rng = Random(seed)
    names = ("linux-5.17", "linux-6.2", "linux-6.12", "linux-7.0", "linux-7.3", "proposed", "xvisor", "bao", "axvisor")
    presets = [load_policy(name) for name in names]
    only = frozenset(rng.sample([e.id for e in EVENTS], 40))
    results = Results()
    for _ in range(8):
        model = rng.choice(list(ALL.values()))
        settings = Settings(_changed(rng.choice(presets), presets, rng), model.name, rng.random() < 0.3)
        changed = Job(settings, model, only=only)
        assert run_job(changed, results) == run_job(changed)

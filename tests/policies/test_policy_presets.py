"""The other hypervisors, and the positions of the 2024 thread."""

from __future__ import annotations

import json

import pytest

from trapline.policies import Action, describe, diff, load_policy, policy_names, predecessor, show

ALL = (0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 13, 15)


@pytest.mark.parametrize("name", policy_names())
def test_every_preset_resolves_and_becomes_json(name: str) -> None:
    """Each preset loads, says something about every cause and can be written as JSON."""
    policy = load_policy(name)
    assert policy.name == name
    assert json.loads(json.dumps(policy.as_data()))["hedeleg"] == policy.hedeleg
    assert len(show(policy)) >= 22
    assert all(policy.delegates(c) == bool(r.delegate) for c, r in policy.causes.items())


@pytest.mark.parametrize(
    ("name", "hedeleg"),
    [
        ("xvisor-2025", 0xB109), ("xvisor", 0xB10D), ("bao-2025", 0xB100), ("bao", 0xB108), ("hvisor", 0xB108),
        ("axvisor", 0xB10D), ("ostd-kvm", 0xB10D), ("salus", 0xB15D), ("zhou", 0xB109), ("proposed", 0xB10D),
        ("patel", 0xB108), ("holland-1", 0xB1FF), ("holland-2", 0xB1FF), ("none", 0),
    ],
)  # fmt: skip
def test_hedeleg(name: str, hedeleg: int) -> None:
    """Each preset writes the mask of its hypervisor or of its author's proposal."""
    assert load_policy(name).hedeleg == hedeleg


def test_zhou_adds_one_redirect_to_6_11() -> None:
    """Quan Zhou's patch changes the instruction access fault and nothing else."""
    changes = diff(load_policy("linux-6.11"), load_policy("zhou"))
    assert [(d.what, d.left, d.right) for d in changes] == [("cause inst-access", "kill -14", "redirect")]


def test_patel_redirects_and_counts_the_unexpected() -> None:
    """What a supervisor does not expect is redirected and has a counter; the rest is delegated."""
    policy = load_policy("patel")
    for cause in (0, 1, 2, 4, 5, 6, 7):
        assert policy.rule(cause).action is Action.REDIRECT
        assert policy.rule(cause).counters
        assert not policy.delegates(cause)
    assert all(policy.delegates(c) for c in (3, 8, 12, 13, 15))


def test_holland_differs_only_in_the_fallback() -> None:
    """Both readings delegate the same causes; only the second also redirects them in HS-mode."""
    trusting, careful = load_policy("holland-1"), load_policy("holland-2")
    assert trusting.hedeleg == careful.hedeleg
    for cause in ALL:
        assert careful.rule(cause).action is Action.REDIRECT
        assert trusting.rule(cause).action is (Action.DEBUG if cause == 3 else Action.KILL)


def test_salus_redirects_exactly_what_it_delegates() -> None:
    """A trap whose hedeleg bit Salus set is re-injected when it arrives in HS-mode all the same."""
    policy = load_policy("salus")
    redirected = {c for c in range(16) if policy.rule(c).action is Action.REDIRECT}
    assert redirected == {c for c in range(16) if policy.delegates(c)}


def test_none_kills_whatever_could_be_redirected() -> None:
    """The empty policy delegates nothing and redirects nothing."""
    policy = load_policy("none")
    assert {describe(policy.rule(c)) for c in ALL} == {"kill -14"}


def test_bao_handles_three_causes() -> None:
    """Bao and hvisor know calls and data guest page faults; everything else stops them.

    A fetch inside the slots is the model's lazy mapping; outside them it stops them too.
    """
    for name in ("bao", "hvisor"):
        policy = load_policy(name)
        assert {c for c in range(24) if policy.rule(c).action is not Action.KILL} == {10, 20, 21, 23}
        assert policy.rule(20).without_slot is Action.KILL


def test_other_hypervisors_have_no_bugs_of_kvm() -> None:
    """Known bugs of the kernel's KVM are not attributed to others."""
    for name in ("bao", "bao-2025", "hvisor", "axvisor", "salus", "proposed", "none"):
        assert load_policy(name).bugs == ()
    # Xvisor's decoder makes the same test of bits 11:7.
    assert [b.name for b in load_policy("xvisor").bugs] == ["mmio-refuses-sp-store-with-zero-bits"]


def test_a_read_only_bit_that_a_hypervisor_writes_is_said_in_a_note() -> None:
    """The Rust port of KVM writes bit 9 of hedeleg too: its preset has what the hart keeps, and says what it writes."""
    policy = load_policy("ostd-kvm")
    assert policy.hedeleg == load_policy("linux-7.1").hedeleg
    assert "0xb30d" in policy.notes[0].note


def test_the_bare_name_is_the_newest_version() -> None:
    """A hypervisor with versions has its newest under its bare name, and under the version's too."""
    for name in ("xvisor", "bao"):
        newest = load_policy(f"{name}-2026")
        assert diff(load_policy(name), newest) == []
        assert (load_policy(name).name, newest.name, newest.version) == (name, f"{name}-2026", "2026")
        assert newest.release == ""
        assert f"{name}-2025" in policy_names()
        assert f"{name}-2026" not in policy_names()


def test_axvisor_handles_calls_and_devices_alone() -> None:
    """Axvisor closes the VM on every cause but calls and data guest page faults."""
    policy = load_policy("axvisor")
    assert {c for c in range(64) if policy.rule(c).action is not Action.KILL} == {10, 20, 21, 23}
    assert policy.hideleg == 0x444


def test_every_row_of_proposed_names_its_change() -> None:
    """Each rule that `proposed` has beside those of the kernel says which change it is."""
    policy, base = load_policy("proposed"), load_policy("linux-7.3")
    entries = [*policy.causes.values(), policy.default, *policy.counters, *policy.features, policy.mmio]
    known = [*base.causes.values(), *base.counters, *base.features]
    own = [e for e in entries if e not in known and e.source not in {k.source for k in known}]
    assert len(own) > 10
    assert all("change" in e.source for e in own)


def test_diff_of_equal_policies_is_empty() -> None:
    """Two releases with the same rules do not differ."""
    assert diff(load_policy("linux-6.12.113"), load_policy("linux-6.12.116")) == []


def test_predecessors() -> None:
    """Before a release stands the release before, behind a policy what it extends, and behind the first nothing."""
    before = {
        "linux-6.0": "linux-5.19", "linux-7.2": "linux-7.1", "xvisor": "xvisor-2025", "zhou": "linux-6.11",
        "proposed": "linux-7.3", "linux-6.12.107": "linux-6.11", "linux-5.16": None, "bao-2025": None,
    }  # fmt: skip
    for name, expected in before.items():
        found = predecessor(load_policy(name))
        assert (found.name if found else None) == expected


def test_a_difference_has_the_source_of_what_is_new() -> None:
    """What changed is told with who says so; of a bug that is gone, with who said that it was there."""
    sources = {d.what: d.source for d in diff(load_policy("linux-6.13"), load_policy("linux-6.14"))}
    assert sources["cause inst-access"].startswith("51c58956732b")
    sources = {d.what: d.source for d in diff(load_policy("linux-7.1"), load_policy("linux-7.2"))}
    assert sources["bug fwft-locks-on-failure"].startswith("b8aa7571e943")


def test_instructions_differ_one_by_one() -> None:
    """Of the decoder's instructions a difference names those that one side has alone."""
    found = {d.what: d for d in diff(load_policy("linux-7.2"), load_policy("axvisor"))}["mmio instructions"]
    assert found.left == "c.lw c.ld c.lwsp c.ldsp c.sw c.sd c.swsp c.sdsp"
    assert found.right == ""

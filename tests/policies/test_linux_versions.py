"""Every row of the exit handler's history, at the release where it changes."""

from __future__ import annotations

import pytest

from trapline.policies import describe, load_policy, policy_names

LINUX = [n.removeprefix("linux-") for n in policy_names() if n.startswith("linux-")]

# cause: (first release, what HS-mode does, delegated) until the next entry.
HISTORY: dict[int, list[tuple[str, str, bool]]] = {
    0: [("5.16", "kill -14", True)],
    1: [("5.16", "kill -14", False), ("6.14", "redirect", False)],
    2: [
        ("5.16", "kill -14", False),
        ("6.3", "redirect", False),
        ("6.14", "redirect, counts instr_illegal_exits", False),
        ("6.17", "redirect, counts instr_illegal_exits", True),
    ],
    3: [("5.16", "kill -14", True), ("6.10", "debug", True)],
    4: [
        ("5.16", "kill -14", False),
        ("6.5", "redirect", False),
        ("6.14", "redirect, counts load_misaligned_exits", False),
    ],
    5: [
        ("5.16", "kill -14", False),
        ("6.11", "redirect", False),
        ("6.14", "redirect, counts load_access_exits", False),
    ],
    6: [
        ("5.16", "kill -14", False),
        ("6.5", "redirect", False),
        ("6.14", "redirect, counts store_misaligned_exits", False),
    ],
    7: [
        ("5.16", "kill -14", False),
        ("6.11", "redirect", False),
        ("6.14", "redirect, counts store_access_exits", False),
    ],
    8: [("5.16", "kill -14", True)],
    9: [("5.16", "kill -14", False)],
    10: [("5.16", "sbi", False)],
    11: [("5.16", "kill -14", False)],
    12: [("5.16", "kill -14", True)],
    13: [("5.16", "kill -14", True)],
    14: [("5.16", "kill -14", False)],
    15: [("5.16", "kill -14", True)],
    16: [("5.16", "kill -14", False)],
    17: [("5.16", "kill -14", False)],
    18: [("5.16", "kill -14", False), ("7.3", "redirect if henvcfg-cfi", False)],
    19: [("5.16", "kill -14", False)],
    20: [("5.16", "map, without slot kill -95", False), ("7.2", "map, without slot redirect as inst-access", False)],
    21: [("5.16", "map, without slot mmio", False)],
    22: [("5.16", "emulate", False)],
    23: [("5.16", "map, without slot mmio", False)],
    24: [("5.16", "kill -14", False)],
    63: [("5.16", "kill -14", False)],
}


def expected(cause: int, version: str) -> tuple[str, bool]:
    row = [e for e in HISTORY[cause] if LINUX.index(e[0]) <= LINUX.index(version)][-1]
    return row[1], row[2]


@pytest.mark.parametrize("cause", HISTORY)
def test_every_release_has_the_row_of_the_history(cause: int) -> None:
    """Each release from 5.16 to 7.3 does with each cause what its exit handler did."""
    for version in LINUX:
        policy = load_policy(f"linux-{version}")
        assert (describe(policy.rule(cause)), policy.delegates(cause)) == expected(cause, version), version


def test_the_releases_are_those_of_the_kernel() -> None:
    """The family runs from 5.16 to 7.3 without a gap."""
    assert ([f"5.{n}" for n in range(16, 20)] + [f"6.{n}" for n in range(20)] + [f"7.{n}" for n in range(4)]) == LINUX


@pytest.mark.parametrize(
    ("version", "hedeleg"),
    [("5.16", 0xB109), ("6.16", 0xB109), ("6.17", 0xB10D), ("7.0", 0xB10D), ("7.3", 0xB10D)],
)
def test_hedeleg(version: str, hedeleg: int) -> None:
    """hedeleg is the mask that KVM writes, and hideleg never changes."""
    assert load_policy(f"linux-{version}").hedeleg == hedeleg
    assert load_policy(f"linux-{version}").hideleg == 0x444


@pytest.mark.parametrize(("version", "value"), [("6.2", 0xFFFFFFFF), ("6.3", 2), ("7.3", 2)])
def test_hcounteren(version: str, value: int) -> None:
    """The guest has every counter up to 6.2 and only time from 6.3."""
    assert load_policy(f"linux-{version}").hcounteren == value


@pytest.mark.parametrize(
    ("bug", "first", "last"),
    [
        ("redirect-keeps-privilege", "5.16", "6.2"),
        ("fwft-locks-on-failure", "6.18", "7.1"),
        ("fwft-stale-feature", "6.18", "7.1"),
    ],
)
def test_known_bugs(bug: str, first: str, last: str) -> None:
    """A known bug is there in exactly the releases that had it."""
    having = [v for v in LINUX if load_policy(f"linux-{v}").has_bug(bug)]
    assert having == LINUX[LINUX.index(first) : LINUX.index(last) + 1]


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("v0.1", "5.16"), ("BASE", "5.17"), ("SRST", "5.18"), ("PMU", "6.3"), ("DBCN", "6.7"),
        ("STA", "6.8"), ("SUSP", "6.14"), ("FWFT", "6.18"), ("MPXY", "6.19"),
    ],
)  # fmt: skip
def test_sbi_extensions(name: str, first: str) -> None:
    """An SBI extension is offered from its release on."""
    having = [v for v in LINUX if any(s.name == name for s in load_policy(f"linux-{v}").sbi)]
    assert having == LINUX[LINUX.index(first) :]


@pytest.mark.parametrize(
    ("csr", "first"), [(0xC00, "6.3"), (0xC1F, "6.3"), (0x151, "6.4"), (0x15C, "6.4"), (0x015, "6.9")]
)
def test_csr_emulation(csr: int, first: str) -> None:
    """A CSR is emulated from its release on, and is an illegal instruction before."""
    having = [v for v in LINUX if load_policy(f"linux-{v}").csr_rule(csr)]
    assert having == LINUX[LINUX.index(first) :]


@pytest.mark.parametrize(
    ("name", "first"),
    [("csr_exit_user", "6.0"), ("signal_exits", "6.1"), ("wrs_exit_stat", "6.11"), ("store_access_exits", "6.14")],
)
def test_counters(name: str, first: str) -> None:
    """A statistics counter exists from its release on."""
    having = [v for v in LINUX if any(c.name == name for c in load_policy(f"linux-{v}").counters)]
    assert having == LINUX[LINUX.index(first) :]


def test_counters_keep_the_order_of_the_kernel() -> None:
    """The counters of the newest release stand in the order of KVM's descriptors."""
    assert [c.name for c in load_policy("linux-7.2").counters] == [
        "ecall_exit_stat", "wfi_exit_stat", "wrs_exit_stat", "mmio_exit_user", "mmio_exit_kernel", "csr_exit_user",
        "csr_exit_kernel", "signal_exits", "exits", "instr_illegal_exits", "load_misaligned_exits",
        "store_misaligned_exits", "load_access_exits", "store_access_exits",
    ]  # fmt: skip


def test_every_rule_of_linux_cites_its_source() -> None:
    """No row of a release stands without a source."""
    for version in LINUX:
        policy = load_policy(f"linux-{version}")
        entries = [*policy.causes.values(), *policy.counters, *policy.bugs, *policy.csrs, *policy.sbi, *policy.fwft]
        assert all(e.source for e in entries)


def test_guest_debug_takes_the_breakpoint_back_from_6_10() -> None:
    """KVM_SET_GUEST_DEBUG clears the breakpoint bit of hedeleg since 6.10 and does not exist before."""
    assert load_policy("linux-6.9").debug_undelegates == 0
    assert load_policy("linux-6.10").debug_undelegates == 1 << 3


def test_the_newest_version_is_a_release() -> None:
    """7.3 is a release like the others: it carries no remark."""
    assert load_policy("linux-7.3").notes == load_policy("linux-7.2").notes == ()

"""Point releases: what was brought to a stable series is in its preset from that release on."""

from __future__ import annotations

import pytest

from trapline.policies import PolicyError, load_policy, parse_policy
from trapline.policies.versions import reached


@pytest.mark.parametrize(
    ("changed", "version", "there"),
    [
        (["6.14"], "6.13", False), (["6.14"], "6.14", True), (["6.14"], "6.14.3", True), (["6.14"], "7.0", True),
        (["6.12.18", "6.14"], "6.12.17", False), (["6.12.18", "6.14"], "6.12.18", True),
        (["6.12.18", "6.14"], "6.12", True), (["6.12.18", "6.14"], "6.13", False),
        (["6.12.18"], "6.13", False), (["6.12.18"], "6.12.0", False),
    ],
)  # fmt: skip
def test_a_change_reaches_a_release(changed: list[str], version: str, there: bool) -> None:
    """A point release speaks for its own series, a series for itself and all later ones; a series means its newest."""
    assert reached(changed, version) is there


@pytest.mark.parametrize(
    ("name", "has"),
    [
        ("linux-6.12.34", True), ("linux-6.12.35", False), ("linux-6.12", False), ("linux-6.12.0", True),
        ("linux-6.13", True), ("linux-6.15.3", True), ("linux-6.15", False), ("linux-6.16.0", False),
        ("linux-6.5", True), ("linux-6.6.94", True), ("linux-6.6", False),
    ],
)  # fmt: skip
def test_a_backport(name: str, has: bool) -> None:
    """A bug that was fixed in stable series is gone from the release with the fix, not just from the next series."""
    assert load_policy(name).has_bug("hfence-calls-are-nops") is has


def test_a_point_release_is_named_after_itself() -> None:
    """Its name and version are the point release's; the series' own names stay as they are."""
    assert (load_policy("linux-6.12.107").name, load_policy("linux-6.12.107").version) == ("linux-6.12.107", "6.12.107")
    assert (load_policy("linux-6.12").name, load_policy("linux-6.12").version) == ("linux-6.12", "6.12")


@pytest.mark.parametrize("name", ["linux-6.12.", "linux-6.12.1.2", "linux-6.12.x", "linux-4.19.3", "linux-6.12.12345"])
def test_no_such_release(name: str) -> None:
    """What is no release of a known series is refused."""
    with pytest.raises(PolicyError, match="unknown policy"):
        load_policy(name)


FILE = """
family = "linux"
versions = ["1.0", "1.1"]
default = "kill"
[[bug]]
name = "pmu-reads-add-up"
"""


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('fixed = ["1.2.3"]', "'1.2.3' is not one of this family's versions"),
        ('fixed = ["1.1"]\nuntil = "1.0"', "one of them says it"),
        ('since = ["1.1.4"]\nuntil = "1.0"', "comes after until"),
        ('since = ["1.0.x"]', "not a version"),
        ("fixed = 3", "expected list"),
    ],
)
def test_bad_ranges(line: str, says: str) -> None:
    """Ranges that make no sense are refused, with the version that is wrong."""
    with pytest.raises(PolicyError, match=says):
        parse_policy(FILE + line)

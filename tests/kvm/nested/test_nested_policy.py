"""Which guests get the H extension, and what a policy says of it."""

from __future__ import annotations

import pytest

from trapline.kvm.vm import Vm
from trapline.machine.aia import parse_aia
from trapline.policies import PolicyError, load_policy
from trapline.policies.load import parse_policy
from trapline.privilege.isa_string import DEFAULT_ISA
from trapline.vmm.guest_tree import guest_isa


def test_no_linux_nests() -> None:
    """No release of Linux gives its guests the H extension."""
    assert load_policy("linux-7.3").nested == "off"
    assert not Vm(engine="reference").vcpus[0].guest_has("h")


def test_nested_gives_h() -> None:
    """A nested guest's ISA string has h."""
    assert guest_isa(Vm(engine="reference", nested=True).vcpus[0]).startswith("rv64imafdch_")


def test_policy_turns_it_on() -> None:
    """A policy's [nested] table turns it on, and its extensions inherit that."""
    policy = parse_policy('extends = "linux-7.2"\ndefault = "kill"\n[nested]\nmode = "ideal"\n')
    assert policy.nested == "ideal"
    assert Vm(policy, engine="reference").vcpus[0].guest_has("h")


def test_unknown_mode() -> None:
    """A mode that does not exist is refused by name."""
    with pytest.raises(PolicyError, match="perfect"):
        parse_policy('extends = "linux-7.2"\ndefault = "kill"\n[nested]\nmode = "perfect"\n')


def test_no_aia() -> None:
    """A guest that nests is refused interrupt controllers of the AIA, and its ISA has no ssaia."""
    with pytest.raises(ValueError, match="no AIA yet: --aia none, not aplic-imsic"):
        Vm(engine="reference", nested=True, host_aia=parse_aia("aplic-imsic,guests=2"))
    vm = Vm(engine="reference", nested=True, isa=f"{DEFAULT_ISA}_smaia_ssaia")
    assert "ssaia" not in guest_isa(vm.vcpus[0])

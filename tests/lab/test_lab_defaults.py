"""A default has one value, wherever it is looked for."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any

from trapline.cli.options import Machine as CommandLine
from trapline.cli.recording import Recording
from trapline.kvm.spec import VmSpec
from trapline.lab.common_options import CommonOptions
from trapline.lab.guest_run import RunOptions
from trapline.machine.spec import MachineSpec
from trapline.vmm.arguments import parse_memory
from trapline.vmm.spec import GuestSpec


def defaults(kind: Any) -> dict[str, Any]:
    """The fields of a dataclass that have a plain default."""
    return {f.name: f.default for f in fields(kind) if f.default is not MISSING}


def agree(first: dict[str, Any], second: dict[str, Any], *, but: tuple[str, ...] = ()) -> set[str]:
    """Compare what both have, and return its names."""
    both = (first.keys() & second.keys()) - set(but)
    assert {name: first[name] for name in both} == {name: second[name] for name in both}
    return both


def test_the_command_line_has_the_defaults_of_the_lab() -> None:
    """`boot` and `run` without options are CommonOptions() and RunOptions() of Python."""
    own = {**defaults(CommandLine), **defaults(Recording)}
    found = agree(own, defaults(CommonOptions), but=("isa",))  # isa: None stands for the default
    assert {"memory", "smp", "timebase", "tinst", "aia", "engine", "trace", "profile"} <= found


def test_the_lab_has_the_defaults_of_machines() -> None:
    """What a command line makes without options is MachineSpec(), or GuestSpec()."""
    common = defaults(CommonOptions)
    assert parse_memory(common["memory"]) == MachineSpec().memory == GuestSpec().memory
    assert common["smp"] == MachineSpec().harts == GuestSpec().vcpus == VmSpec().vcpus
    for kind in (MachineSpec, GuestSpec):
        assert {"isa", "timebase", "tinst", "aia", "virtio"} <= agree(common, defaults(kind), but=("memory",))
    assert {"backing", "nested", "nacl"} <= agree(defaults(RunOptions), defaults(GuestSpec), but=("memory",))
    assert agree(defaults(GuestSpec), defaults(VmSpec), but=("nacl",)) >= {"host_fwft", "vcpus", "backing"}

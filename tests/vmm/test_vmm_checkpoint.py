"""Checkpoints of guests and VMs: every run from one is the same, KVM's state and counters included."""

from __future__ import annotations

import pytest
from test_vmm_snapshot import guest, picture

from trapline.isa.assemble import assemble
from trapline.kvm.snapshot import change_policy
from trapline.kvm.vm import Vm
from trapline.session.state.checkpoint import CheckpointError
from trapline.session.state.plain_state import Saver
from trapline.session.terminal.console import Console
from trapline.vmm.guest import Guest
from trapline.vmm.snapshot import _kept as kept_of_guest


def objects(made: Guest) -> object:
    """What a snapshot would hold of the guest's objects, with routes and records of traps."""
    made.vm.fold_native()
    saved = Saver(kept_of_guest(made)).save(made, "guest")
    return saved, sorted(map(str, made.vm.routes().items())), [str(r) for r in made.vm.last_traps]


@pytest.mark.parametrize("engine", ["native", "reference"])
@pytest.mark.parametrize("vcpus", [1, 2])
@pytest.mark.parametrize("policy", ["linux-6.12", pytest.param("zhou", marks=pytest.mark.slow)])
def test_every_run_from_a_checkpoint_is_the_same(engine: str, vcpus: int, policy: str) -> None:
    """Harts, memory, G-stage, statistics, routes, records and output of three runs agree."""
    out = bytearray()
    first, length = (2_001, 3_003) if engine == "reference" else (30_001, 150_003)
    through = guest(engine, vcpus, Console(out.extend), policy)
    through.run(first)
    through.vm.fold_native()  # decides in which order routes stand
    at = len(out)
    through.run(length)
    wanted = picture(through, bytes(out[at:])), objects(through)
    made = guest(engine, vcpus, Console(out.extend), policy)
    made.run(first)
    made.checkpoint()
    before = picture(made, b""), objects(made)
    for _ in range(2):
        out.clear()
        made.run(length)
        assert (picture(made, bytes(out)), objects(made)) == wanted
        made.rewind()
        assert (picture(made, b""), objects(made)) == before


def test_a_vm_and_its_user_space_have_the_same_checkpoints() -> None:
    """`Guest.rewind` and `Vm.rewind` go back on one stack, devices included."""
    made = guest("native")
    made.run(5_000)
    wanted = picture(made, b"")
    made.vm.checkpoint()
    made.run(5_000)
    point = made.checkpoint()
    made.run(5_000)
    made.vm.rewind(point)
    made.rewind(made.checkpoint())
    point.drop()
    made.vm.rewind()
    assert picture(made, b"") != wanted
    made.checkpoint().drop()


def test_a_vm_alone_goes_back() -> None:
    """Without a user space: memory, pages of the G-stage and counters are those of the checkpoint."""
    vm = Vm("linux-6.12")
    vm.add_memory(0x8000_0000, 4 << 20)
    code = "li t0, 0x80100000; 1: sd t0, 0(t0); li t1, 0x1000; add t0, t0, t1; j 1b"
    vm.write_memory(0x8000_0000, assemble(code, 0x8000_0000))
    vm.vcpus[0].reset(0x8000_0000, 0)
    vm.run(max_instructions=400)
    memory, stats = vm.read_memory(0x8000_0000, 4 << 20), vm.stats()
    vm.checkpoint()
    for _ in range(3):
        vm.run(max_instructions=1_000)
        assert vm.read_memory(0x8000_0000, 4 << 20) != memory
        vm.rewind()
        assert (vm.read_memory(0x8000_0000, 4 << 20), vm.stats()) == (memory, stats)


def test_another_policy_is_said() -> None:
    """Under another policy than at its checkpoint a guest is not put back."""
    made = guest("native")
    made.checkpoint()
    change_policy(made.vm, "linux-7.2")
    with pytest.raises(CheckpointError, match="memory or policy has changed"):
        made.rewind()

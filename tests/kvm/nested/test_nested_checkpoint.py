"""Checkpoints of a guest hypervisor: its guest, its shadows and the memory that it shares with the host go back."""

from __future__ import annotations

import programs
import pytest
from l1 import NOTES, NOTES_SIZE, RAM, RAM_SIZE, nested_vm, program
from test_nested_nacl import ALL, SHMEM, call, shown, write

from trapline.kvm.vm import Vm
from trapline.privilege.csr_numbers import HEDELEG, HVIP

CODE = program(programs.page_faults(8, 3))
TABLES = (*programs.g_stage(8), *programs.vs_stage())


def again(vm: Vm, at: int) -> None:
    """Two runs from a checkpoint note the same and leave the same memory, and nothing stays of them."""
    if at:
        assert vm.run(None, max_instructions=at).reason == "limit"
    vm.checkpoint()
    before = vm.read_memory(RAM, RAM_SIZE)
    ends = []
    for _ in range(2):
        assert vm.run(None, max_instructions=300_000).reason == "exit"
        ends.append((vm.read_memory(NOTES, NOTES_SIZE), vm.read_memory(RAM, RAM_SIZE), vm.instructions))
        vm.rewind()
        assert vm.read_memory(RAM, RAM_SIZE) == before
    assert ends[0] == ends[1]


@pytest.mark.parametrize("engine", ["native", "reference"])
@pytest.mark.parametrize("at", [400, 1900, 2501])
def test_a_guest_hypervisor_goes_back(at: int, engine: str) -> None:
    """From any instruction, of the hypervisor or of its guest."""
    again(nested_vm(CODE, TABLES, engine=engine), at)


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_shared_memory_goes_back(engine: str) -> None:
    """What the host writes into NACL's shared memory is undone."""
    body = call(1, SHMEM, 0, 0) + write(HEDELEG, 0x100) + write(HVIP, 4) + call(2, (1 << 64) - 1) + shown(HEDELEG)
    again(nested_vm(program(body), nacl=ALL, engine=engine), 0)


@pytest.mark.parametrize("engine", ["native", "reference"])
@pytest.mark.parametrize("at", [400, 1900, 2501])
def test_a_checkpoint_changes_nothing(at: int, engine: str) -> None:
    """The run goes on as one without a checkpoint does, to the instruction, and so does each run from there."""
    ends = []
    for marked in (False, True):
        vm = nested_vm(CODE, TABLES, engine=engine)
        assert vm.run(None, max_instructions=at).reason == "limit"
        for turn in range(1 + marked):
            if marked and turn == 0:
                vm.checkpoint()
            elif marked:
                vm.rewind()
            assert vm.run(None, max_instructions=500).reason == "limit"
            ends.append((vm.vcpus[0].pc, vm.read_memory(NOTES, NOTES_SIZE), [int(x) for x in vm.vcpus[0].hart.x]))
            assert vm.run(None, max_instructions=300_000).reason == "exit"
            ends.append((vm.instructions, vm.read_memory(RAM, RAM_SIZE), []))
    assert ends[0] == ends[2] == ends[4]
    assert ends[1] == ends[3] == ends[5]

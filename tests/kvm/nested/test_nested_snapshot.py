"""A snapshot of a guest hypervisor holds what it sees of its hart, and what its guest has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import programs
import pytest
from l1 import NOTES, NOTES_SIZE, difference, enter, leave, nested_vm, note, program, tag, words
from test_nested_nacl import ALL, ENTER, SHMEM, call, shown, write

from trapline.kvm.vm import Vm

SV48X4 = 9 << 60
CODE = program(programs.page_faults(8, 3))
TABLES = (*programs.g_stage(8), *programs.vs_stage())


def goes_on(make: Callable[[], Vm], at: int, most: int, folder: Path) -> None:
    """Compare a run of at most so many instructions with one that is kept and restored at an instruction."""
    whole, first = make(), make()
    assert whole.run(None, max_instructions=most).reason == "exit"
    assert first.run(None, max_instructions=at).reason == "limit"
    first.snapshot(folder / "nested")
    second = Vm.restore(folder / "nested", engine="native")
    assert second.run(None, max_instructions=most).reason == "exit"
    assert not difference(whole.read_memory(NOTES, NOTES_SIZE), second.read_memory(NOTES, NOTES_SIZE))


@pytest.mark.parametrize("at", [400, 1900, 2501, 3000])
def test_goes_on(at: int, tmp_path: Path) -> None:
    """Restored at any instruction, of the hypervisor or of its guest, the run notes what the uninterrupted one does."""
    goes_on(lambda: nested_vm(CODE, TABLES, engine="native"), at, 300_000, tmp_path)


ACCELERATED = program(
    f"{call(1, SHMEM, 0, 0)}{write(0x240, 0x123)}{ENTER}{call(4)}inside:\ncsrw sscratch, s4\necall\n"
    f"out:\n{shown(0x240)}{shown(0x600)}{call(2, -1)}{tag(1)}"
)


@pytest.mark.parametrize("at", [30, 60, 80, 100, 120])
def test_goes_on_with_nacl(at: int, tmp_path: Path) -> None:
    """Restored with a shared memory of NACL in use, the hypervisor finds in it what it would have found."""
    goes_on(lambda: nested_vm(ACCELERATED, engine="native", nacl=ALL), at, 10_000, tmp_path)


LATER = program(
    f"li t1, 200\nagain:\naddi t1, t1, -1\nbnez t1, again\nli t0, {SV48X4:#x}\ncsrw hgatp, t0\n{note('hgatp')}"
    f"csrw hgatp, zero\nli t0, 0x100\ncsrs sstatus, t0\n{enter('inside')}inside:\n{leave('out')}out:\n{tag(1)}"
)


@pytest.mark.parametrize(("policy", "mode"), [("linux-7.2", 9), ("xvisor-nested", 0)])
@pytest.mark.parametrize("at", [100, 300])
def test_under_another_policy(at: int, policy: str, mode: int, tmp_path: Path) -> None:
    """Restored under another policy, a guest hypervisor goes on, and finds what that policy's L0 does."""
    first = nested_vm(LATER, engine="native")
    assert first.run(None, max_instructions=at).reason == "limit"
    first.snapshot(tmp_path / "nested")
    second = Vm.restore(tmp_path / "nested", engine="native", policy=policy)
    assert second.run(None, max_instructions=10_000).reason == "exit"
    noted = words(second.read_memory(NOTES, NOTES_SIZE))
    assert noted[0] >> 60 == mode
    assert noted[-1] == 1

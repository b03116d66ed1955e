"""What the VMM does to memory that a guest's guest uses through L0's shadow of its tables."""

from __future__ import annotations

import pytest
from l1 import FREE, G_ROOT, HOLE, NOTES, NOTES_SIZE, RAM, enter, nested_vm, program, words
from programs import ALL, MAPPED, REACH_HOLE, g_stage, pte

from trapline.kvm.vm import Vm
from trapline.privilege.causes import INST_ACCESS
from trapline.privilege.pte import PTE_U

SEEN, WRITTEN = FREE + 0x9000, FREE + 0xA000
LOOP = f"""
li t0, {{hgatp:#x}}
csrw hgatp, t0
li s2, {{page:#x}}
li s3, {SEEN:#x}
li s4, {WRITTEN:#x}
{enter("inside")}
inside:
ld t1, 0(s2)
sd t1, 0(s3)
sd t1, 0(s4)
j inside
"""
SV39X4 = 8 << 60 | G_ROOT >> 12
STEP = 400


def looping(hgatp: int, page: int, tables: list[tuple[int, bytes]], engine: str) -> Vm:
    """A VM whose guest's guest copies the first word of a page for ever, at work; a page of memory is at HOLE."""
    vm = nested_vm(program(LOOP.format(hgatp=hgatp, page=page)), tables, engine=engine)
    vm.add_memory(HOLE, 0x1000)
    vm.write_memory(HOLE, b"\x11")
    assert vm.run(None, max_instructions=STEP).reason == "limit"
    return vm


@pytest.mark.parametrize("engine", ["native", "reference"])
@pytest.mark.parametrize("hgatp", [0, SV39X4])
def test_dirty_log(hgatp: int, engine: str) -> None:
    """A page that is in use is logged again each time that the log is read, and a page that is only read is not."""
    vm = looping(hgatp, FREE, g_stage(8), engine)
    slot = vm.slots.find(RAM)
    assert slot is not None
    vm.log_dirty(slot, on=True)
    for _ in range(2):
        assert vm.run(None, max_instructions=STEP).reason == "limit"
        assert vm.dirty_log(slot) == [(SEEN - RAM) // 0x1000, (WRITTEN - RAM) // 0x1000]


@pytest.mark.parametrize("engine", ["native", "reference"])
@pytest.mark.parametrize("move", [False, True])
def test_other_memory(move: bool, engine: str) -> None:
    """Where a slot has gone or moved away, the guest's guest finds the memory that is there now."""
    vm = looping(SV39X4, MAPPED + 0x1000 * REACH_HOLE, g_stage(8), engine)
    assert vm.read_memory(SEEN, 1) == b"\x11"
    slot = vm.slots.find(HOLE)
    assert slot is not None
    if move:
        vm.move_memory(slot, HOLE + 0x10_0000)
    else:
        vm.remove_memory(slot)
    vm.add_memory(HOLE, 0x1000)
    vm.write_memory(HOLE, b"\x22")
    assert vm.run(None, max_instructions=STEP).reason == "limit"
    assert vm.read_memory(SEEN, 1) == b"\x22"


@pytest.mark.parametrize("engine", ["native", "reference"])
@pytest.mark.parametrize("move", [False, True])
def test_tables_that_go(move: bool, engine: str) -> None:
    """Where the VMM takes away or moves the memory of L1's G-stage while L2 runs, L1 gets L2's access fault."""
    body = f"li t0, {8 << 60 | HOLE >> 12:#x}\ncsrw hgatp, t0\n{enter('inside')}inside:\nj inside\nout:\n"
    vm = nested_vm(program(f"la s9, out\n{body}"), engine=engine)
    slot = vm.add_memory(HOLE, 0x4000)
    vm.write_memory(HOLE + 8 * (RAM >> 30), pte(RAM, ALL | PTE_U))
    assert vm.run(None, max_instructions=STEP).reason == "limit"
    assert not any(vm.read_memory(NOTES, 8))
    if move:
        vm.move_memory(slot, HOLE + 0x10_0000)
    else:
        vm.remove_memory(slot)
    assert vm.run(None, max_instructions=STEP).reason == "exit"
    assert words(vm.read_memory(NOTES, NOTES_SIZE))[:2] == [0x1111, INST_ACCESS]


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_contiguous_pages(engine: str) -> None:
    """A leaf of 64 KiB (Svnapot) in the hypervisor's table, with a memory type (Svpbmt), leads each page to its own."""
    number, first = 0x20, FREE + 0x1_0000
    napot = int.from_bytes(pte(first, ALL | PTE_U), "little") | 1 << 63 | 1 << 61 | 8 << 10
    leaves = [(G_ROOT + 0x5000 + 8 * (number + n), napot.to_bytes(8, "little")) for n in range(16)]
    for page in (0, 5, 15):
        content = (first + 0x1000 * page, bytes([page + 1]))
        tables = [*g_stage(8), *leaves, content]
        vm = looping(SV39X4, MAPPED + 0x1000 * (number + page), tables, engine)
        assert vm.read_memory(SEEN, 1) == bytes([page + 1])

"""Stops on a board with several harts and in guests."""

from __future__ import annotations

import pytest

from trapline.isa.assemble import assemble, assemble_program
from trapline.machine.machine import Machine
from trapline.machine.memory_map import RAM_BASE
from trapline.privilege.causes import LOAD_GUEST_PAGE_FAULT
from trapline.vmm.guest import Guest

ENGINES = ("reference", "native")
AFTER_LOOP = RAM_BASE + 16
COUNT = """
 csrwi mie, 8
 li t0, 50
loop: addi t0, t0, -1
 bnez t0, loop
 csrr a0, mhartid
 li t3, 0x2000000
 li t4, 1
 beqz a0, first
 sw t4, 0(t3)
wait: j wait
first: wfi
 li t1, 0x100000
 li t2, 0x5555
 sw t2, 0(t1)
end: j end
"""
GUEST = """
 li t0, 5
loop: li t1, 0x10001000
 lw t2, 0(t1)
 addi t0, t0, -1
 bnez t0, loop
 li a7, 0x53525354
 li a6, 0
 li a0, 0
 li a1, 0
 ecall
"""


def board(engine: str, harts: int) -> Machine:
    machine = Machine(engine=engine, harts=harts, memory=1 << 20)
    machine.regions.write(RAM_BASE, assemble(COUNT, RAM_BASE))
    for hart in machine.harts:
        hart.pc = RAM_BASE
    return machine


def guest(engine: str) -> Guest:
    made = Guest(engine=engine, memory=16 << 20)
    made.load_bytes(assemble(GUEST, RAM_BASE + 0x200000))
    return made


@pytest.mark.parametrize("engine", ENGINES)
def test_each_hart_of_a_board_stops(engine: str) -> None:
    """A breakpoint stops the run for every hart that comes by, as the schedule has it, and the run ends as ever."""
    plain = board(engine, 2)
    expected = plain.run()
    machine = board(engine, 2)
    stop = machine.stops.breakpoint(AFTER_LOOP)
    seen = []
    while (result := machine.run()).reason == "stop":
        assert machine.stopped_by is not None
        assert machine.stopped_by.stop is stop
        seen.append((machine.stopped_by.hart, int(machine.harts[machine.stopped_by.hart].pc)))
    assert seen == [(0, AFTER_LOOP), (1, AFTER_LOOP)]
    assert (result.reason, machine.position()) == (expected.reason, plain.position())


@pytest.mark.parametrize("engine", ENGINES)
def test_a_guest_stops(engine: str) -> None:
    """A breakpoint in a guest stops its run, which then ends as it does without."""
    plain = guest(engine)
    expected = plain.run()
    made = guest(engine)
    at = assemble_program(GUEST, RAM_BASE + 0x200000).symbols["loop"]
    stop = made.vm.stops.breakpoint(at, modes=["VS"], ignore=2)
    result = made.run()
    assert (result.reason, made.vm.vcpus[0].pc, stop.count) == ("stop", at, 3)
    assert made.run().reason == "stop"
    stop.ignore = 1 << 40
    made.vm.stops.changed = True
    assert made.run().reason == expected.reason
    assert made.position() == plain.position()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_trap_to_hosted_kvm_is_caught(engine: str) -> None:
    """A trap that hosted KVM handles is caught with its CSRs written, and handled when the run goes on."""
    plain = guest(engine)
    expected = plain.run()
    made = guest(engine)
    made.vm.stops.catch_trap([LOAD_GUEST_PAGE_FAULT], origins=["VS"])
    for _ in range(5):
        assert made.run().reason == "stop"
        hart = made.vm.vcpus[0].hart
        assert (int(hart.scause), int(hart.htval), int(hart.virt)) == (LOAD_GUEST_PAGE_FAULT, 0x1000_1000 >> 2, 0)
    assert made.run().reason == expected.reason
    assert made.position() == plain.position()

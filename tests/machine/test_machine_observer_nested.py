"""Observed traps of a guest's guest: a hypervisor on the board whose guest is a hypervisor; hgatp tells them apart."""

from __future__ import annotations

import pytest
from machine_fakes import make_elf

from trapline.isa.assemble import assemble
from trapline.machine.machine import Machine
from trapline.privilege.causes import BREAKPOINT, ECALL_VS, VIRTUAL_INST
from trapline.session.observe.observer import Kind, Observer, Sight

BASE, TABLE = 0x8000_0000, 0x8001_0000
ROUNDS = 20
# L0 in HS-mode has one G-stage table under two VMIDs: 1 for L1, 2 for L2. L2's ebreak is handed to L1 at its stvec; an
# ecall of L1 enters L2 behind the ebreak; L1's access to hstatus is emulated by skipping it.
PROGRAM = f"""
    li t0, -1
    csrw pmpaddr0, t0
    li t0, 0x1f
    csrw pmpcfg0, t0
    li t0, 0x400408
    csrw medeleg, t0
    la t0, hypervisor
    csrw stvec, t0
    li t0, {TABLE:#x}
    li t1, {(BASE >> 12) << 10 | 0xDF:#x}
    sd t1, 16(t0)
    li s2, {8 << 60 | 1 << 44 | TABLE >> 12:#x}
    li s3, {8 << 60 | 2 << 44 | TABLE >> 12:#x}
    csrw hgatp, s2
    la t0, l1
    csrw mepc, t0
    csrw vstvec, t0
    li t0, 0x1800
    csrc mstatus, t0
    li t0, 0x800
    csrs mstatus, t0
    li t0, 1
    slli t0, t0, 39
    csrs mstatus, t0
    la s4, l2
    li s5, 0
    mret
.align 2
hypervisor:
    csrr t0, scause
    li t1, {BREAKPOINT}
    beq t0, t1, of_l2
    li t1, {ECALL_VS}
    beq t0, t1, enter
    csrr t0, sepc
    addi t0, t0, 4
    csrw sepc, t0
    sret
of_l2:
    csrr s4, sepc
    addi s4, s4, 4
    csrw hgatp, s2
    la t0, l1
    csrw vstvec, t0
    csrw sepc, t0
    sret
enter:
    csrw hgatp, s3
    csrw vstvec, zero
    csrw sepc, s4
    sret
.align 2
l1:
    csrr t2, hstatus
    addi s5, s5, 1
    li t2, {ROUNDS}
    bltu t2, s5, 1f
    ecall
1:  j 1b
l2:
    {"ebreak; " * (ROUNDS + 1)}
"""


def observed(engine: str) -> Sight:
    """What was seen of the program."""
    machine = Machine(memory=1 << 20, engine=engine)
    machine.load_elf(make_elf(assemble(PROGRAM, BASE), memory_size=0x1000))
    observer = Observer(machine.harts)
    machine.run(2_000)
    observer.stop()
    return observer.sight()


@pytest.mark.parametrize("engine", ["reference", "native"])
def test_traps_of_l2_are_open_until_l2_goes_on(engine: str) -> None:
    """Each breakpoint of L2 is a round trip by way of L1 that ends behind it, none is lost; L1's own are apart."""
    sight = observed(engine)
    trips = {(t.kind.cause, t.path, t.end): t for t in sight.trips}
    of_l2 = trips[BREAKPOINT, ("VS", "HS", "VS"), "next"]
    emulated = trips[VIRTUAL_INST, ("VS", "HS"), "next"]
    assert of_l2.count == ROUNDS - 1
    assert [t.count for t in sight.trips if t.kind.cause == BREAKPOINT] == [ROUNDS - 1]
    assert sum(t.count for t in sight.trips if t.kind.cause == ECALL_VS) == ROUNDS - 1
    assert of_l2.least > emulated.most
    assert (sight.lost, sight.counts[Kind(BREAKPOINT, "VS", "HS")]) == (0, ROUNDS)

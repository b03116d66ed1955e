"""Timers of both levels while a guest's guest runs."""

from __future__ import annotations

import pytest
from l1 import L1_BASE, NOTES, as_guest, enter, leave, nested_vm, note, program, tag, words

from trapline.isa.assemble import assemble
from trapline.privilege.isa_string import DEFAULT_ISA

INTERRUPT, SBI_TIME = 1 << 63, 0x54494D45
BY_HYPERVISOR, BY_GUEST = 0x1111, 0x2222
# hideleg, ticks to the guest's and to the hypervisor's timer (0: none), who takes it, and as which interrupt.
CASES = {
    "of the guest": (0x40, 3, 0, BY_GUEST, 5),
    "kept by the hypervisor": (0, 3, 0, BY_HYPERVISOR, 6),
    "of the hypervisor": (0x40, 0, 3, BY_HYPERVISOR, 5),
    "of the hypervisor first": (0x40, 5000, 3, BY_HYPERVISOR, 5),
}


def timed(hideleg: int, inner: int, outer: int, waits: str, hstatus: int = 0) -> str:
    """The body of a hypervisor whose guest waits in some way, with timers in so many ticks."""
    registers = {
        "hcounteren": 2, "htimedelta": 1000, "hideleg": hideleg, "hie": 0x40, "vsie": 0x20, "sie": 0x20,
        "vsstatus": 2, "hstatus": hstatus,
    }  # fmt: skip
    body = "li t3, 1\nslli t3, t3, 63\ncsrw henvcfg, t3\n"
    body += "".join(f"li t3, {value}\ncsrw {name}, t3\n" for name, value in registers.items())
    body += f"rdtime t2\n{tag(0x600)}"
    body += f"addi t3, t2, {outer}\ncsrw stimecmp, t3\n" if outer else ""
    body += f"li t4, {1000 + inner}\nadd t3, t2, t4\ncsrw vstimecmp, t3\n" if inner else ""
    return body + f"la s9, out\n{enter('inside')}inside:\n{waits}\n{leave('out')}out:\ncsrw sie, zero\n"


def first_trap(body: str, engine: str) -> list[int]:
    """Who took the first trap of the guest, and its cause."""
    noted = words(as_guest(program(body), engine=engine, limit=30_000))
    return noted[noted.index(0x600) + 1 :][:2]


@pytest.mark.parametrize("engine", ["native", "reference"])
@pytest.mark.parametrize("name", CASES)
def test_timer(name: str, engine: str) -> None:
    """A timer interrupts the guest of the hypervisor, and goes to whom it belongs."""
    hideleg, inner, outer, taker, code = CASES[name]
    body = timed(hideleg, inner, outer, "li t4, 900\n1:\naddi t4, t4, -1\nbnez t4, 1b")
    assert first_trap(body, engine) == [taker, INTERRUPT | code]


@pytest.mark.parametrize("engine", ["native", "reference"])
@pytest.mark.parametrize("name", CASES)
def test_wfi(name: str, engine: str) -> None:
    """The guest's wfi, which its hypervisor does not trap, waits for whatever timer comes first."""
    hideleg, inner, outer, taker, code = CASES[name]
    body = timed(hideleg, inner * 100, outer and outer + 200, "wfi")
    assert first_trap(body, engine) == [taker, INTERRUPT | code]


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_trapped_wfi(engine: str) -> None:
    """With VTW the hypervisor gets the guest's wfi as a virtual instruction."""
    assert first_trap(timed(0x40, 0, 0, "wfi", 1 << 21), engine) == [BY_HYPERVISOR, 22]


WITHOUT_SSTC = f"""
    li s11, {NOTES:#x}
    la t0, handler
    csrw stvec, t0
    csrr t1, vstimecmp
    li t0, 0x20
    csrw sie, t0
    rdtime a0
    addi a0, a0, 3
    li a6, 0
    li a7, {SBI_TIME:#x}
    ecall
{enter("inside")}
inside:
    j inside
    .align 2
handler:
    csrr t0, scause
    sd t0, 0(s11)
    addi s11, s11, 8
    bltz t0, off
    csrr t0, sepc
    addi t0, t0, 4
    csrw sepc, t0
    sret
off:
    csrr t0, hstatus
    andi t0, t0, 0x80
    sd t0, 0(s11)
    li a7, 0x53525354
    li a6, 0
    li a0, 0
    li a1, 0
    ecall
"""


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_a_hypervisor_without_sstc(engine: str) -> None:
    """Without Sstc L1's timer by SBI set_timer ends the run of its guest as interrupt 5, and vstimecmp is illegal."""
    isa = DEFAULT_ISA.replace("_sstc", "")
    vm = nested_vm(assemble(WITHOUT_SSTC, L1_BASE), engine=engine, isa=isa)
    assert vm.run(None, max_instructions=30_000).reason == "exit"
    assert words(vm.read_memory(NOTES, 0x100))[:3] == [2, INTERRUPT | 5, 0x80]


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_a_comparator_that_the_guest_moved(engine: str) -> None:
    """After the guest has put its timer off, hip and vsip of the hypervisor show no timer; they did before."""
    body = "li t3, 1\nslli t3, t3, 63\ncsrw henvcfg, t3\nli t3, 0x40\ncsrw hideleg, t3\nli t3, 2\ncsrw hcounteren, t3\n"
    body += f"csrw vstimecmp, zero\n{note('hip', 'vsip')}la s9, out\n{enter('inside')}inside:\n"
    body += f"csrw stimecmp, s8\n{leave('out')}out:\n{note('hip', 'vsip')}{tag(7)}"
    noted = words(as_guest(program(body), engine=engine))
    assert (noted[:2], noted[2:4], noted[-3:]) == ([0x40, 0x20], [BY_HYPERVISOR, 10], [0, 0, 7])

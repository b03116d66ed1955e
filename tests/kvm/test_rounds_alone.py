"""Rounds in which only one vCPU can run are one turn (kvm.turns): nothing that anybody sees differs."""

from __future__ import annotations

import pytest

from trapline.isa.assemble import assemble
from trapline.lang.state.words import LAYOUT
from trapline.machine.memory_map import RAM_BASE
from trapline.session.terminal.console import Console
from trapline.vmm.guest import Guest

GUEST = RAM_BASE + 0x20_0000
APART, TOGETHER = 1, (1 << 64) - 1
# vCPU 0 works, sends interrupts to the others, prints, and sleeps by its timer; the others wait for interrupts and for
# timers of their own, and note when they woke.
PROGRAM = """
    mv s0, a0
    la s1, notes
    slli t0, s0, 12
    add s1, s1, t0
    bnez s0, sleeper
    li s2, 1
start:
    li a7, 0x48534D
    li a6, 0
    mv a0, s2
    la a1, entry
    li a2, 0
    ecall
    addi s2, s2, 1
    li t0, {vcpus}
    bltu s2, t0, start
    li s3, {rounds}
    li s4, 12345
work:
    li t0, 1103515245
    mul s4, s4, t0
    addi s4, s4, 1013
    srli t1, s4, 16
    slli t1, t1, 48
    srli t1, t1, 48
    addi t1, t1, 1
1:  addi t1, t1, -1
    bnez t1, 1b
    andi t2, s4, 3
    beqz t2, rest
    li a7, 0x735049
    li a6, 0
    srli t3, s4, 20
    li t4, {mask}
    and a0, t3, t4
    andi a0, a0, -2
    li a1, 0
    ecall
    li t0, 0x10000000
    li t1, 46
    sb t1, 0(t0)
    j next
rest:
    csrr t0, time
    srli t1, s4, 30
    andi t1, t1, 1023
    add a0, t0, t1
    li a7, 0x54494D45
    li a6, 0
    ecall
    li t0, 0x20
    csrs sie, t0
    wfi
    li t0, 0x20
    csrc sie, t0
next:
    addi s3, s3, -1
    bnez s3, work
    li a7, 0x53525354
    li a6, 0
    li a0, 0
    li a1, 0
    ecall
entry:
    mv s0, a0
    la s1, notes
    slli t0, s0, 12
    add s1, s1, t0
sleeper:
    li t0, 0x22
    csrs sie, t0
    csrr t0, time
    slli t1, s0, 10
    add a0, t0, t1
    li a7, 0x54494D45
    li a6, 0
    ecall
    wfi
    csrci sip, 2
    ld t1, 0(s1)
    addi t1, t1, 1
    sd t1, 0(s1)
    andi t1, t1, 255
    slli t1, t1, 3
    add t1, t1, s1
    csrr t0, time
    sd t0, 8(t1)
    j sleeper
.align 12
notes: .dword 0
"""
_WORDS = [
    f
    for f in LAYOUT.fields.values()
    if (not f.host and f.kind.value != "passing" and f.name not in ("x", "guest_sstatus"))
    or f.name in ("kvm_stat", "exit_count", "exit_ring_at", "exit_ring", "kvm_halt_wait", "kvm_wakeups", "kvm_halts")
]


def state_of(guest: Guest) -> list[dict[str, list[int]]]:
    """Words of each vCPU."""
    words = [{f.name: v.hart.mem[f.index : f.index + f.count].tolist() for f in _WORDS} for v in guest.vm.vcpus]
    for found, vcpu in zip(words, guest.vm.vcpus, strict=True):
        found["x"] = [int(vcpu.hart.x[n]) for n in range(32)]
    return words


def course(
    engine: str, vcpus: int, together: int, rounds: int, cut: int, hint: str = "", **options: object
) -> list[object]:
    """What is seen of a run that is cut every so many instructions."""
    text = bytearray()
    guest = Guest("linux-7.2", vcpus=vcpus, memory=8 << 20, engine=engine, console=Console(text.extend), **options)
    source = PROGRAM.format(vcpus=vcpus, rounds=rounds, mask=(1 << vcpus) - 1)
    guest.load_bytes(assemble(source.replace("1:  addi", f"1:  {hint}\n    addi"), GUEST))
    guest.vm.schedule.together = together
    seen: list[object] = []
    while True:
        result = guest.run(cut)
        seen += [result.reason, guest.vm.instructions, guest.vm.open_round, state_of(guest)]
        if result.reason != "limit":
            return [*seen, bytes(text), guest.vm.read_memory(GUEST, 0x10000)]


@pytest.mark.parametrize("hint", ["", "pause"])
@pytest.mark.parametrize(("vcpus", "cut"), [(2, 10_000_000), (3, 777_777), (5, 31_415)])
def test_rounds_alone_change_nothing(vcpus: int, cut: int, hint: str) -> None:
    """With rounds together and apart a run has the same registers, times, statistics, output and memory at each cut."""
    assert course("native", vcpus, TOGETHER, 60, cut, hint) == course("native", vcpus, APART, 60, cut, hint)


def test_a_timebase_that_rounds() -> None:
    """Where waits of single rounds are rounded each, they are the same too."""
    options = {"timebase": 9_999_991}
    assert course("native", 3, TOGETHER, 20, 500_000, **options) == course("native", 3, APART, 20, 500_000, **options)

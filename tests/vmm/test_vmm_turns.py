"""The order of the vCPUs' turns: the same under both engines, from run to run, and however a run is cut."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from trapline.isa.assemble import assemble
from trapline.kvm.run_stop import RunStop
from trapline.privilege.causes import ECALL_VS
from trapline.vmm.guest import Guest

ENTRY = 0x8020_0000
VCPUS, ENTRIES = 3, 24
LOG = 0x8030_0000

# Each vCPU notes its number and its time in a common log, sets its timer, sends an IPI to the next one, and waits for
# an interrupt (which nothing takes); the first started the others, and ends the run when the log is full.
PROGRAM = f"""
    mv s0, a0
    li s1, 1
1:  mv a0, s1
    la a1, begin
    mv a2, s1
    li a7, 0x48534d
    li a6, 0
    ecall
    addi s1, s1, 1
    li t0, {VCPUS}
    blt s1, t0, 1b
    mv a0, s0
begin:
    mv s0, a0
    li t0, 0x22
    csrw sie, t0
    li s1, {LOG}
    addi s2, s0, 1
    li t0, {VCPUS}
    blt s2, t0, 2f
    li s2, 0
2:  li t0, 1
    amoadd.w t1, t0, (s1)
    li t2, {ENTRIES}
    bge t1, t2, 8f
    slli t1, t1, 3
    add t1, t1, s1
    sw s0, 8(t1)
    csrr t2, time
    sw t2, 12(t1)
    slli t3, s0, 6
    add a0, t2, t3
    addi a0, a0, 100
    li a7, 0x54494d45
    li a6, 0
    ecall
    li a0, 1
    mv a1, s2
    li a7, 0x735049
    li a6, 0
    ecall
    slli t0, s0, 5
    addi t0, t0, 30
3:  addi t0, t0, -1
    bnez t0, 3b
    wfi
    csrci sip, 2
    j 2b
8:  bnez s0, 9f
    li a0, 0
    li a1, 0
    li a7, 0x53525354
    li a6, 0
    ecall
9:  li a7, 0x48534d
    li a6, 1
    ecall
"""


# The same, where the vCPUs also hand on their turns: they wait for a word that another has written, each in its way.
WAITS = PROGRAM.replace(
    "    wfi\n",
    """
    lr.w t1, (s1)
    wrs.nto
    lr.w t1, (s1)
    wrs.sto
    wrs.nto
    wfi
""",
)


# The same, where they spin with pauses before they sleep.
SPINS = PROGRAM.replace("3:  addi t0, t0, -1\n", "3:  pause\n    pause\n    addi t0, t0, -1\n")


def _run(engine: str, *cuts: int, program: str = PROGRAM, policy: str = "linux-6.12") -> Guest:
    made = Guest(policy, engine=engine, memory=16 << 20, vcpus=VCPUS)
    made.load_bytes(assemble(program, ENTRY))
    result = None
    for cut in cuts:
        result = made.run(cut)
    assert result is not None
    assert (result.reason, result.code) == ("exit", 0)
    return made


def _seen(made: Guest) -> tuple[Any, ...]:
    vm = made.vm
    harts = [(int(v.hart.instret), int(v.hart.pc), int(v.hart.time_offset), v.mp_state) for v in vm.vcpus]
    return vm.read_memory(LOG, 8 + 8 * ENTRIES), harts, vm.stats(), [v.stats_fd() for v in vm.vcpus]


def test_both_engines_take_the_same_turns() -> None:
    """vCPUs that wake each other by timers and IPIs write the same log and count the same under both engines."""
    native = _seen(_run("native", 1_000_000))
    assert native == _seen(_run("reference", 1_000_000))
    assert {native[0][8 + 8 * n] for n in range(ENTRIES)} == set(range(VCPUS))
    assert native[2]["halt_wakeup"] > 0


def test_the_turns_are_the_same_however_a_run_is_cut() -> None:
    """A run in parts of a thousand instructions, and another run, end where the first did."""
    whole = _seen(_run("native", 1_000_000))
    assert _seen(_run("native", 1_000_000)) == whole
    assert _seen(_run("native", *_parts(1_009))) == whole


@pytest.mark.parametrize(("policy", "program"), [("linux-6.12", WAITS), ("bao", WAITS), ("linux-6.12", SPINS)])
def test_vcpus_that_hand_on_their_turns_take_the_same_ones(policy: str, program: str) -> None:
    """WRS, WFI, trapped or not, and pauses give turns away alike under both engines, cut or watched."""
    whole = _seen(_run("native", 1_000_000, program=program, policy=policy))
    assert _seen(_run("reference", 1_000_000, program=program, policy=policy)) == whole
    assert _seen(_run("native", *_parts(1_009, program, policy), program=program, policy=policy)) == whole
    made = Guest(policy, engine="native", memory=16 << 20, vcpus=VCPUS)
    made.load_bytes(assemble(program, ENTRY))
    made.vm.on_trap = lambda record: None
    assert made.run(1_000_000).reason == "exit"
    assert _seen(made) == whole


def test_a_turn_that_is_given_away_costs_no_python() -> None:
    """WRS of a guest with several vCPUs is counted, and its exits are handled without KVM_RUN's loop."""
    made = Guest("linux-6.12", engine="native", memory=16 << 20, vcpus=VCPUS)
    made.load_bytes(assemble(WAITS, ENTRY))
    seen: list[int] = []
    for vcpu in made.vm.vcpus:
        vcpu.resume = _noted(vcpu.resume, seen)  # type: ignore[method-assign]
    assert made.run(1_000_000).reason == "exit"
    assert made.vm.stats()["wrs_exit_stat"] > ENTRIES
    assert len(seen) <= 3  # the first instruction of the guest, the log's first page, and the power-off


# One vCPU that sleeps by its timer and notes when it woke.
ALONE = f"""
    li s1, {LOG}
    li s3, {ENTRIES}
    li t0, 0x20
    csrs sie, t0
1:  csrr a0, time
    addi a0, a0, 700
    li a7, 0x54494D45
    li a6, 0
    ecall
    wfi
    csrr t0, time
    sd t0, 8(s1)
    addi s1, s1, 8
    addi s3, s3, -1
    bnez s3, 1b
    li a7, 0x53525354
    li a6, 0
    li a0, 0
    li a1, 0
    ecall
"""


def test_a_vcpu_that_is_alone_waits_without_python() -> None:
    """Its waits are the same under both engines, in cut and in watched runs, and KVM_RUN's loop sees none of them."""
    seen: list[int] = []
    found = []
    for engine, cut, watched in (
        ("native", 0, False),
        ("reference", 0, False),
        ("native", 31, False),
        ("native", 0, True),
    ):
        made = Guest("linux-6.12", engine=engine, memory=16 << 20)
        made.load_bytes(assemble(ALONE, ENTRY))
        vcpu = made.vm.vcpus[0]
        if not found:
            vcpu.run, vcpu.resume = _noted(vcpu.run, seen), _noted(vcpu.resume, seen)  # type: ignore[method-assign]
        if watched:
            made.vm.on_trap = lambda record: None
        while (reason := made.run(cut or 1_000_000).reason) == "limit" and cut:
            pass
        assert reason == "exit"
        found.append(_seen(made))
    assert found == found[:1] * 4
    assert len(seen) <= 4  # the start, the first instruction of the guest, the log's first page, and the power-off


def _noted(enter: Callable[[int], RunStop], seen: list[int]) -> Callable[[int], RunStop]:
    """Return KVM_RUN, or its second half, which notes what it was entered for."""

    def noted(given: int) -> RunStop:
        seen.append(given)
        return enter(given)

    return noted


def _parts(length: int, program: str = PROGRAM, policy: str = "linux-6.12") -> list[int]:
    """Return parts of this length that together are just enough."""
    made = _run("native", 1_000_000, program=program, policy=policy)
    total = sum(int(v.hart.instret) for v in made.vm.vcpus)
    return [length] * (total // length + 1)


def test_a_watched_guest_takes_the_same_turns() -> None:
    """Turns that Python looks at, because somebody wants to see each trap, end where native ones do."""
    made = Guest("linux-6.12", engine="native", memory=16 << 20, vcpus=VCPUS)
    made.load_bytes(assemble(PROGRAM, ENTRY))
    made.vm.on_trap = lambda record: None
    assert made.run(1_000_000).reason == "exit"
    assert _seen(made) == _seen(_run("native", 1_000_000))


POLLS = f"""
    mv s0, a0
    li s1, 0
    li s4, {LOG}
1:  mv a0, s1
    li a7, 0x48534d
    li a6, 2
    ecall
    addi s4, s4, 16
    sd a0, 0(s4)
    sd a1, 8(s4)
    addi s1, s1, 1
    li t0, {VCPUS + 2}
    blt s1, t0, 1b
    li a0, 7
    li a1, 9
    li a7, 0x1234567
    li a6, 3
    ecall
    sd a0, 16(s4)
    sd a1, 24(s4)
    li a0, -1
    li a7, 0x48534d
    li a6, 9
    ecall
    sd a0, 32(s4)
    li a0, 0
    li a1, 0
    li a7, 0x53525354
    li a6, 0
    ecall
"""


@pytest.mark.parametrize("policy", ["linux-5.18", "linux-6.12", "linux-7.2", "xvisor"])
def test_calls_that_a_guest_polls_say_the_same_in_native_code(policy: str) -> None:
    """HSM status of every hart id, and an extension that is not there: answers, counts and time are the same."""
    seen = []
    for engine in ("native", "reference"):
        made = Guest(policy, engine=engine, memory=16 << 20, vcpus=VCPUS)
        made.load_bytes(assemble(POLLS, ENTRY))
        result = made.run(100_000)
        assert result.reason == "exit"
        vm = made.vm
        seen.append((vm.read_memory(LOG, 256), vm.stats(), int(vm.vcpus[0].hart.time_offset), vm.last_traps))
    assert seen[0] == seen[1]
    words = [int.from_bytes(seen[0][0][n : n + 8], "little", signed=True) for n in range(16, 128, 8)]
    assert words[:6] == [0, 0, 0, 1, 0, 1]
    assert words[10:12] == [-2, 0]


def test_calls_that_a_guest_polls_cost_no_python() -> None:
    """Status of harts that exist or not, and an extension that is not there, are answered without KVM_RUN's loop."""
    made = Guest("linux-7.2", engine="native", memory=16 << 20, vcpus=VCPUS)
    made.load_bytes(assemble(POLLS, ENTRY))
    seen: list[int] = []
    vcpu = made.vm.vcpus[0]
    begin = vcpu._begin
    vcpu._begin = lambda cause, *rest: (seen.append(cause), begin(cause, *rest))[1]  # type: ignore[method-assign]
    assert made.run(100_000).reason == "exit"
    assert seen.count(ECALL_VS) == 2  # a function that HSM does not have, and the power-off

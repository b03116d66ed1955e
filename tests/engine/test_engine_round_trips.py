"""Regions of a call, its handler and the return hold words of the hart's state, and give back every one of them."""

from __future__ import annotations

import pytest

from tests.engine.call_runs import everything
from tests.engine.harness import BASE, Bench
from trapline.engine.jit.held import by_value, held_words, hold
from trapline.engine.jit.prune import pruned
from trapline.engine.jit.surroundings import Surroundings
from trapline.engine.jit.worker import Builder
from trapline.lang.control import EXIT_HOSTED_HS
from trapline.privilege.derived import update_derived
from trapline.privilege.modes import MODE_HS, MODE_M, MODE_U, MODE_VS, MODE_VU, TO_HS
from trapline.privilege.returns import sret

# A loop in U-mode. The numbers in `body` are of all kinds: flags of floating point are found by rare calls.
LOOP = """
    li t0, -1
    csrw pmpaddr0, t0
    li t0, 31
    csrw pmpcfg0, t0
    la t0, handler
    csrw mtvec, t0
    la t0, user
    csrw mepc, t0
    li t0, {mstatus}
    csrw mstatus, t0
    la s0, data
    li s1, 300
    fcvt.d.l fa1, s1
    mret
user:
    xor s4, s4, s1
    ecall
    {body}
    addi s1, s1, -1
    bnez s1, user
end: j end
    .align 2
handler:
    csrr t1, mcause
    {inside}
    csrr t0, mepc
    addi t0, t0, 4
    csrw mepc, t0
    addi s2, s2, 1
    mret
    .align 3
data: .dword 7, 8, 9
"""
ECALL = bytes.fromhex("73000000")
FLOATS = (
    "fcvt.d.l fa0, s1; fdiv.d fa0, fa0, fa1; fsqrt.d fa2, fa0; fmadd.s fa3, fa0, fa2, fa1; frflags t2; csrwi fflags, 0"
)


@pytest.mark.parametrize(
    ("mstatus", "body", "inside"),
    [
        (0x6000, FLOATS, "nop"),
        (0x6000, FLOATS, "fadd.d fa4, fa0, fa1"),
        (0x2000, "ld a0, 3(s0); sd a0, 9(s0)", "ld a1, 1(s0)"),
        (0x0, "csrr a0, instret; mv a1, a0", "csrr a2, minstret; csrr a3, mstatus; csrr a4, mtval"),
        (0x0, "nop", "csrr a5, mstatus; csrw mstatus, a5; csrw mscratch, t0"),
    ],
    ids=["floats", "floats on both sides", "misaligned", "counters", "mstatus"],
)
def test_a_round_trip_in_one_region_changes_nothing(mstatus: int, body: str, inside: str) -> None:
    """Every word of the hart's state is the interpreter's, wherever the run is cut."""
    source = LOOP.format(mstatus=mstatus, body=body.replace("; ", "\n    "), inside=inside.replace("; ", "\n    "))
    plain, forced = Bench("native", source), Bench("forced", source)
    for bench in (plain, forced):
        bench.hart.misaligned_hardware = 1
        bench.run(2_400)
    calls = hold.cache_info().hits + hold.cache_info().misses
    compile_loop(forced)
    assert hold.cache_info().hits + hold.cache_info().misses > calls
    for bench in (plain, forced):
        bench.hart.mstatus = int(bench.hart.mstatus) & ~0x4000
        update_derived(bench.hart)
        for length in (2_177, 2_301, 6_000):
            bench.run(length)
    assert int(forced.hart.x[18]) > 100
    assert everything(forced) == everything(plain)


def compile_loop(bench: Bench) -> None:
    """Make one region of the loop, now that it is known where its calls go."""
    tier, table = bench.engine.tier, int(bench.hart.code_table)
    for region in list(bench.engine.code.by_table[table].regions):
        tier.drop(region)
    offset = bench.regions.read(BASE, 4096).index(ECALL)
    tier.done.clear()
    tier.heat.places[table + offset * 8] = bench.hart, BASE + offset, MODE_U
    tier.make(table + offset * 8)
    assert bench.engine.code.by_table[table].regions


def test_a_sample_tells_the_mode_in_which_its_code_began() -> None:
    """A region that leaves in another mode than it was entered in says so: the next region is made for that mode."""
    source = LOOP.format(mstatus=0, body="nop", inside="nop").replace("li s1, 300", "li s1, 100000")
    bench = Bench("forced", source)
    bench.run(800_000)
    hart = bench.hart
    count, handler = int(hart.sample_count), int(hart.mtvec)
    begun = [(int(hart.sample_pc[i]), int(hart.sample_mode[i])) for i in range(count)]
    user = BASE + bench.regions.read(BASE, 4096).index(ECALL) - 4
    modes = {(pc >= handler, mode) for pc, mode in begun if pc >= user}
    assert count > 30
    assert modes == {(False, MODE_U), (True, MODE_M)}


# A call of VU-mode that HS-mode gives to VS-mode, as a hypervisor does.
REDIRECTED = """
    li t0, -1
    csrw pmpaddr0, t0
    li t0, 31
    csrw pmpcfg0, t0
    li t0, 0x100
    csrw medeleg, t0
    csrw hedeleg, zero
    la t0, redirect
    csrw stvec, t0
    la t0, guest
    csrw vstvec, t0
    la t0, user
    csrw mepc, t0
    li t0, 1 << 39
    csrw mstatus, t0
    li s1, 100000
    mret
user:
    xor s4, s4, s1
    ecall
    addi s1, s1, -1
    bnez s1, user
end: j end
    .align 2
redirect:
    csrr t0, scause
    csrw vscause, t0
    csrr t0, sepc
    csrw vsepc, t0
    csrr t0, vsstatus
    andi t0, t0, -0x123
    csrw vsstatus, t0
    csrr t0, vstvec
    csrw sepc, t0
    li t0, 0x100
    csrs sstatus, t0
    sret
    .align 2
guest:
    csrr t0, sepc
    addi t0, t0, 4
    csrw sepc, t0
    addi s2, s2, 1
    sret
"""
HEADS = {MODE_VU: "user", MODE_HS: "redirect", MODE_VS: "guest"}


def redirected_region(bench: Bench, head: int) -> set[int]:
    """Make the region that begins where the loop of REDIRECTED enters a mode; the families of its pages."""
    tier, hart, table = bench.engine.tier, bench.hart, int(bench.hart.code_table)
    for region in list(bench.engine.code.by_table[table].regions):
        tier.drop(region)
    user = BASE + bench.regions.read(BASE, 4096).index(ECALL) - 4
    entered = {MODE_VU: user, MODE_HS: int(hart.stvec), MODE_VS: int(hart.vstvec)}
    for mode, pc in entered.items():
        tier.heat.note(table + (pc - BASE) * 8, hart, pc, mode)
    tier.done.clear()
    job = tier.job(table + (entered[head] - BASE) * 8)
    made = Builder(tier.cold).build(job)
    assert made is not None and tier.take(job, made)
    return {family for family, _ in made.source.where}


@pytest.mark.parametrize("head", HEADS, ids=HEADS.values())
def test_a_redirected_trap_stays_in_one_region(head: int) -> None:
    """Three modes in one region, whichever the loop is entered in, are the interpreter's to the word."""
    plain, forced = Bench("native", REDIRECTED), Bench("forced", REDIRECTED)
    for bench in (plain, forced):
        bench.run(3_000)
    assert redirected_region(forced, head) == {0, *(1 + mode for mode in HEADS if mode != head)}
    for length in (2_177, 2_301, 6_000, 1):
        for bench in (plain, forced):
            bench.run(length)
        assert everything(forced) == everything(plain)


def test_a_return_leads_only_where_code_runs_often() -> None:
    """Where no sample fell into a mode, a region does not take its code for what is returned to."""
    bench = Bench("forced", REDIRECTED)
    bench.run(3_000)
    hart, table = bench.hart, int(bench.hart.code_table)
    here = Surroundings(hart, lambda va, mode: bench.engine.tier.heat.is_reached(table, va, mode))
    assert here.returns(MODE_HS) == []
    guest = int(hart.vstvec)
    bench.engine.tier.heat.note(table + (guest - BASE) * 8, hart, guest, MODE_VS)
    assert (guest, MODE_VS) in here.returns(MODE_HS)


def test_a_region_leaves_to_hosted_software() -> None:
    """A call that hosted HS-mode handles leaves its region with the interpreter's state, and comes back behind it."""
    plain, forced = Bench("native", REDIRECTED), Bench("forced", REDIRECTED)
    for bench in (plain, forced):
        bench.run(3_000)
        bench.hart.hosted_hs = 1
        while bench.hart.exit_reason != EXIT_HOSTED_HS:
            bench.run(100)
    assert redirected_region(forced, MODE_VU) == {0}
    for _ in range(30):
        for bench in (plain, forced):
            hart = bench.hart
            hart.sepc = int(hart.sepc) + 4
            sret(hart)
            hart.pc, hart.exit_reason = int(hart.next_pc), 0
            bench.run(1_000)
            assert hart.exit_reason == EXIT_HOSTED_HS
        assert everything(forced) == everything(plain)


def test_what_hosted_software_handles_leads_nowhere() -> None:
    """A call that reaches hosted HS-mode has no handler that a region could hold; the level is known."""
    bench = Bench("forced", REDIRECTED)
    bench.run(3_000)
    here = Surroundings(bench.hart, lambda va, mode: True)
    assert here.handler(MODE_VU) == (int(bench.hart.stvec), MODE_HS)
    assert here.hosted(MODE_VU) is None
    bench.hart.hosted_hs = 1
    assert here.handler(MODE_VU) is None
    assert here.hosted(MODE_VU) == TO_HS


TEMPLATE = """{p}0:
  %{p}a = getelementptr inbounds i8, ptr %st, i64 552
  %{p}b = load i64, ptr %{p}a
  %{p}c = icmp eq i64 {virt}, 0
  br i1 %{p}c, label %{p}one, label %{p}two
{p}one:
  %{p}d = getelementptr inbounds i8, ptr %st, i64 %{p}b
  store i64 1, ptr %{p}d
  br label %{on}
{p}two:
  %{p}e = phi i64 [ %{p}b, %{p}0 ]
  store i64 %{p}e, ptr %{p}a
  br label %{on}"""


def test_what_a_mode_rules_out_is_left_away() -> None:
    """A template in a known mode lacks the blocks of other modes, and what comes to one value is that value."""
    assert pruned(TEMPLATE, "0", "1", "0").split("\n")[-3:] == [
        "{p}two:",
        "  store i64 %{p}b, ptr %{p}a",
        "  br label %{on}",
    ]


def test_a_word_that_may_be_reached_otherwise_is_not_held() -> None:
    """A store to an address that is not known keeps all words in the state; without it the word is held."""
    assert held_words([pruned(TEMPLATE, "0", "0", "0")]) == frozenset()
    assert held_words([pruned(TEMPLATE, "0", "1", "0")]) == {552}
    assert "  store i64 %{p}b, ptr %w69" in hold(pruned(TEMPLATE, "0", "1", "0"), frozenset({552}))


def test_a_choice_of_words_becomes_one_of_values() -> None:
    """A load through one of two addresses becomes two loads, so that the words may be held."""
    text = "x:\n  %o = select i1 %c, i64 656, i64 1840\n  %p = getelementptr inbounds i8, ptr %st, i64 %o\n"
    lines = by_value(text + "  %v = load i64, ptr %p").split("\n")
    assert lines[-1] == "  %v = select i1 %c, i64 %v.a, i64 %v.b"

"""Stops: breakpoints, watchpoints, catches of traps and of CSR writes, exact and the same on both engines."""

from __future__ import annotations

import random

import pytest

from tests.engine.harness import BASE, Bench
from trapline.lang.control import EXIT_BREAK, EXIT_LIMIT
from trapline.privilege import csr_numbers as csr
from trapline.privilege.derived import update_derived
from trapline.privilege.isa_string import DEFAULT_ISA
from trapline.privilege.pte import PTE_A, PTE_D, PTE_R, PTE_V, PTE_W, PTE_X

ALL = ("reference", "native", "forced", "tiered")
LOOP = """
 li a0, 0
 li a1, 400
loop: addi a0, a0, 1
 addi a2, a0, 3
 sd a2, 64(s0)
 ld a3, 64(s0)
 bne a0, a1, loop
end: j end
"""
LOOP_AT = BASE + 8
DATA = BASE + 0x8000


def bench(engine: str, source: str = LOOP) -> Bench:
    made = Bench(engine, source)
    made.hart.x[8] = DATA
    return made


def hits(made: Bench, limit: int, most: int = 10_000) -> list[tuple[int, int, int, str]]:
    """Run on from stop to stop; each with the address, pc, attempts so far, and its kind."""
    found = []
    end = int(made.hart.instret) + limit
    for _ in range(most):
        reason = made.run(end - int(made.hart.instret))
        if reason == EXIT_LIMIT:
            return found
        assert reason == EXIT_BREAK
        hit = made.engine.stops.hit(made.hart, 0)
        found.append((hit.address, int(made.hart.pc), int(made.hart.instret), hit.stop.kind))
    return found


@pytest.mark.parametrize("engine", ALL)
def test_a_breakpoint_comes_before_its_instruction(engine: str) -> None:
    """A run comes back before each execution of the instruction, and goes on past it."""
    made = bench(engine)
    made.engine.stops.breakpoint(LOOP_AT + 4)
    found = hits(made, 14)
    assert [(pc, at) for _, pc, at, _ in found] == [(LOOP_AT + 4, 3), (LOOP_AT + 4, 8), (LOOP_AT + 4, 13)]


@pytest.mark.parametrize("engine", ALL)
def test_counting_breakpoints_never_end_a_run(engine: str) -> None:
    """A counting breakpoint counts each execution, others beside it included, and the run goes to its limit."""
    made = bench(engine)
    counts = [made.engine.stops.breakpoint(LOOP_AT + 4 * n, counting=True) for n in range(5)]
    assert made.run(3000) == EXIT_LIMIT
    assert ([stop.count for stop in counts], int(made.hart.x[10])) == ([400] * 5, 400)


@pytest.mark.parametrize("engine", ALL)
def test_ignored_hits(engine: str) -> None:
    """A breakpoint with `ignore` ends the run at the hit after so many."""
    made = bench(engine)
    stop = made.engine.stops.breakpoint(LOOP_AT, ignore=199)
    assert made.run(3000) == EXIT_BREAK
    assert (int(made.hart.x[10]), stop.count) == (199, 200)


@pytest.mark.parametrize("engine", ALL)
def test_stops_come_and_go(engine: str) -> None:
    """A stop that is set in hot code holds at once, keeps its count beside others, and is gone when it is removed."""
    made = bench(engine)
    assert made.run(1000) == EXIT_LIMIT
    counting = made.engine.stops.breakpoint(LOOP_AT, counting=True)
    assert made.run(250) == EXIT_LIMIT
    stop = made.engine.stops.breakpoint(LOOP_AT + 8)
    assert made.run(500) == EXIT_BREAK
    before = counting.count
    made.engine.stops.remove(stop)
    assert made.run(250) == EXIT_LIMIT
    assert (before, counting.count) == (51, 101)


@pytest.mark.parametrize("engine", ALL)
def test_the_last_stop_goes(engine: str) -> None:
    """When the last stop is removed, of whatever kind, the run goes on as one without."""
    made = bench(engine)
    for add in (
        lambda stops: stops.breakpoint(LOOP_AT),
        lambda stops: stops.breakpoint(LOOP_AT, physical=True),
        lambda stops: stops.watch(LOOP_AT, 8, execute=True),
        lambda stops: stops.watch(DATA, 128, write=True),
        lambda stops: stops.catch_csr(csr.MEPC),
    ):
        stop = add(made.engine.stops)
        made.run(100)
        made.engine.stops.remove(stop)
        assert made.run(100) == EXIT_LIMIT


@pytest.mark.parametrize("engine", ALL)
def test_physical_breakpoints(engine: str) -> None:
    """A physical breakpoint holds where the bytes of the instruction lie."""
    made = bench(engine)
    made.engine.stops.breakpoint(LOOP_AT + 12, physical=True)
    assert [pc for _, pc, _, _ in hits(made, 13)] == [LOOP_AT + 12] * 2


@pytest.mark.parametrize("engine", ALL)
def test_modes_and_spaces(engine: str) -> None:
    """A breakpoint of another mode or address space is none."""
    made = bench(engine)
    made.engine.stops.breakpoint(LOOP_AT, modes=["U", "VS"])
    made.engine.stops.breakpoint(LOOP_AT, space=(0xFFFF << 44, 1 << 44))
    assert made.run(500) == EXIT_LIMIT
    made.engine.stops.breakpoint(LOOP_AT, modes=["M"], space=(0xFFFF << 44, 0))
    assert made.run(500) == EXIT_BREAK


@pytest.mark.parametrize("engine", ALL)
def test_watchpoints_come_behind_the_access(engine: str) -> None:
    """A run comes back behind an access of the kind that is watched to any of the bytes, with its effect in place."""
    made = bench(engine)
    made.engine.stops.watch(DATA + 68, 1, write=True)
    made.engine.stops.watch(DATA + 64, 4, read=True, physical=True)
    made.engine.stops.watch(DATA + 72, 8, read=True, write=True)
    found = hits(made, 12)
    assert [(address, pc, at) for address, pc, at, _ in found] == [
        *((DATA + 64, LOOP_AT + 12, 5), (DATA + 64, LOOP_AT + 16, 6)),
        *((DATA + 64, LOOP_AT + 12, 10), (DATA + 64, LOOP_AT + 16, 11)),
    ]
    assert int(made.hart.x[13]) == 5


@pytest.mark.parametrize("engine", ALL)
def test_watched_code(engine: str) -> None:
    """A watched range of code stops before each of its instructions."""
    made = bench(engine)
    made.engine.stops.watch(LOOP_AT + 2, 8, execute=True)
    assert [pc - LOOP_AT for _, pc, _, _ in hits(made, 12)] == [4, 8, 4, 8]


ATOMICS = """
 addi t0, s0, 8
 lr.d a0, (t0)
 sc.d a1, t0, (t0)
 amoadd.w a2, a1, (t0)
 fmv.d.x fa0, a0
 fsd fa0, 8(s0)
 fld fa1, 8(s0)
 cbo.zero (s0)
 sd t0, 16(s0)
end: j end
"""


@pytest.mark.parametrize("engine", ALL)
def test_each_kind_of_access_is_watched(engine: str) -> None:
    """LR reads, SC writes, an AMO does both, floating-point loads and stores and cbo.zero are accesses like others."""
    made = bench(engine, ATOMICS)
    made.hart.mstatus = 1 << 13
    made.hart.call(update_derived)
    reads = made.engine.stops.watch(DATA + 8, 8, read=True, counting=True)
    writes = made.engine.stops.watch(DATA + 8, 8, write=True, counting=True)
    assert made.run(20) == EXIT_LIMIT
    assert (reads.count, writes.count) == (3, 4)


ONE_HIT = {
    "an AMO": (" amoadd.w a0, a0, (s0)\n amoswap.d a0, a0, (s0)", DATA, 8),
    "across pages": (" li t0, 0xffd\n add s1, s0, t0\n ld a0, 0(s1)\n sd a0, 0(s1)", DATA + 0xFF0, 32),
    "in the other page": (" li t0, 0xffd\n add s1, s0, t0\n ld a0, 0(s1)\n sd a0, 0(s1)", DATA + 0x1004, 8),
}


@pytest.mark.parametrize("physical", [False, True])
@pytest.mark.parametrize("kind", list(ONE_HIT))
@pytest.mark.parametrize("engine", ALL)
def test_an_instruction_hits_a_watchpoint_once(engine: str, kind: str, physical: bool) -> None:
    """An AMO that reads and writes, and an access with bytes of a range in two pages, are one hit each."""
    source, at, size = ONE_HIT[kind]
    made = Bench(engine, source + "\nend: j end", isa=f"{DEFAULT_ISA}_zicclsm")
    made.hart.x[8] = DATA
    made.engine.stops.watch(at, size, read=True, write=True, physical=physical)
    counter = made.engine.stops.watch(at, size, read=True, write=True, physical=physical, counting=True)
    assert len(hits(made, 60)) == counter.count == 2


@pytest.mark.parametrize("engine", ALL)
def test_accesses_as_another_mode_are_watched(engine: str) -> None:
    """HLV and HLVX read, HSV writes, and an access with MPRV is one like others."""
    made = bench(
        engine, " hsv.d a0, (s0)\n hlv.w a0, (s0)\n hlvx.wu a0, (s0)\n csrs mstatus, t0\n ld a0, 0(s0)\nend: j end"
    )
    made.hart.x[5] = 1 << 17 | 3 << 11
    made.hart.pmpaddr[0], made.hart.pmpcfg[0], made.hart.pmp_active = (1 << 54) - 1, 0x1F, 1
    made.hart.call(update_derived)
    reads = made.engine.stops.watch(DATA, 4, read=True, counting=True)
    made.engine.stops.watch(DATA, 4, write=True, physical=True)
    assert [pc - BASE for _, pc, _, _ in hits(made, 20)] == [4]
    assert reads.count == 3


@pytest.mark.parametrize("engine", ALL)
def test_a_page_walk_hits_no_watchpoint(engine: str) -> None:
    """The hart's own reads of page tables, and its writes of A and D, are no accesses of an instruction."""
    made = paged(engine)
    made.hart.menvcfg = 1 << 61
    made.hart.call(update_derived)
    leaf = BASE + 0x12000
    bare = BASE >> 2 | PTE_V | PTE_R | PTE_W | PTE_X
    made.write(leaf + 8, bare.to_bytes(8, "little"))
    made.write(leaf + 16, (DATA - BASE + (bare << 2 & ~0xFFF) >> 2 | bare & 0x3FF).to_bytes(8, "little"))
    made.engine.stops.watch(BASE + 0x10000, 0x3000, read=True, write=True, physical=True)
    assert hits(made, 40) == []
    assert made.regions.read(leaf + 16, 1)[0] & (PTE_A | PTE_D) == PTE_A | PTE_D


@pytest.mark.parametrize("engine", ALL)
def test_the_last_bytes_of_the_address_space_are_watched(engine: str) -> None:
    """A range that ends with the last address holds for its last byte, and an access that ends there hits it."""
    made = paged(engine)
    entry = DATA >> 2 | PTE_V | PTE_R | PTE_W | PTE_A | PTE_D
    for at in (BASE + 0x10000, BASE + 0x11000):
        made.write(at + 511 * 8, (at + 0x1000 >> 2 | PTE_V).to_bytes(8, "little"))
    made.write(BASE + 0x12000 + 511 * 8, entry.to_bytes(8, "little"))
    made.hart.x[8] = (1 << 64) - 72
    last = made.engine.stops.watch((1 << 64) - 1, 1, read=True, counting=True)
    made.engine.stops.watch((1 << 64) - 8, 8, write=True)
    assert len(hits(made, 12)) == 2
    assert last.count == 2


TRAPS = """
 la t0, handler
 csrw mtvec, t0
 li a1, 40
loop: ecall
 lw a2, 1(s0)
 ebreak
 addi a1, a1, -1
 bnez a1, loop
end: j end
handler: csrr t1, mepc
 addi t1, t1, 4
 csrw mepc, t1
 mret
"""


@pytest.mark.parametrize("engine", ALL)
def test_traps_are_caught_at_their_handler(engine: str) -> None:
    """A caught trap ends the run when it is taken: its CSRs are written, and nothing of its handler has run."""
    made = bench(engine, TRAPS.replace("ebreak", ".word 0x00100073"))
    made.engine.stops.catch_trap([3], origins=["M"], destinations=["M"])
    made.engine.stops.catch_trap([8])
    calls = made.engine.stops.catch_trap([11], counting=True)
    assert made.run(5000) == EXIT_BREAK
    hit = made.engine.stops.hit(made.hart, 0)
    assert (int(made.hart.mcause), int(made.hart.mepc), hit.address) == (3, hit.address, int(made.hart.mepc))
    assert int(made.hart.pc) == int(made.hart.mtvec)
    assert len(hits(made, 2000)) == 39
    assert calls.count == 40


@pytest.mark.parametrize("engine", ALL)
def test_csr_writes_are_caught_before_they_happen(engine: str) -> None:
    """Each instruction that writes the CSR stops the run before it does; reads and writes of others do not."""
    made = bench(engine, TRAPS)
    made.engine.stops.catch_csr(csr.MEPC)
    found = hits(made, 40)
    assert len(found) > 2
    assert {(pc - int(made.hart.mtvec), kind) for _, pc, _, kind in found} == {(8, "csr")}


def paged(engine: str) -> Bench:
    """The loop in S-mode at another virtual address, Sv39."""
    made = bench(engine)
    root, middle, leaf = BASE + 0x10000, BASE + 0x11000, BASE + 0x12000
    flags = PTE_V | PTE_R | PTE_W | PTE_X | PTE_A | PTE_D
    entries = {root: middle >> 2 | PTE_V, middle: leaf >> 2 | PTE_V, leaf + 8: BASE >> 2 | flags}
    entries |= {leaf + 16: DATA >> 2 | flags, leaf + 24: BASE >> 2 | flags}
    for at, entry in entries.items():
        made.write(at, entry.to_bytes(8, "little"))
    made.hart.satp = 8 << 60 | 7 << 44 | root >> 12
    made.hart.priv, made.hart.pc, made.hart.x[8] = 1, 0x1000, 0x2000
    made.hart.pmpaddr[0], made.hart.pmpcfg[0], made.hart.pmp_active = (1 << 54) - 1, 0x1F, 1
    made.hart.call(update_derived)
    return made


@pytest.mark.parametrize("engine", ALL)
def test_virtual_addresses(engine: str) -> None:
    """A virtual breakpoint and watchpoint hold at their virtual address, whatever other addresses the page has."""
    made = paged(engine)
    made.engine.stops.breakpoint(0x1008, space=(0xFFFF << 44, 7 << 44))
    other = made.engine.stops.breakpoint(0x3008, counting=True)
    made.engine.stops.watch(0x2040, 8, write=True)
    found = hits(made, 14)
    assert [(pc, kind) for _, pc, _, kind in found] == [(0x1008, "code"), (0x1014, "watch")] * 2 + [(0x1008, "code")]
    assert other.count == 0


def random_program(seed: int) -> str:
    rng = random.Random(seed)
    lines, registers = [], ["a0", "a1", "a2", "a3", "a4", "t3", "t4"]
    for n in range(60):
        lines.append(f"l{n}:")
        a, b, c = (rng.choice(registers) for _ in range(3))
        lines.append(
            rng.choice(
                [
                    f"add {a}, {b}, {c}",
                    f"c.addi {a}, 1",
                    f"ld {a}, {8 * rng.randrange(16)}(s0)",
                    f"sd {a}, {8 * rng.randrange(16)}(s0)",
                    f"xor {a}, {a}, {b}",
                    f"beq {a}, {b}, l{rng.randrange(60)}",
                    f"blt {a}, {b}, l{rng.randrange(60)}",
                    "ecall",
                    f"csrrw {a}, mscratch, {b}",
                ]
            )
        )
    handler = "handler:" + TRAPS.partition("handler:")[2]
    return "\n".join(["la t0, handler", "csrw mtvec, t0", *lines, "j l0", handler])


def random_stops(made: Bench, seed: int) -> None:
    rng = random.Random(seed + 1000)
    stops = made.engine.stops
    for _ in range(rng.randrange(1, 12)):
        stops.breakpoint(BASE + 2 * rng.randrange(110), ignore=rng.choice([0, 0, 3, 50]), physical=rng.random() < 0.3)
    if rng.random() < 0.6:
        stops.watch(DATA + rng.randrange(128), rng.choice([1, 8, 17]), read=True, write=rng.random() < 0.5)
    if rng.random() < 0.4:
        stops.catch_trap([11], ignore=2)
    if rng.random() < 0.3:
        stops.catch_csr(csr.MSCRATCH, ignore=1)


def story(engine: str, seed: int) -> tuple[object, ...]:
    made = bench(engine, random_program(seed))
    rng = random.Random(seed + 2000)
    found: list[object] = []
    for _ in range(3):
        random_stops(made, rng.randrange(1 << 20))
        for _ in range(4):
            found.append(hits(made, rng.randrange(1, 2500), 60))
            found.append(made.state())
        for stop in list(made.engine.stops):
            found.append((stop.kind, stop.address, stop.count))
            if rng.random() < 0.5:
                made.engine.stops.remove(stop)
    return tuple(found)


@pytest.mark.parametrize("seed", range(4))
def test_engines_agree_on_every_stop(seed: int) -> None:
    """Random programs with random stops that come and go: every engine stops at the same places and counts the same."""
    expected = story("reference", seed)
    for engine in ALL[1:]:
        assert story(engine, seed) == expected, engine

"""Observed traps: round trips of known length, redirects, nesting, the same on both engines, and no other effect."""

from __future__ import annotations

import pytest
from machine_fakes import make_elf

from trapline.engine.observe import trips as observe
from trapline.engine.observe.trips import bucket_of
from trapline.isa.assemble import assemble
from trapline.machine.machine import Machine
from trapline.privilege.causes import INTERRUPT
from trapline.session.observe.observer import Kind, Observer, Sight, bucket_range
from trapline.session.observe.sampler import Sampler

BASE = 0x8000_0000
ECALL_U = 8
# M-mode opens memory, delegates ecalls of U to S, and enters U; S serves ecalls in 5 instructions, sret included; an
# illegal instruction goes to M, which hands it on to S (4 instructions there, mret included; S skips it with 5 more).
PROGRAM = """
    la t0, machine
    csrw mtvec, t0
    la t0, supervisor
    csrw stvec, t0
    li t0, 0x100
    csrw medeleg, t0
    li t0, -1
    csrw pmpaddr0, t0
    li t0, 0x1f
    csrw pmpcfg0, t0
    li t0, 0x1800
    csrc mstatus, t0
    la t0, user
    csrw mepc, t0
    mret
user:
    li s0, 0
1:  ecall
    addi s0, s0, 1
    andi t0, s0, 3
    bnez t0, 1b
    csrr t0, mhartid
    j 1b
.align 2
supervisor:
    csrr t1, sepc
    addi t1, t1, 4
    csrw sepc, t1
    nop
    sret
.align 2
machine:
    csrrw t2, mepc, t2
    csrw sepc, t2
    csrr t2, stvec
    csrw mepc, t2
    li t2, 0x800
    csrs mstatus, t2
    mret
"""


@pytest.fixture(params=["reference", "native"])
def engine(request: pytest.FixtureRequest) -> str:
    """Both engines."""
    return str(request.param)


def board(engine: str) -> Machine:
    """A board with the program above."""
    made = Machine(engine=engine, memory=1 << 20)
    made.load_elf(make_elf(assemble(PROGRAM, BASE), memory_size=0x1000))
    return made


def seen(made: Machine, instructions: int) -> Sight:
    """Run and look."""
    observer = Observer(made.harts)
    made.run(instructions)
    observer.stop()
    return observer.sight()


def test_round_trips_are_counted_to_the_instruction(engine: str) -> None:
    """A delegated call takes the handler's 5 instructions; one that M hands on takes M's and S's together."""
    sight = seen(board(engine), 3000)
    trips = {(t.kind.name, t.path, t.end): t for t in sight.trips}
    call = trips["syscall", ("U", "HS"), "next"]
    assert (call.least, call.most, call.mean, call.percentile(50), call.percentile(99)) == (5, 5, 5.0, 5, 5)
    illegal = trips["inst-illegal", ("U", "M", "HS"), "next"]
    assert illegal.least == illegal.most == 8 + 5
    assert len(trips) == 2
    assert abs(call.count - 4 * illegal.count) <= 4
    assert sight.counts[Kind(ECALL_U, "U", "HS")] - call.count in (0, 1)
    assert (sight.lost, sight.places_lost) == (0, 0)
    assert sight.open <= 1


def test_places_and_handlers_are_the_programs(engine: str) -> None:
    """Every ecall is raised at the one that there is, and handled at stvec."""
    made = board(engine)
    sight = seen(made, 2000)
    place = next(p for p in sight.places if p.kind.cause == ECALL_U)
    assert made.regions.read(place.pc, 4) == bytes.fromhex("73000000")
    assert place.count == sight.counts[Kind(ECALL_U, "U", "HS")]
    assert sight.handlers[Kind(ECALL_U, "U", "HS")] == int(made.harts[0].stvec)


def test_both_engines_see_the_same() -> None:
    """Counts, sums, extremes, histograms and places agree."""
    one, other = (seen(board(name), 5000) for name in ("reference", "native"))
    assert one == other


def test_observing_changes_nothing(engine: str) -> None:
    """Observed, followed or neither: the hart is in the same state after as many instructions."""
    plain, watched, followed = (board(engine) for _ in range(3))
    plain.run(4321)
    Observer(watched.harts)
    watched.run(4321)
    observer = Observer(followed.harts)
    observer.wait_for(1)
    followed.schedule.engine = Sampler(followed.schedule.engine, observer)
    followed.run(4321)
    for made in (watched, followed):
        for name in ("x", "pc", "instret", "not_retired", "mstatus", "sepc", "mepc", "trap_count", "mode_instret"):
            mine, theirs = getattr(made.harts[0], name), getattr(plain.harts[0], name)
            if name == "x":
                assert [int(v) for v in mine][:32] == [int(v) for v in theirs][:32]
            elif hasattr(mine, "__len__") and not isinstance(mine, int):
                assert [int(v) for v in mine] == [int(v) for v in theirs]
            else:
                assert mine == theirs, name


def test_a_followed_round_trip_has_every_instruction(engine: str) -> None:
    """The pcs of a followed trap are the handler's, in order, and the kind is followed again when it is warm."""
    made = board(engine)
    observer = Observer(made.harts)
    observer.wait_for(1)
    sampler = Sampler(made.schedule.engine, observer)
    made.schedule.engine = sampler
    made.run(2000)
    call = sampler.followed[Kind(ECALL_U, "U", "HS")]
    start = int(made.harts[0].stvec)
    assert call.whole
    assert [pc for _, pc in call.steps] == [start + 4 * n for n in range(5)]
    assert len(sampler.followed[Kind(2, "U", "M")].steps) == 13


def test_an_interrupt_within_a_trap_is_a_round_trip_of_its_own(engine: str) -> None:
    """The outer trap's time holds the inner one's; both are closed by their own returns."""
    source = f"""
        la t0, handler
        csrw mtvec, t0
        li t0, 0x2004000
        li t1, 3
        sd t1, 0(t0)
        li t1, 0x80
        csrw mie, t1
        ecall
    1:  j 1b
    .align 2
    handler:
        csrr t2, mcause
        bltz t2, 3f
        csrr s1, mepc
        csrr s2, mstatus
        csrsi mstatus, 8
        li t0, {150}
    2:  addi t0, t0, -1
        bnez t0, 2b
        csrci mstatus, 8
        addi s1, s1, 4
        csrw mepc, s1
        csrw mstatus, s2
        mret
    3:  li t1, 0x80
        csrc mie, t1
        mret
    """
    made = Machine(engine=engine, memory=1 << 20)
    made.load_elf(make_elf(assemble(source, BASE), memory_size=0x1000))
    trips = {t.kind.cause: t for t in seen(made, 1500).trips}
    inner, outer = trips[INTERRUPT | 7], trips[11]
    assert (inner.count, inner.end, inner.most) == (1, "same", 5)
    assert (outer.count, outer.end) == (1, "next")
    assert outer.most == 2 + 3 + 1 + 300 + 5 + inner.most


@pytest.mark.parametrize("value", [0, 1, 7, 8, 9, 15, 16, 100, 1023, 1024, 65537, 1 << 30])
def test_buckets_hold_their_values(value: int) -> None:
    """Each value lies in its bucket's range, whose width is an eighth of it or less."""
    from trapline.lang.values import U64

    low, high = bucket_range(int(bucket_of(U64(value))))
    assert low <= value <= high
    assert high - low <= max(0, value // 8)


def test_more_open_traps_than_there_are_places_are_lost_not_wrong(engine: str) -> None:
    """Nested deeper than the tables, the oldest are given up and counted as lost."""
    source = "la t0, handler\n csrw mtvec, t0\n li s0, 0\n ecall\n1: j 1b\n.align 2\nhandler: addi s0, s0, 1\n ecall"
    made = Machine(engine=engine, memory=1 << 20)
    made.load_elf(make_elf(assemble(source, BASE), memory_size=0x1000))
    sight = seen(made, 200)
    assert sum(sight.counts.values()) > observe.OPEN_SLOTS
    assert sight.lost == sum(sight.counts.values()) - observe.OPEN_SLOTS

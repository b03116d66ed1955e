"""Fetches see every store at once (Ziccid): native code, with and without regions, does what the reference does."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from tests.engine.harness import BASE, DEVICE, Bench
from trapline.engine.code_bytes import EMPTY
from trapline.engine.records import CODE_COUNT, PAGE_HOST, PLACES, STORED_AT
from trapline.isa.assemble import assemble
from trapline.lang.state import Hart
from trapline.machine.virtio.memory import BoardMemory
from trapline.privilege.isa_string import DEFAULT_ISA, configure
from trapline.privilege.reset import reset

ISA = DEFAULT_ISA + "_zicclsm"
LI_A0_5 = 0x00500513  # li a0, 5
LEAF = 0xCF  # D A X W R V


def alike(source: str, attempts: int, prepare: Callable[[Bench], None] = lambda bench: None) -> Bench:
    """Run a program on every engine; all end in the same state, which is that of the bench that is returned."""
    benches = [Bench(engine, source, isa=ISA) for engine in ("reference", "native", "forced")]
    for bench in benches:
        prepare(bench)
        bench.run(attempts)
    states = [bench.state() for bench in benches]
    assert states[1] == states[0]
    assert states[2] == states[0]
    return benches[1]


NEXT = {
    "word": "sw t1, 0(t0)",
    "half": "srli t2, t1, 16\n sh t2, 2(t0)",
    "byte": "srli t2, t1, 20\n slli t2, t2, 4\n sb t2, 2(t0)",
    "double": "slli t2, t1, 32\n srli t3, t1, 0\n or t2, t2, t3\n sd t2, 0(t0)",
    "amo": "amoswap.w zero, t1, (t0)",
    "sc": "lr.w zero, (t0)\n sc.w zero, t1, (t0)",
    "zero": "cbo.zero (t0)",
    "float": "fmv.w.x fa0, t1\n fsw fa0, 0(t0)",
    "misaligned": "addi t2, t0, -1\n slli t3, t1, 8\n ori t3, t3, 0x13\n sd t3, 0(t2)",
}


@pytest.mark.parametrize("store", NEXT.values(), ids=NEXT)
def test_a_store_to_the_next_instruction(store: str) -> None:
    """The instruction behind a store is fetched after it, whatever kind of store that is."""
    alike(
        f"""
        li t1, 0x6000
        csrw mstatus, t1
        la t4, trapped
        csrw mtvec, t4
        la t0, next
        li t1, {LI_A0_5}
        li s0, 4
    again:
        addi s1, s1, 1
        bltz s0, again
        {store}
    next:
        li a0, 1
        add s2, s2, a0
        addi s0, s0, -1
        addi t1, t1, 0
        bgtz s0, again
    end: j end
        .align 2
    trapped:
        csrr s3, mcause
        csrr s4, mepc
    stop: j stop
    """,
        120,
    )


def test_code_that_changes_itself_in_a_loop() -> None:
    """A loop that counts in the immediate of one of its own instructions, through its own address and a fused pair."""
    bench = alike(
        """
        la t0, patched
        lw t1, 0(t0)
        li t2, 0x00100000
        li s0, 40
    again:
        add t1, t1, t2
        sw t1, 0(t0)
        addi s1, s1, 1
    patched:
        addi a0, zero, 0
        add s2, s2, a0
        addi s0, s0, -1
        bnez s0, again
    end: j end
    """,
        40 * 7 + 20,
    )
    assert bench.hart.x[18] == sum((n + 2048) % 4096 - 2048 for n in range(1, 41))


def test_an_instruction_that_overwrites_itself() -> None:
    """A store to its own place has retired; the next time another instruction stands there."""
    alike(
        f"""
        li s0, 3
        li t1, {LI_A0_5}
        la t0, own
    again:
        addi s0, s0, -1
    own:
        sw t1, 0(t0)
        bnez s0, again
    end: j end
    """,
        40,
    )


def test_a_misaligned_store_across_pages_of_code() -> None:
    """Both parts of a store that crosses from one page of code into another are seen."""
    bench = alike(
        f"""
        li s0, 3
        li t1, {LI_A0_5 << 32 | LI_A0_5}
        la t0, across
        addi t0, t0, -3
    again:
        jal ra, target
        add s2, s2, a0
        slli t2, t1, 24
        addi t2, t2, 0x13
        sd t2, -1(t0)
        addi s0, s0, -1
        bnez s0, again
    end: j end
        .align 12
        .zero 4088
    target:
        li a0, 1
        li a0, 2
    across:
        addi s3, s3, 1
        ret
    """,
        80,
    )
    assert bench.hart.x[18] != 3 * 2


def test_one_page_at_two_addresses() -> None:
    """Code that runs at one virtual address is patched through another, and through a third."""
    source = f"""
        li t0, {8 << 60 | BASE + 0x8000 >> 12}
        csrw satp, t0
        li t0, 0x800
        csrw mstatus, t0
        la t0, supervisor
        csrw mepc, t0
        la t0, trapped
        csrw mtvec, t0
        li s4, 0x40000000
        li s5, 0x40001000
        li s6, 0x40002000
        li t1, {LI_A0_5}
        li s0, 6
        mret
    supervisor:
        jalr ra, 0(s4)
        add s2, s2, a0
        sw t1, 0(s5)
        jalr ra, 0(s6)
        add s3, s3, a0
        addi t1, t1, 256
        slli t2, s0, 20
        add t1, t1, t2
        sw t1, 0(s6)
        addi s0, s0, -1
        bnez s0, supervisor
    end: j end
        .align 2
    trapped: j trapped
    """

    def prepare(bench: Bench) -> None:
        root, middle, leaves, code = (BASE + 0x8000 + 0x1000 * n for n in range(4))
        entries = {root + 16: (BASE >> 12) << 10 | LEAF, root + 8: (middle >> 12) << 10 | 1}
        entries[middle] = (leaves >> 12) << 10 | 1
        entries |= {leaves + 8 * n: (code >> 12) << 10 | LEAF for n in range(3)}
        for place, entry in entries.items():
            bench.write(place, struct.pack("<Q", entry))
        bench.write(code, assemble("li a0, 1\n ret", 0))

    bench = alike(source, 140, prepare)
    assert bench.hart.x[8] == 0


def exec_kernel(bench: Bench) -> None:
    """The tables of a kernel that runs one program after the other in two address spaces: pages are reused."""
    table = BASE + 0x20000
    for space in range(2):
        root, middle, leaves = (table + 0x3000 * space + 0x1000 * n for n in range(3))
        entries = {root + 16: (BASE >> 12) << 10 | LEAF, root: (middle >> 12) << 10 | 1}
        entries[middle] = (leaves >> 12) << 10 | 1
        for place, entry in entries.items():
            bench.write(place, struct.pack("<Q", entry))


EXEC = f"""
    li t0, 0x800
    csrw mstatus, t0
    la t0, kernel
    csrw mepc, t0
    li t0, -1
    csrw medeleg, t0
    la t0, back
    csrw stvec, t0
    li s0, 14
    li s1, {BASE + 0x10000}
    li s2, {BASE + 0x22000}
    li s7, {8 << 60 | BASE + 0x20000 >> 12}
    mret
kernel:
    li t1, 24
    mv t2, s1
junk:
    sd s0, 0(t2)
    addi t2, t2, 8
    addi t1, t1, -1
    bnez t1, junk
    slli t1, s0, 20
    addi t1, t1, 0x513
    sw t1, 0(s1)
    li t1, 0x73
    sw t1, 4(s1)
    srli t1, s1, 2
    addi t1, t1, 0xdf
    sd t1, 8(s2)
    csrw satp, s7
    sfence.vma
    li t1, 0x100
    csrc sstatus, t1
    li t1, 0x1000
    csrw sepc, t1
    sret
    .align 2
back:
    csrr t1, scause
    addi t1, t1, -8
    add s8, s8, t1
    sub t1, a0, s0
    snez t1, t1
    add s9, s9, t1
    li t1, 0x1000
    xor s1, s1, t1
    addi s0, s0, -1
    beqz s0, end
    andi t2, s0, 1
    beqz t2, kernel
    li t1, 0x3000
    add s2, s2, t1
    li t3, 3
    add s7, s7, t3
    andi t2, s0, 2
    beqz t2, kernel
    li t1, -0x6000
    add s2, s2, t1
    addi s7, s7, -6
    j kernel
end: j end
"""


def test_a_kernel_that_reuses_pages_without_a_fence() -> None:
    """New programs in pages that held others: satp and sfence.vma are all that follows, as in kernels made for QEMU."""
    bench = alike(EXEC, 14 * (40 + 4 * 24), exec_kernel)
    assert bench.hart.x[8] == 0
    assert (bench.hart.x[24], bench.hart.x[25]) == (0, 0)


def test_the_walker_writes_to_code() -> None:
    """A PTE that is executed is another instruction after the walker has set its A bit."""
    source = f"""
        li t0, {1 << 61}
        csrw menvcfg, t0
        li t0, {8 << 60 | BASE + 0x8000 >> 12}
        csrw satp, t0
        la t0, trapped
        csrw mtvec, t0
        li s0, {BASE + 0xA000}
        jalr ra, 0(s0)
        li t0, 0x20800
        csrw mstatus, t0
        li t1, 0x40000000
        lb t2, 0(t1)
        csrw mstatus, zero
        jalr ra, 0(s0)
    end: j end
        .align 2
    trapped:
        csrr t3, mepc
        sub t3, t3, s0
        slli s3, s3, 4
        add s3, s3, t3
        jr ra
    """

    def prepare(bench: Bench) -> None:
        root, middle, leaves = (BASE + 0x8000 + 0x1000 * n for n in range(3))
        for place, entry in {
            root + 8: (middle >> 12) << 10 | 1,
            middle: (leaves >> 12) << 10 | 1,
            leaves: (BASE >> 12) << 10 | 0x8F,  # a fence, then zeros, which trap; with A an nmadd.s, which traps
        }.items():
            bench.write(place, struct.pack("<Q", entry))

    bench = alike(source, 60, prepare)
    assert bench.hart.x[19] == 0x40


class Writer:
    """A device that writes an instruction to the address that a driver stores to it."""

    def __init__(self, memory: BoardMemory, code: bytes) -> None:
        self.memory, self.code = memory, code

    def load(self, hart: Hart, offset: int, size: int) -> int:
        return 0

    def store(self, hart: Hart, offset: int, size: int, value: int) -> None:
        self.memory.view(value, len(self.code), write=True)[:] = self.code
        self.memory.written(value, len(self.code))


@pytest.mark.parametrize("jump", ["", "jal ra, target\n"], ids=["next", "called"])
def test_a_device_writes_to_code(jump: str) -> None:
    """DMA into code that has run, also into the instruction behind the store that starts it."""

    def prepare(bench: Bench) -> None:
        writer = Writer(BoardMemory(bench.regions, bench.engine), LI_A0_5.to_bytes(4, "little"))
        bench.device.store = writer.store  # type: ignore[method-assign]

    bench = alike(
        f"""
        li s0, 5
        li s1, {DEVICE}
        la t0, target
    again:
        jal ra, target
        sd t0, 0(s1)
        {jump}
        addi s0, s0, -1
        bnez s0, again
    end: j end
    target:
        li a0, 1
        add s2, s2, a0
        ret
    """,
        90,
        prepare,
    )
    assert bench.hart.x[18] == (1 + 5 * 4 if not jump else 1 + 5 * 9)


def test_stores_of_another_hart() -> None:
    """Code that one hart has run is patched by another, in turns, also where both have stored to the page before."""
    source = f"""
        csrr s5, mhartid
        la t0, target
        li t1, {LI_A0_5}
        bnez s5, other
    first:
        jal ra, target
        add s2, s2, a0
        j first
    other:
        li t2, 0x00100000
    patch:
        add t1, t1, t2
        sw t1, 0(t0)
        jal ra, target
        add s3, s3, a0
        j patch
        .align 12
    target:
        li a0, 1
        ret
    """
    results = []
    for engine in ("reference", "native", "forced"):
        bench = Bench(engine, source)
        second = Hart()
        configure(second, DEFAULT_ISA)
        reset(second, 1, BASE)
        bench.regions.install(second)
        bench.engine.attach(second)
        for turn in range(60):
            for hart in (bench.hart, second):
                bench.engine.run(hart, 1 + turn % 17)
        results.append([int(hart.x[n]) for hart in (bench.hart, second) for n in (1, 10, 18, 19)])
    assert results[1] == results[0]
    assert results[2] == results[0]


def test_the_host_writes_to_code() -> None:
    """What a loader writes into memory between two runs is what runs then."""
    benches = [Bench(engine, "again: addi s1, s1, 1\n j again") for engine in ("native", "forced", "reference")]
    for bench in benches:
        bench.run(1000)
        bench.write(BASE, assemble("addi s1, s1, 3", BASE))
        bench.run(1000)
        assert bench.hart.x[9] == 500 + 3 * 500


def word(bench: Bench, offset: int, page: int) -> int:
    """A word that the engine keeps of a page."""
    (found,) = (p for p in bench.engine.code.by_table.values() if p.host == bench.regions.find(BASE).host + page)
    return int(found.words[offset - PAGE_HOST >> 3])


def test_a_page_whose_code_is_gone_is_a_page_of_data() -> None:
    """When all code of a page is overwritten, stores to it need no look any more; running it again is seen again."""
    source = f"""
        li s0, 50
        li s1, {BASE + 0x3000}
    again:
        li t1, {LI_A0_5}
        add t1, t1, s2
        sw t1, 0(s1)
        li t1, 0x8067
        sw t1, 4(s1)
        jalr ra, 0(s1)
        sd zero, 0(s1)
        sd zero, 8(s1)
        addi s0, s0, -1
        bnez s0, again
    end: j end
    """
    bench = alike(source, 50 * 13 + 10)
    assert word(bench, CODE_COUNT, 0x3000) == 0
    assert [word(bench, STORED_AT + 8 * n, 0x3000) for n in range(PLACES)] == [BASE + 0x3000, *[EMPTY] * (PLACES - 1)]


def test_many_stores_beside_code() -> None:
    """Data beside code may be written for ever: now and then the code is decoded anew, twice as late each time."""
    source = """
        la s1, data
    again:
        sd s2, 0(s1)
        sb s2, 9(s1)
        addi s2, s2, 1
        ld t0, 0(s1)
        add s3, s3, t0
        j again
        .balign 8
    data: .zero 16
    """
    plain, forced = Bench("native", source), Bench("forced", source)
    for bench in (plain, forced):
        bench.run(600_000)
    assert plain.state() == forced.state()
    for bench in (plain, forced):
        (page,) = bench.engine.code.by_table.values()
        assert 4 <= page.epoch <= 6

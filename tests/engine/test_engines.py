"""Both engines do the same at every instruction count, and the native one keeps the promises of a fast engine."""

from __future__ import annotations

import pytest

from tests.engine.harness import BASE, DEVICE, Bench
from trapline.engine.native import NativeEngine
from trapline.lang.control import EXIT_LIMIT
from trapline.privilege.isa_string import DEFAULT_ISA

LOOP = """
    li s0, 700
    la t0, handler
    csrw mtvec, t0
again:
    addi s1, s1, 3
    mul s2, s1, s0
    andi t1, s0, 7
    bnez t1, skip
    ecall
skip:
    jal ra, function
    addi s0, s0, -1
    bnez s0, again
end: j end
function:
    xor s3, s3, s2
    ret
.align 2
handler:
    csrr t2, mepc
    addi t2, t2, 4
    csrw mepc, t2
    csrr t3, minstret
    add s4, s4, t3
    mret
"""


@pytest.mark.parametrize("limit", [1, 2, 3, 10, 97, 500, 2099, 2100, 2101, 4567])
def test_exact_counts(limit: int) -> None:
    """After any number of attempts both engines stand at the same instruction with the same state."""
    native, reference = Bench("native", LOOP), Bench("reference", LOOP)
    assert native.run(limit) == EXIT_LIMIT
    assert reference.run(limit) == EXIT_LIMIT
    assert native.state() == reference.state()


def test_slices_do_not_matter() -> None:
    """The same attempts in slices of any length end in the same state."""
    whole, parts = Bench("native", LOOP), Bench("native", LOOP)
    whole.run(6000)
    for size in (1, 2, 7, 90, 2100, 2500, 1300):
        parts.run(size)
    assert whole.state() == parts.state()


PATCHES = {
    "misaligned": "li t1, 0x5005\n sh t1, 5(t0)",
    "part of a page under PMP": "csrw pmpcfg0, t3\n sw t1, 4(t0)\n csrw pmpcfg0, zero",
    "hsv": "li t3, 0x1f00\n csrw pmpcfg0, t3\n hsv.w t1, (t2)\n csrw pmpcfg0, zero",
    "sc": "csrw pmpcfg0, t3\n lr.w zero, (t2)\n sc.w zero, t1, (t2)\n csrw pmpcfg0, zero",
    "amo": "csrw pmpcfg0, t3\n amoswap.w zero, t1, (t2)\n csrw pmpcfg0, zero",
    "cbo.zero": "csrw pmpcfg0, t3\n cbo.zero (t0)\n csrw pmpcfg0, zero",
}


def around_patch(body: str) -> str:
    """A program whose body may patch and call `patch`: t0 is where that is, t1 an instruction for it."""
    return f"""
        la t0, patch
        addi t2, t0, 4
        csrw pmpcfg0, zero
        srli t1, t0, 2
        addi t1, t1, 64
        csrw pmpaddr0, t1
        li t3, -1
        csrw pmpaddr1, t3
        li t3, 0x1f17
        li t1, 0x100
        csrw hstatus, t1
        li t1, 0x00500513
        la t4, handler
        csrw mtvec, t4
        {body}
    end: j end
    .align 2
    handler:
        csrr s4, mcause
        jr ra
    .align 12
    patch:
        addi s3, s3, 1
        addi a0, zero, 1
        add s2, s2, a0
        ret
    """


@pytest.mark.parametrize("patch", PATCHES.values(), ids=PATCHES)
def test_every_kind_of_store_to_code_is_seen(patch: str) -> None:
    """The next fetch sees a store, those too that do not go through a cached translation."""
    source = around_patch(f"jal ra, patch\n{patch}\njal ra, patch\n")
    native, reference = (Bench(e, source, isa=DEFAULT_ISA + "_zicclsm") for e in ("native", "reference"))
    for bench in (native, reference):
        bench.run(100)
    assert native.state() == reference.state()
    assert native.hart.x[18] == 6 or native.hart.x[20] == 2


def test_stores_to_code_are_seen() -> None:
    """An instruction overwritten by the program runs in its new form."""
    source = """
        la t0, patch
        li t1, 0x00500513
        li s1, 3
    again:
        jal ra, patch
        sw t1, 0(t0)
        addi s1, s1, -1
        bnez s1, again
    end: j end
    .align 2
    patch:
        addi a0, zero, 1
        add s2, s2, a0
        ret
    """
    native, reference = Bench("native", source), Bench("reference", source)
    for bench in (native, reference):
        bench.run(200)
    assert native.state() == reference.state()
    assert native.hart.x[18] == 1 + 5 + 5


def test_instruction_across_pages() -> None:
    """A 32-bit instruction whose halves lie in two pages runs, alone and in a loop, at any budget."""
    source = "loop: addi s0, s0, 1\n bne s0, s1, loop\nend: j end"
    for limit in (1, 2, 3, 50, 150, 4000):
        benches = [Bench(engine, source, at=4094) for engine in ("native", "reference")]
        for bench in benches:
            bench.hart.x[9] = 1000
            bench.run(limit)
        assert benches[0].state() == benches[1].state()


def test_patched_second_half() -> None:
    """The second half of an instruction across pages is compared each time it runs."""
    bench = Bench("native", "loop: addi s0, s0, 1\n j loop", at=4094)
    bench.run(10)
    before = int(bench.hart.x[8])
    bench.write(BASE + 4096, (0x0024_0413 >> 16).to_bytes(2, "little"))  # addi s0, s0, 2
    bench.run(2)
    assert int(bench.hart.x[8]) == before + 2


def test_instruction_across_pages_with_a_second_half_of_ones() -> None:
    """Every second half is one that an instruction across pages may have, 0xffff too."""
    bench = Bench("native", "addi s0, t6, -1\nend: j end", at=4094)
    bench.hart.x[31] = 8
    bench.run(3)
    assert bench.hart.x[8] == 7


def test_a_patch_of_a_second_half() -> None:
    """An instruction whose second half was patched runs anew, and its neighbours as before."""
    source = """
        li s3, 3
        li t1, 0x24
        la t0, patch
    loop:
        addi s0, s0, 1
    patch:
        addi s1, s1, 1
        addi s2, s2, 4
        addi s3, s3, -1
        sh t1, 2(t0)
        bnez s3, loop
    end:
        j end
    """
    native, reference = Bench("native", source), Bench("reference", source)
    native.run(60)
    reference.run(60)
    assert native.state() == reference.state()
    assert [int(native.hart.x[i]) for i in (8, 9, 18)] == [3, 1 + 2 + 2, 12]


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_device_accesses_happen_once(engine: str) -> None:
    """A load and a store to a device reach it once each, with offset, size and value."""
    bench = Bench(engine, f"li t0, {DEVICE:#x}\n lw a0, 8(t0)\n sb a0, 3(t0)\nend: j end")
    bench.run(40)
    assert bench.device.log == [("load", 8, 4), ("store", 3, 0x88)]
    assert bench.hart.x[10] == 0x55667788


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_device_exception_reaches_the_caller(engine: str) -> None:
    """An exception that a device raises is raised by run()."""
    bench = Bench(engine, f"li t0, {DEVICE:#x}\n sd t0, 0(t0)\nend: j end")
    bench.device.fails = ValueError("broken device")
    with pytest.raises(ValueError, match="broken device"):
        bench.run(40)


def test_pages_under_finer_pmp_run() -> None:
    """A page of which PMP permits only a part still runs, one instruction at a time, with the same traps."""
    source = """
        la t0, handler
        csrw mtvec, t0
        la t0, user
        srli t1, t0, 2
        csrw pmpaddr0, t1
        addi t1, t1, 4
        csrw pmpaddr1, t1
        li t1, 0x0f00
        csrw pmpcfg0, t1
        csrw mepc, t0
        mret
    .align 4
    user:
        addi s0, s0, 1
        addi s0, s0, 1
        addi s0, s0, 1
        addi s0, s0, 1
        addi s0, s0, 1
    .align 2
    handler: j handler
    """
    benches = [Bench(engine, source) for engine in ("native", "reference")]
    for bench in benches:
        bench.run(60)
    assert benches[0].state() == benches[1].state()
    assert benches[0].hart.mcause == 1
    assert benches[0].hart.x[8] == 4


def test_handler_code_budget() -> None:
    """No fast handler of an integer instruction grows beyond its budget of code bytes."""
    symbols = sorted((address, name) for name, address in NativeEngine().symbols.items())
    sizes = {name: symbols[i + 1][0] - address for i, (address, name) in enumerate(symbols[:-1])}
    budgets = {"h.addi_4": 64, "h.add_2": 64, "h.ld_4": 160, "h.sd_4": 160, "h.beq_4b": 128, "h.jalr_4": 256}
    budgets |= {"h.mul_4": 64, "h.csrrs_4@142": 256, "h.fadd.d_4": 320, "h.amoadd.d_4": 192}
    over = {name: sizes[name] for name, budget in budgets.items() if sizes[name] > budget}
    assert not over


def test_second_of_a_pair_is_patched_and_jumped_to() -> None:
    """Two neighbours that run as one are two again for a jump between them, for a patch, and for a budget."""
    source = """
        la t0, second
        li t1, 0x00700513
        li s1, 4
        la t3, first
    again:
        jal ra, first
        jal ra, second
        beqz s3, unpatched
        sw t1, 0(t0)
        fence.i
    unpatched:
        addi s3, s3, 1
        addi s1, s1, -1
        bnez s1, again
    end: j end
    .align 2
    first:
        add s4, s4, s1
    second:
        add s5, s5, s4
        add s2, s2, a0
        ret
    """
    for limit in (*range(5, 60, 3), 200):
        native, reference = Bench("native", source), Bench("reference", source)
        for bench in (native, reference):
            bench.run(limit)
        assert native.state() == reference.state()
    assert native.hart.x[18] == 7 * 4


@pytest.mark.parametrize("slice_", [1, 100])
def test_a_patch_of_a_pair(slice_: int) -> None:
    """Two 16-bit instructions that become one of 32 bits run as that, at any budget."""
    source = """
        li s3, 3
        li t1, 0x13
        la t0, patch
    loop:
        nop
    .align 2
    patch:
        .half 0x0405
        .half 0x0485
        addi s3, s3, -1
        sw t1, 0(t0)
        fence.i
        bnez s3, loop
    end:
        j end
    """
    native, reference = Bench("native", source), Bench("reference", source)
    for _ in range(0, 100, slice_):
        native.run(slice_)
    reference.run(100)
    assert native.state() == reference.state()
    assert [int(native.hart.x[i]) for i in (8, 9, 19)] == [1, 1, 0]


@pytest.mark.parametrize("other", [0x4000_0000, 0x4000_3000, 0x401F_F000])
def test_a_fence_of_any_page_of_a_large_page_forgets_it(other: int) -> None:
    """sfence.vma with an address inside a 2 MiB page ends every translation that came from it."""
    root, middle = BASE + 0x10000, BASE + 0x11000
    source = f"""
        la t0, handler
        csrw mtvec, t0
        li t0, -1
        srli t0, t0, 10
        csrw pmpaddr0, t0
        li t0, 31
        csrw pmpcfg0, t0
        li t0, {8 << 60 | root >> 12}
        csrw satp, t0
        li t0, 0x800
        csrs mstatus, t0
        la t0, supervisor
        csrw mepc, t0
        mret
    supervisor:
        li s0, 0x40000000
        li s1, {other}
        li s2, {middle}
        ld a0, 0(s0)
        sd x0, 0(s2)
        sfence.vma s1, x0
        ld a2, 0(s0)
    end:
        j end
    handler:
        csrr s3, mcause
        csrr s4, mtval
    stop:
        j stop
    """
    benches = [Bench(engine, source) for engine in ("native", "reference")]
    for bench in benches:
        bench.write(root + 8, (middle >> 12 << 10 | 1).to_bytes(8, "little"))
        bench.write(root + 16, (0x80000 << 10 | 0xCF).to_bytes(8, "little"))
        bench.write(middle, (0x80000 << 10 | 0xCF).to_bytes(8, "little"))
        bench.run(200)
    assert benches[0].state() == benches[1].state()
    assert int(benches[0].hart.x[19]) == 13
    assert int(benches[0].hart.x[20]) == 0x4000_0000


TINST = [
    ("ld a3, 8(s0)", 0x0000_3683),
    ("sw a3, 4(s0)", 0x00D0_2023),
    ("fld fa0, 0(s0)", 0x0000_3507),
    ("amoadd.d a3, a4, (s0)", 0x00E0_36AF),
    ("sc.w a3, a4, (s0)", 0x18E0_26AF),
    ("c.lw a3, 4(s0)", 0x0000_2681),
    ("c.sd a3, 8(s0)", 0x00D0_3021),
    ("cbo.zero (s0)", 0),
]


@pytest.mark.parametrize("engine", ["native", "reference"])
@pytest.mark.parametrize(("text", "expected"), TINST, ids=[t for t, _ in TINST])
def test_transformed_instruction(engine: str, text: str, expected: int) -> None:
    """With the switch on, an access that faults writes its transformed instruction to mtinst; without it, 0."""
    source = f"""
        la t0, handler
        csrw mtvec, t0
        li t0, 0x6000
        csrs mstatus, t0
        li s0, 0x40000000
        {text}
    .align 2
    handler: j handler
    """
    for switch, wanted in ((1, expected), (0, 0)):
        bench = Bench(engine, source)
        bench.hart.tinst_transformed = switch
        bench.run(40)
        assert bench.hart.mcause in (5, 7)
        assert bench.hart.mtinst == wanted


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_transformed_instruction_tells_the_offset(engine: str) -> None:
    """A misaligned access that the hart splits reports in rs1 how far into it the fault lies."""
    source = "la t0, handler\n csrw mtvec, t0\n ld a3, 0(s0)\n.align 2\nhandler: j handler"
    bench = Bench(engine, source)
    bench.hart.tinst_transformed = bench.hart.misaligned_hardware = 1
    bench.hart.x[8] = BASE + (1 << 20) - 3
    bench.run(40)
    assert bench.hart.mtval == BASE + (1 << 20)
    assert bench.hart.mtinst == 0x0000_3683 | 3 << 15

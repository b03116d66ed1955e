"""What hardware may give where each access may go a way of its own."""

from __future__ import annotations

import pytest

from trapline.fuzz.image import REGISTERS
from trapline.fuzz.judge import World
from trapline.isa.assemble import assemble
from trapline.lab.settings import settings
from trapline.privilege.isa_string import DEFAULT_ISA

# sp, s1: a device; s6: four bytes before a page of the other mode; s9: three bytes before the end of a device.
HALF = "sd zero, 0(s6)"  # firmware leaves its first half there, and faults behind it


@pytest.fixture(scope="module")
def world() -> World:
    """Programs of VU under the proposed policy."""
    return World(settings("proposed"), "VU", DEFAULT_ISA)


@pytest.mark.parametrize(
    ("program", "zoo"),
    [
        ("2fb0830003d0030023300b00a720010003c07c002f220b107320203a7380022333c23103", 11),
        ("2fb0830003d0030023300b0003c07c002f220b1003a0ccff7320203a7380022333c231033b70f703", 31),
        ("b7931f00b3834301a3bf03feb7032000b383430103b0f3ff", 2),  # the half is an entry of the table of odd ones
    ],
)
def test_a_store_done_in_part_decides_what_comes_later(world: World, program: str, zoo: int) -> None:
    """Firmware may do half of one store, and hardware refuse another access that reads what it left."""
    assert world.judge(bytes.fromhex(program), zoo) is None


@pytest.mark.parametrize(
    "later",
    [
        "lr.w a0, (s6); lw zero, 0(s9)",
        "lw a0, 0(s6); fsw ft0, 1(sp)",
        "amoadd.w a0, a1, (s6); sd zero, 1(s1)",
        "lw a0, 0(s6); lb a1, 0(s2); lw zero, 0(s9)",  # s2: where nothing is; user space answers
        "lw a0, 0(s6); flw fa1, 0(s2); fld fa2, 0(s2); flh fa3, 0(s2); lw zero, 0(s9)",
    ],
)
def test_every_word_of_a_mixture_is_compared(world: World, later: str) -> None:
    """What half a store leaves is read beside accesses of other ways; any other value is a difference."""
    program = assemble(f"{HALF}; {later}", 0)
    log = bytearray(world.target.run([program]).log)
    assert world.difference(program, bytes(log), 0) is None
    for at in (REGISTERS + 8 * 9, REGISTERS + 8 * 10):  # a0, a1
        log[at] ^= 1
        assert world.difference(program, bytes(log), 0) is not None
        log[at] ^= 1


@pytest.mark.parametrize("program", ["63150f003380430173c0736f00c0", "01e73380430173c0f36200c013504301"])
def test_a_jump_into_an_instruction_may_read_a_counter(world: World, program: str) -> None:
    """What a counter says is no difference, also where the maker of programs did not mean to read one."""
    assert world.judge(bytes.fromhex(program), 0) is None


@pytest.mark.parametrize("counter", ["cycle", "time", "instret"])
def test_what_a_counter_says_and_nothing_before_it_is_left_alone(world: World, counter: str) -> None:
    """Behind a read of a counter nothing is known; the traps before it are compared, and all if nothing is kept."""
    kept = assemble(f"ebreak; csrr t5, {counter}; li a0, 5", 0)
    log = bytearray(world.target.run([kept]).log)
    log[REGISTERS + 8 * 29] ^= 1  # t5
    assert world.difference(kept, bytes(log), 0) is None
    log[0] ^= 1  # the cause of ebreak
    assert world.difference(kept, bytes(log), 0) is not None
    forgotten = assemble(f"csrr zero, {counter}; li a0, 5", 0)
    log = bytearray(world.target.run([forgotten]).log)
    assert world.difference(forgotten, bytes(log), 0) is None
    log[REGISTERS + 8 * 9] ^= 1  # a0
    assert world.difference(forgotten, bytes(log), 0) is not None


@pytest.mark.parametrize("engine", ["native", "reference"])
@pytest.mark.parametrize("misaligned", ["trap", "hardware"])
def test_each_way_of_a_hart_is_among_the_ways(misaligned: str, engine: str) -> None:
    """Whether the guest's hart does what is misaligned, or firmware does, hardware may do the same."""
    world = World(settings("proposed", misaligned=misaligned), "VU", DEFAULT_ISA, engine)
    program = assemble("sd s7, 3(s0); ld a0, 3(s0); sd zero, 0(s6); lw a1, 0(s6); ld a2, 1(sp); fld fa0, 7(s0)", 0)
    log = world.target.run([program]).log
    assert world.difference(program, log, 0) is None


def test_a_program_of_the_kernel_is_compared_up_to_its_call() -> None:
    """Traps before a call of the SBI are compared; what comes behind it is another SBI's."""
    world = World(settings("proposed"), "VS", DEFAULT_ISA)
    program = assemble("sd zero, 0(s6); ebreak; li a7, 0x10; ecall; ebreak", 0)
    log = bytearray(world.target.run([program]).log)
    traps = memoryview(log).cast("Q")
    seen = [int(traps[n]) for n in range(0, 16, 4)]
    assert 3 in seen[:2]
    assert world.difference(program, bytes(log), 0) is None
    last = seen.index(3) + 1
    traps[4 * last] = 2
    assert world.difference(program, bytes(log), 0) is None
    traps[4 * (last - 1)] = 2
    assert world.difference(program, bytes(log), 0) is not None


@pytest.mark.parametrize("pointer", ["t4", "s3", "s2"])  # a table in a read-only slot, an unmapped page, nowhere
def test_the_fault_of_a_call_is_compared(pointer: str) -> None:
    """What a call's hart mask faults with counts, and that it does not; where nothing is, a hypervisor may serve it."""
    world = World(settings("proposed"), "VS", DEFAULT_ISA)
    program = assemble(f"li a7, 4; mv a0, {pointer}; ecall; ebreak", 0)
    log = bytearray(world.target.run([program]).log)
    traps = memoryview(log).cast("Q")
    good = bytes(log)
    assert world.difference(program, good, 0) is None
    if traps[0] != 3:  # the call has a fault
        traps[2] ^= 8
        assert world.difference(program, bytes(log), 0) is not None
    sound = assemble("li a7, 4; addi a0, s0, 0; ecall; ebreak", 0)
    log = bytearray(world.target.run([sound]).log)
    assert world.difference(sound, bytes(log), 0) is None
    assert traps[0] == 3 or world.difference(sound, good, 0) is not None


def test_a_machine_goes_on_behind_a_program_that_ends_it() -> None:
    """Programs behind one that powers off the machine of the comparison are compared, too."""
    world = World(settings("proposed"), "VS", DEFAULT_ISA)
    off, other = assemble("li a7, 8; ecall", 0), assemble("ebreak; li a0, 5", 0)
    programs = [other, off, other, off, off, other]
    log = world.machines[0].log_of(programs, 0)
    first = [memoryview(log[1024 * n :]).cast("Q")[0] for n in (0, 2, 5)]
    assert first == [3, 3, 3]
    assert not world.odd(programs, log, [log], range(6))


@pytest.mark.parametrize(("mode", "policy"), [("VS", "linux-6.12"), ("VU", "linux-6.12"), ("VU", "proposed")])
@pytest.mark.parametrize("counter", [0xC00, 0xC0E, 0xC1F])
def test_a_hypervisor_may_keep_any_counter_to_itself(mode: str, policy: str, counter: int) -> None:
    """A counter that the guest may not read is no difference, nor one that no user code may read."""
    world = World(settings(policy), mode, DEFAULT_ISA)
    program = (counter << 20 | 3 << 12 | 0x73).to_bytes(4, "little")  # csrrc zero, counter, zero
    assert world.judge(program, 0) is None


@pytest.mark.parametrize(
    ("mode", "policy", "code", "what", "rule"),
    [
        ("VU", "linux-7.2", "lr.d zero, (s9); sw zero, -4(s4)", "store", "15 store-page-fault"),
        ("VS", "linux-6.12", "sd zero, -1(s0); lui a0, 0x18000; li a7, 6; ecall", "ecall", "5 load-access"),
        ("VS", "linux-6.12", "sb zero, 0(s2); lui a0, 0x18000; li a7, 6; ecall", "ecall", "5 load-access"),
    ],
)
def test_the_access_that_differs_is_named(mode: str, policy: str, code: str, what: str, rule: str) -> None:
    """Beside an access that some machines do otherwise, the one that no machine does so is named."""
    judged = World(settings(policy), mode, DEFAULT_ISA).judge(assemble(code, 0), 0)
    assert judged is not None
    assert (judged.key.what, judged.key.rule) == (what, f"hardware gives {rule}")


@pytest.mark.parametrize("code", ["ecall; sret", "flh fs8, 0(s9); lr.d zero, (s9); ecall; sret"])
def test_a_way_back_to_a_call_is_no_fault_of_it(code: str) -> None:
    """Behind a call that hardware serves, an sret to it faults in the mode of users: another SBI decides whether."""
    world = World(settings("proposed"), "VS", DEFAULT_ISA)
    program = assemble(f"li a7, 2; {code}", 0)
    log = bytearray(world.target.run([program]).log)
    assert world.difference(program, bytes(log), 0) is None
    traps = memoryview(log).cast("Q")
    at = next(n for n in range(0, 28, 4) if traps[n] == 12)
    traps[at + 1] = 0x8021_0000 + program.index(assemble("ecall", 0))
    assert world.difference(program, bytes(log), 0) is None
    traps[at] = 21
    assert world.difference(program, bytes(log), 0) is not None


def test_a_kernel_that_moves_tp_is_not_compared() -> None:
    """A program of VS that writes tp notes what it sees elsewhere, so nothing is said of it."""
    world = World(settings("proposed"), "VS", DEFAULT_ISA)
    assert world.judge(assemble("hlv.h zero, (s9); c.addi tp, 8; ecall", 0), 0) is None

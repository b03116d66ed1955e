"""Whole boards: bare programs on both engines, timers, several harts, limits, real firmware."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
from machine_fakes import make_elf

from trapline.engine.api import Before
from trapline.engine.native import NativeEngine
from trapline.isa.assemble import assemble
from trapline.lang.state import Hart
from trapline.machine.load.content import ImageError
from trapline.machine.machine import Machine
from trapline.session.terminal.console import Console
from trapline.session.terminal.sources import Replay, Script

BASE = 0x8000_0000
PASS = "li t0, 0x100000\n li t1, 0x5555\n sw t1, 0(t0)\n9: j 9b\n"
OPENSBI = Path("/usr/lib/riscv64-linux-gnu/opensbi/generic")
UBOOT = Path("/usr/lib/u-boot/qemu-riscv64_smode/u-boot.bin")


def machine(source: str, engine: str = "reference", *, tohost: int | None = None, **options: object) -> Machine:
    """A board with an assembled program at the start of RAM."""
    made = Machine(engine=engine, memory=1 << 20, **options)  # type: ignore[arg-type]
    symbols = {"tohost": tohost, "fromhost": tohost + 64} if tohost is not None else {}
    made.load_elf(make_elf(assemble(source, BASE), symbols=symbols, memory_size=0x8000))
    return made


class CountingEngine(Before):
    """Counts how often another engine is asked to run."""

    def __init__(self, engine: NativeEngine) -> None:
        super().__init__(engine)
        self.runs = 0

    def run(self, hart: Hart, limit: int) -> int:
        """Run the other."""
        self.runs += 1
        return self.engine.run(hart, limit)


@pytest.fixture(params=["reference", "native"])
def engine(request: pytest.FixtureRequest) -> str:
    """Both engines."""
    return str(request.param)


def test_hello_through_the_uart_and_the_finisher(engine: str) -> None:
    """A bare program prints and powers off."""
    out: list[bytes] = []
    board = machine(f"li t0, 0x10000000\n li t1, 'A'\n sb t1, 0(t0)\n{PASS}", engine, console=Console(out.append))
    result = board.run(max_instructions=1000)
    assert (result.reason, result.code, result.exit_status) == ("exit", 0, 0)
    assert b"".join(out) == b"A"


def test_a_failure_code_of_the_finisher(engine: str) -> None:
    """The finisher's failure code is the run's code, and the exit status is 1."""
    result = machine("li t0, 0x100000\n li t1, 0x73333\n sw t1, 0(t0)\n1: j 1b", engine).run(1000)
    assert (result.reason, result.code, result.exit_status) == ("exit", 7, 1)


def test_a_hart_with_zicclsm_does_misaligned_accesses() -> None:
    """Zicclsm in the ISA string promises what the default `misaligned` would trap."""
    source = "la t0, 9f\n csrw mtvec, t0\n ld t1, 1(t0)\n9: j 9b"
    for isa, cause in (("rv64imac_zicclsm", 0), ("rv64imac", 4)):
        board = machine(source, isa=isa)
        board.run(max_instructions=12)
        assert board.harts[0].mcause == cause


def test_htif_exit_and_output(engine: str) -> None:
    """putchar by two 32-bit stores, then an exit code, in a page that also holds code and data."""
    out: list[bytes] = []
    tohost = BASE + 0x100
    source = f"""
        li t0, {tohost}
        li t1, 'y'
        sw t1, 0(t0)
        li t1, 0x01010000
        sw t1, 4(t0)
        li t1, 7
        sd t1, 0(t0)
    1:  j 1b
    """
    board = machine(source, engine, tohost=tohost, console=Console(out.append))
    result = board.run(max_instructions=10_000)
    assert (result.reason, result.code) == ("exit", 3)
    assert b"".join(out) == b"y"


TIMER = f"""
    la t0, handler
    csrw mtvec, t0
    li t0, 0x2004000
    li t1, 500
    sd t1, 0(t0)
    li t1, 0x80
    csrw mie, t1
    csrsi mstatus, 8
    li s0, 0
1:  addi s0, s0, 1
    j 1b
.align 2
handler:
    csrr s1, mcause
    csrr s2, mcycle
    li t0, 0x200bff8
    ld s3, 0(t0)
    {PASS}
"""


def test_the_timer_interrupt_comes_at_the_exact_instruction() -> None:
    """Both engines take the interrupt after the same instruction: the first of tick 500."""
    seen = []
    for name in ("reference", "native"):
        board = machine(TIMER, name)
        assert board.run(max_instructions=200_000).reason == "exit"
        x = board.harts[0].x
        seen.append([int(x[n]) for n in (8, 9, 18, 19)])
    assert seen[0] == seen[1]
    assert seen[0][1] == 1 << 63 | 7
    assert seen[0][3] == 500


def test_a_timer_beyond_the_turn_ends_no_run() -> None:
    """Only a comparator that comes before the turn is over makes native code leave, once for each step nearer."""
    source = "li t0, 0x2004000\n li s0, 100\n li t1, {at}\n1: sd t1, 0(t0)\n {step}\n addi s0, s0, -1\n bnez s0, 1b\n"
    for at, step, runs in ((1 << 60, "", 1), (5_000, "", 2), (5_000, "addi t1, t1, -1", 101)):
        board = machine(source.format(at=at, step=step) + PASS, "native")
        board.schedule.engine = counting = CountingEngine(board.engine)  # type: ignore[arg-type]
        assert board.run(max_instructions=1_000_000).reason == "exit"
        assert counting.runs == runs


def test_wfi_skips_time(engine: str) -> None:
    """A sleeping hart's clock jumps to the timer: no instruction is spent on a second of sleep."""
    board = machine(TIMER.replace("500", "10000000").replace("1:  addi s0, s0, 1", "1:  wfi"), engine)
    result = board.run(max_instructions=10_000)
    assert result.reason == "exit"
    assert result.instructions < 60
    assert int(board.harts[0].x[19]) == 10_000_000


def test_stimecmp_interrupts_the_supervisor(engine: str) -> None:
    """With Sstc the comparator wakes and interrupts S-mode at its tick."""
    source = f"""
        li t0, -1
        csrw mcounteren, t0
        csrw menvcfg, t0
        li t0, 0x20
        csrw mideleg, t0
        la t0, super
        csrw mepc, t0
        li t0, 0x800
        csrw mstatus, t0
        mret
    .align 2
    super:
        la t0, handler
        csrw stvec, t0
        li t0, 12345
        csrw stimecmp, t0
        li t0, 0x20
        csrw sie, t0
        csrsi sstatus, 2
    1:  wfi
        j 1b
    .align 2
    handler:
        csrr s1, scause
        csrr s2, time
        {PASS}
    """
    board = machine(source, engine)
    assert board.run(max_instructions=10_000).reason == "exit"
    assert int(board.harts[0].x[9]) == 1 << 63 | 5
    assert int(board.harts[0].x[18]) == 12345


def test_harts_signal_each_other_and_runs_repeat(engine: str) -> None:
    """An IPI through the CLINT wakes the other hart; twice the same run takes the same instructions."""
    source = f"""
        csrr t0, mhartid
        li t1, 0x2000000
        bnez t0, other
        li t2, 1
        sw t2, 4(t1)
    1:  lw t3, flag
        beqz t3, 1b
        {PASS}
    other:
        li t2, 8
        csrw mie, t2
    2:  wfi
        csrr t2, mip
        andi t2, t2, 8
        beqz t2, 2b
        sw zero, 4(t1)
        la t2, flag
        li t3, 1
        sw t3, 0(t2)
    3:  wfi
        j 3b
    .align 3
    flag: .dword 0
    """.replace("lw t3, flag", "la t3, flag\n lw t3, 0(t3)")
    results = [machine(source, engine, harts=2).run(200_000) for _ in range(2)]
    assert results[0].reason == "exit"
    assert results[0] == results[1]


def test_limits_are_exact_and_runs_continue(engine: str) -> None:
    """A limit stops after exactly that many instructions; the run can go on."""
    board = machine("1: addi s0, s0, 1\n j 1b", engine)
    first = board.run(max_instructions=1001)
    assert (first.reason, first.instructions, first.exit_status) == ("limit", 1001, 3)
    assert int(board.harts[0].instret) == 1001
    assert board.run(max_instructions=999).instructions == 999
    # Five instructions of the reset ROM, then two in each turn of the loop.
    assert int(board.harts[0].x[8]) == (2000 - 5 + 1) // 2


def test_a_time_limit_ends_an_endless_loop() -> None:
    """Seconds limit a run too."""
    assert machine("1: j 1b", "native").run(max_seconds=0.05).reason == "limit"


def test_a_machine_that_can_never_wake_says_so(engine: str) -> None:
    """wfi with nothing enabled is the end, with a message."""
    result = machine("1: wfi\n j 1b", engine).run(10_000)
    assert (result.reason, result.exit_status) == ("stuck", 1)
    assert result.message == "all harts wait for an interrupt that can never come"


def test_ctrl_c_leaves_a_state_that_runs_on() -> None:
    """Ctrl-C ends the run between instructions; the next run continues."""
    board = machine("1: addi s0, s0, 1\n j 1b", "native")
    threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    result = board.run(max_seconds=20)
    assert (result.reason, result.exit_status) == ("interrupted", 130)
    assert board.run(max_instructions=10).instructions == 10


ECHO = f"""
    li t0, 0x10000000
    li t3, 'q'
1:  lbu t1, 5(t0)
    andi t1, t1, 1
    beqz t1, 1b
    lbu t2, 0(t0)
    sb t2, 0(t0)
    bne t2, t3, 1b
    {PASS}
"""


def test_typed_input_replays_exactly(engine: str) -> None:
    """A session's log, replayed, gives the same run to the instruction."""
    first = machine(ECHO, engine, console=Console(None, Replay([((2000, 20), b"ab"), ((7000, 70), b"q")])))
    done = first.run(1_000_000)
    assert done.reason == "exit"
    again = machine(ECHO, engine, console=Console(None, Replay(first.console.log)))
    assert again.run(1_000_000) == done
    assert again.console.log == first.console.log


def test_devices_that_raise_reach_the_caller(engine: str) -> None:
    """An exception in a device comes out of run()."""

    class Broken:
        def load(self, hart: object, offset: int, size: int) -> int:
            raise RuntimeError("broken device")

        def store(self, hart: object, offset: int, size: int, value: int) -> None:
            raise RuntimeError("broken device")

    board = machine("li t0, 0x30000000\n lw t1, 0(t0)\n1: j 1b", engine)
    board.regions.device("broken", 0x3000_0000, 0x1000, Broken())
    board._install()
    with pytest.raises(RuntimeError, match="broken device"):
        board.run(1000)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"harts": 0}, "harts: 0"),
        ({"ratio": 0}, "ratio: 0"),
        ({"timebase": -1}, "timebase: -1"),
        ({"misaligned": "maybe"}, "misaligned: 'maybe'"),
        ({"tinst": "x"}, "tinst: 'x'"),
        ({"engine": "warp"}, "unknown engine 'warp'"),
        ({"isa": "rv32i"}, "rv32i"),
        ({"memory": 12345}, "not a multiple of the page size"),
    ],
)
def test_bad_arguments_are_named(options: dict[str, object], message: str) -> None:
    """Each bad argument is refused with its value."""
    with pytest.raises(ValueError, match=message):
        Machine(**{"engine": "reference", **options})  # type: ignore[arg-type]


def test_an_image_larger_than_memory() -> None:
    """A program that does not fit is refused with its range."""
    with pytest.raises(ImageError, match=r"\[0x80000000..0x801fffff\] does not fit into memory"):
        Machine(engine="reference", memory=1 << 20).load_elf(make_elf(b"x", memory_size=2 << 20))


def test_signature_is_written_as_spike_writes_it() -> None:
    """Words of the granularity, highest byte first, the last one filled with zeros."""
    board = Machine(engine="reference", memory=1 << 20)
    data = bytes(range(1, 21))
    board.load_elf(make_elf(data, symbols={"begin_signature": BASE, "end_signature": BASE + 20}))
    assert board.signature() == "100f0e0d0c0b0a090807060504030201\n00000000000000000000000014131211\n"
    assert board.signature(4).split() == ["04030201", "08070605", "0c0b0a09", "100f0e0d", "14131211"]
    with pytest.raises(ValueError, match="granularity 3"):
        board.signature(3)
    board.symbols = {}
    with pytest.raises(ValueError, match="no symbol begin_signature and no end_signature"):
        board.signature()


@pytest.mark.parametrize(("firmware", "harts"), [("fw_jump.bin", 1), ("fw_dynamic.bin", 2)])
def test_real_opensbi_boots_real_u_boot(firmware: str, harts: int) -> None:
    """Debian's OpenSBI 1.1 and U-Boot come up to the prompt, take commands, and power off."""
    out: list[bytes] = []
    script = Script([(b"autoboot", b" "), (b"=> ", b"version\n"), (b"=> ", b"poweroff\n")])
    board = Machine(engine="native", harts=harts, console=Console(out.append, script))
    board.boot_bios(OPENSBI / firmware, UBOOT)
    result = board.run(max_instructions=3_000_000_000)
    text = b"".join(out)
    assert (result.reason, result.code) == ("exit", 0)
    assert b"OpenSBI v1.1" in text
    assert text.count(b"U-Boot 2023.01") == 2


@pytest.mark.parametrize(("memory", "initrd"), [(64 << 20, 32 << 20), (256 << 20, 128 << 20), (2 << 30, 512 << 20)])
def test_initrd_and_device_tree_lie_where_qemu_puts_them(tmp_path: Path, memory: int, initrd: int) -> None:
    """The initrd half of memory or 512 MiB behind the kernel, the tree at the last 2 MiB boundary with room for it."""
    files = [tmp_path / name for name in ("bios", "kernel", "initrd")]
    for file in files:
        file.write_bytes(file.name.encode() * 8)
    board = Machine(engine="reference", memory=memory)
    board.boot_bios(*files)
    assert board.regions.read(BASE + 0x20_0000 + initrd, 6) == b"initrd"
    assert board.regions.read(BASE + memory - 0x20_0000, 4) == b"\xd0\x0d\xfe\xed"


def test_initrd_without_room_below_the_device_tree(tmp_path: Path) -> None:
    """An initrd that reaches the device tree is refused in one line that names both."""
    files = [tmp_path / name for name in ("bios", "kernel", "initrd")]
    for file, size in zip(files, (8, 8, 29 << 20), strict=True):
        file.write_bytes(b"x" * size)
    with pytest.raises(ImageError, match=r"^the device tree .* overlaps .*initrd .*more memory may help$"):
        Machine(engine="reference", memory=64 << 20).boot_bios(*files)


@pytest.mark.parametrize("address", [0x0200_0000, 0x0C00_0000, 0x1000_0000, 0x1000_1000])
@pytest.mark.parametrize(
    ("access", "cause"),
    [("lr.w t1, (s0)", 5), ("sc.w t1, t1, (s0)", 7), ("amoadd.w t1, t1, (s0)", 7), ("amoswap.d t1, t1, (s0)", 7)],
)
def test_devices_take_no_atomics(engine: str, address: int, access: str, cause: int) -> None:
    """Device memory has no PMA for atomics: LR takes a load access fault, SC and AMOs a store/AMO access fault."""
    board = machine(f"la t0, 8f\n csrw mtvec, t0\n li s0, {address}\n {access}\n.align 2\n8: {PASS}", engine)
    assert board.run(max_instructions=100).reason == "exit"
    assert (board.harts[0].mcause, board.harts[0].mtval) == (cause, address)


def test_overlapping_boot_images_are_named(tmp_path: Path) -> None:
    """A bios that reaches into the kernel's place is refused with both ranges."""
    big = tmp_path / "bios.bin"
    big.write_bytes(bytes(3 << 20))
    with pytest.raises(ImageError, match=r"u-boot.bin .* overlaps .*bios.bin"):
        Machine(engine="reference").boot_bios(big, UBOOT)

"""Whole guests under the hosted KVM: own programs, limits, deaths, and Debian's U-Boot."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from trapline.isa.assemble import assemble
from trapline.kvm.uapi.slots import SlotKind
from trapline.machine.load.content import ImageError
from trapline.session.terminal.console import Console
from trapline.session.terminal.sources import Replay, Script
from trapline.vmm.arguments import SlotArgument
from trapline.vmm.guest import Guest

ENTRY = 0x8020_0000
UBOOT = Path("/usr/lib/u-boot/qemu-riscv64_smode/u-boot.bin")
OFF = """
    li a7, 0x53525354
    li a6, 0
    li a0, 0
    li a1, {reason}
    ecall
9:  j 9b
"""
POWEROFF = OFF.format(reason=0)


def guest(source: str, policy: str = "linux-7.2", **options: object) -> Guest:
    """A guest with an assembled flat program."""
    made = Guest(policy, **{"engine": "native", "memory": 4 << 20, **options})  # type: ignore[arg-type]
    made.load_bytes(assemble(source, ENTRY))
    return made


@pytest.fixture(params=["reference", "native"])
def engine(request: pytest.FixtureRequest) -> str:
    """Both engines."""
    return str(request.param)


def test_hello_on_the_uart_and_shutdown(engine: str) -> None:
    """A guest prints through MMIO exits and shuts down through the SBI."""
    out: list[bytes] = []
    made = guest(
        f"li t0, 0x10000000\n li t1, 'A'\n sb t1, 0(t0)\n{POWEROFF}", engine=engine, console=Console(out.append)
    )
    result = made.run(max_instructions=10_000)
    assert (result.reason, result.code, result.exit_status) == ("exit", 0, 0)
    assert b"".join(out) == b"A"
    assert made.vm.stats()["mmio_exit_user"] == 1


def test_a_guest_hypervisor_finishes_by_hsv(engine: str) -> None:
    """HSV to the test finisher ends the run there, as a store does."""
    store = "li t0, 0x100000\n li t1, 0x5555\n hsv.w t1, (t0)\n li s2, 7\n"
    made = guest(f"{store}{OFF.format(reason=1)}", engine=engine, nested=True)
    result = made.run(max_instructions=10_000)
    assert (result.reason, result.code, made.vm.vcpus[0].hart.x[18]) == ("exit", 0, 0)


def test_the_guest_gets_its_number_and_a_device_tree() -> None:
    """a0 is the vCPU's number, a1 the tree, which lies in memory and has a FDT's magic."""
    made = guest(f"mv s0, a0\n mv s1, a1\n lwu s2, 0(a1)\n{POWEROFF}")
    assert made.run(10_000).reason == "exit"
    x = made.vm.vcpus[0].hart.x
    assert int(x[8]) == 0
    assert int(x[18]) == int.from_bytes(bytes.fromhex("d00dfeed"), "little")
    assert ENTRY < int(x[9]) < 0x8040_0000


def test_a_failure_shutdown_shows_its_reason() -> None:
    """SRST with a reason is a failure."""
    result = guest(OFF.format(reason=1)).run(10_000)
    assert (result.reason, result.code, result.exit_status) == ("exit", 1, 1)
    assert "SRST reason 1" in result.message


def test_the_test_finisher_ends_a_guest() -> None:
    """The finisher's code is the guest's result."""
    result = guest("li t0, 0x100000\n li t1, 0x53333\n sw t1, 0(t0)\n1: j 1b").run(10_000)
    assert (result.reason, result.code, result.exit_status) == ("exit", 5, 1)


def test_sbi_consoles() -> None:
    """putchar, getchar and the debug console reach the VMM; input is the same as the UART's."""
    out: list[bytes] = []
    source = f"""
        li a7, 1
        li a0, 'p'
        ecall
    1:  li a7, 2
        ecall
        bltz a0, 1b
        mv s0, a0
        li a7, 0x4442434e
        li a6, 2
        ecall
        li a7, 0x4442434e
        li a6, 0
        li a0, 4
        la a1, text
        li a2, 0
        ecall
        mv s1, a1
        li a7, 0x4442434e
        li a6, 0
        li a0, 4
        li a1, 0x1000
        ecall
        mv s2, a0
        {POWEROFF}
    text: .ascii "done"
    """
    console = Console(out.append, Replay([((500, 0), b"k")]))
    made = guest(source, console=console)
    assert made.run(100_000).reason == "exit"
    assert b"".join(out) == b"pkdone"
    x = made.vm.vcpus[0].hart.x
    assert (int(x[8]), int(x[9]), int(x[18])) == (ord("k"), 4, (1 << 64) - 3)


INTERRUPT = f"""
    la t0, handler
    csrw stvec, t0
    li t0, 0x0c000028
    li t1, 1
    sw t1, 0(t0)
    li t0, 0x0c002000
    li t1, 0x400
    sw t1, 0(t0)
    li t0, 0x0c200000
    sw zero, 0(t0)
    li t0, 0x10000001
    li t1, 1
    sb t1, 0(t0)
    li t0, 0x200
    csrw sie, t0
    csrsi sstatus, 2
1:  wfi
    j 1b
.align 2
handler:
    csrr s0, scause
    li t0, 0x0c200004
    lw s1, 0(t0)
    li t0, 0x10000000
    lbu s2, 0(t0)
    {POWEROFF}
"""


def test_typed_input_interrupts_a_sleeping_guest(engine: str) -> None:
    """UART, PLIC and KVM_INTERRUPT carry a key to a guest that waits in wfi."""
    made = guest(INTERRUPT, engine=engine, console=Console(None, Replay([((0, 5000), b"z")])))
    assert made.run(100_000).reason == "exit"
    x = made.vm.vcpus[0].hart.x
    assert (int(x[8]), int(x[9]), int(x[18])) == (1 << 63 | 9, 10, ord("z"))


def test_a_guest_that_can_never_wake_says_so() -> None:
    """wfi without timer and input ends the run with a message."""
    result = guest("1: wfi\n j 1b").run(10_000)
    assert (result.reason, result.exit_status) == ("stuck", 1)
    assert "can never come" in result.message


def test_a_killed_guest() -> None:
    """A fetch from a hole kills under linux-6.12 and is survived under linux-6.14."""
    source = f"""
        la t0, handler
        csrw stvec, t0
        li t0, 0xc0000000
        jr t0
    .align 2
    handler:
        {POWEROFF}
    """
    slots = [SlotArgument(0xC000_0000, 0x1000, SlotKind.HOLE)]
    killed = guest(source, "linux-6.12", memslots=slots).run(10_000)
    assert (killed.reason, killed.exit_status) == ("killed", 1)
    assert killed.death is not None
    assert killed.message == killed.death.title
    assert guest(source, "linux-6.14", memslots=slots).run(10_000).reason == "exit"


def test_slots_of_every_kind(tmp_path: Path) -> None:
    """A file's bytes are read, its slot is written privately, a read-only slot's store goes to the VMM."""
    path = tmp_path / "data"
    path.write_bytes(b"\x2a" + bytes(4095))
    slots = [
        SlotArgument(0x4000_0000, 0x1000, SlotKind.FILE, path),
        SlotArgument(0x5000_0000, 0x1000, SlotKind.READ_ONLY),
        SlotArgument(0x6000_0000, 0x1000, SlotKind.RAM),
    ]
    source = f"""
        li t0, 0x40000000
        lbu s0, 0(t0)
        sb zero, 0(t0)
        lbu s1, 0(t0)
        li t0, 0x50000000
        sw t0, 8(t0)
        lw s2, 8(t0)
        li t0, 0x60000000
        sd t0, 0(t0)
        ld s3, 0(t0)
        {POWEROFF}
    """
    made = guest(source, memslots=slots)
    assert made.run(10_000).reason == "exit"
    x = made.vm.vcpus[0].hart.x
    assert [int(x[n]) for n in (8, 9, 18, 19)] == [0x2A, 0, 0, 0x6000_0000]
    assert path.read_bytes()[0] == 0x2A
    assert made.devices.unassigned.describe() == ["write of 4 bytes at 0x50000008, where no device is: once"]


def test_a_slot_inside_ram_replaces_that_part() -> None:
    """A hole inside RAM leaves memory on both sides."""
    made = guest(POWEROFF, memslots=[SlotArgument(0x8030_0000, 0x1000, SlotKind.HOLE)])
    assert [(s.gpa, s.size) for s in made.vm.slots] == [
        (0x8000_0000, 0x30_0000),
        (0x8030_0000, 0x1000),
        (0x8030_1000, 0xF_F000),
    ]
    assert made.run(10_000).reason == "exit"


@pytest.mark.parametrize(
    ("slot", "message"),
    [
        (SlotArgument(0x1000_0000, 0x1000, SlotKind.RAM), "covers the device at 0x10000000"),
        (SlotArgument(1 << 62, 0x1000, SlotKind.RAM), "lies beyond"),
    ],
)
def test_slots_that_cannot_be(slot: SlotArgument, message: str) -> None:
    """A slot over a device or beyond the address space is refused by range."""
    with pytest.raises(ValueError, match=message):
        Guest(engine="reference", memory=4 << 20, memslots=[slot])


def test_a_program_larger_than_memory(tmp_path: Path) -> None:
    """Programs and initrds that do not fit are refused with their ranges."""
    big = tmp_path / "big.bin"
    big.write_bytes(bytes(5 << 20))
    with pytest.raises(ImageError, match=r"big.bin \[0x80200000..0x806fffff\] does not fit"):
        Guest(engine="reference", memory=4 << 20).load(big)
    small = tmp_path / "small.bin"
    small.write_bytes(assemble(POWEROFF, ENTRY))
    with pytest.raises(ImageError, match=r"the initrd .* does not fit"):
        Guest(engine="reference", memory=4 << 20).load(small, initrd=big)


def test_initrd_and_command_line_are_in_the_tree(tmp_path: Path) -> None:
    """The tree tells the guest where the initrd is and what was appended."""
    program, initrd = tmp_path / "p.bin", tmp_path / "i.bin"
    program.write_bytes(assemble(f"mv s1, a1\n{POWEROFF}", ENTRY))
    initrd.write_bytes(b"ramdisk!" * 64)
    made = Guest(engine="native", memory=8 << 20)
    made.load(program, initrd=initrd, append="console=ttyS0 quiet")
    assert made.run(10_000).reason == "exit"
    tree = made.vm.read_memory(int(made.vm.vcpus[0].hart.x[9]), 4096)
    assert b"console=ttyS0 quiet\0" in tree
    assert b"linux,initrd-start\0" in tree
    assert b"clint" not in tree
    assert made.vm.read_memory(0x8060_0000, 8) == b"ramdisk!"


def test_limits_and_ctrl_c() -> None:
    """Instruction and time limits, and Ctrl-C, end a loop with the result so far."""
    made = guest("1: j 1b")
    first = made.run(max_instructions=12_345)
    assert (first.reason, first.instructions, first.exit_status) == ("limit", 12_345, 3)
    assert made.run(max_seconds=0.05).reason == "limit"
    threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    assert made.run(max_seconds=20).exit_status == 130


def test_time_passes_for_hosted_levels() -> None:
    """An access that firmware emulates costs guest time: its estimate, in ticks of the time CSR."""
    access = "la s0, data\n rdtime s1\n ld t0, 1(s0)\n rdtime s2\n sub s2, s2, s1\n"
    made = guest(f"{access}{POWEROFF}.align 3\ndata: .dword 0, 0")
    assert made.run(10_000).reason == "exit"
    (spent,) = [r.m_instructions for r in made.vm.last_traps if r.cause == 4]
    assert spent > 300
    assert abs(int(made.vm.vcpus[0].hart.x[18]) - spent // 100) <= 1


def test_a_guest_that_only_exits_answers_limits() -> None:
    """A loop of emulated accesses, one instruction each, still ends at a limit of seconds and at Ctrl-C."""
    made = guest("la s0, data\n1: ld t0, 1(s0)\n ld t0, 1(s0)\n j 1b\n.align 3\ndata: .dword 0, 0")
    assert made.run(max_seconds=0.2).reason == "limit"
    threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    assert made.run(max_seconds=20).exit_status == 130


def test_u_boot_boots_takes_commands_and_powers_off() -> None:
    """Debian's U-Boot for S-mode runs unmodified; its records and the compiled counters agree."""
    out: list[bytes] = []
    prompts = [(b"autoboot", b" "), (b"=> ", b"version\n"), (b"=> ", b"bdinfo\n"), (b"=> ", b"poweroff\n")]
    made = Guest(engine="native", console=Console(out.append, Script(prompts)))
    made.load(UBOOT)
    records = 0

    def count(record: object) -> None:
        nonlocal records
        records += 1

    made.vm.on_trap = count
    result = made.run(max_instructions=2_000_000_000)
    text = b"".join(out)
    assert (result.reason, result.code) == ("exit", 0)
    assert text.count(b"U-Boot 2023.01") == 2
    assert b"DRAM bank   = 0x0000000000000000" in text
    assert made.devices.unassigned.describe() == []
    hart = made.vm.vcpus[0].hart
    destinations = {0: 0, 1: 0, 2: 0}
    for cause in range(64):
        for origin in (4, 5):
            for destination in destinations:
                destinations[destination] += int(hart.trap_count[(cause * 8 + origin) * 4 + destination])
    assert destinations[0] + destinations[1] == records == made.vm.stats()["exits"]


def test_two_runs_of_u_boot_are_the_same() -> None:
    """The same inputs give the same instruction count, and the same trace of traps."""
    runs = []
    for _ in range(2):
        made = Guest(engine="native", console=Console(None, Script([(b"autoboot", b" "), (b"=> ", b"poweroff\n")])))
        made.load(UBOOT)
        trace: list[tuple[int, int, int]] = []
        made.vm.on_trap = lambda r, trace=trace: trace.append((r.instret, r.cause, r.epc))  # type: ignore[misc]
        runs.append((made.run(max_instructions=2_000_000_000), trace))
    assert runs[0] == runs[1]


def test_suspend_to_ram_until_a_timer() -> None:
    """SUSP suspends the guest until an interrupt that it left enabled; it goes on at its resume address."""
    made = guest(
        f"""
        li t0, 0x20
        csrs sie, t0
        csrr t1, time
        li t2, 100000
        add t1, t1, t2
        csrw stimecmp, t1
        li s1, 1
        la a1, resume
        li a7, 0x53555350
        li a6, 0
        li a0, 0
        li a2, 55
        ecall
        li s1, 2
    resume:
        mv s2, a1
        csrr s3, satp
        {POWEROFF}
        """
    )
    assert made.run(10_000).reason == "exit"
    x = made.vm.vcpus[0].hart.x
    assert (int(x[9]), int(x[18]), int(x[19])) == (0, 55, 0)
    assert made.vm.vcpus[0].timer.now() > 100_000


SMP = """
    # Hart 0 starts the others, sends each an IPI, fences them all, and sees them stopped again.
    li s0, {harts}
    mv s1, a0
    bnez a0, other
    la t0, trap
    csrw stvec, t0
    li s2, 1
1:  mv a0, s2
    la a1, other
    li a2, 0x77
    li a7, 0x48534d
    li a6, 0
    ecall
    bnez a0, bad
    addi s2, s2, 1
    blt s2, s0, 1b
    la s3, ready
2:  ld t0, 0(s3)
    addi t1, s0, -1
    blt t0, t1, 2b
    li a0, -1
    li a1, 0
    slli a0, a0, 1
    li t0, 1
    sll t0, t0, s0
    addi t0, t0, -1
    and a0, a0, t0
    li a7, 0x735049
    li a6, 0
    ecall
    bnez a0, bad
    li a0, 0
    li a1, -1
    li a2, 0
    li a3, 0
    li a7, 0x52464e43
    li a6, 1
    ecall
    bnez a0, bad
    li s2, 1
3:  mv a0, s2
    li a7, 0x48534d
    li a6, 2
    ecall
    li t0, 1
    bne a1, t0, 3b
    addi s2, s2, 1
    blt s2, s0, 3b
    li a1, 0
    j off
bad:
    li a1, 1
off:
    li a0, 0
    li a7, 0x53525354
    li a6, 0
    ecall
other:
    li t0, 0x77
    bne a1, t0, bad
    li t0, 2
    csrs sie, t0
    la t1, ready
    li t2, 1
    amoadd.d zero, t2, (t1)
    wfi
    csrr t3, sip
    andi t3, t3, 2
    beqz t3, bad
    li a7, 0x48534d
    li a6, 1
    ecall
    j bad
.align 2
trap:
    j bad
.align 3
ready:
    .dword 0
"""


@pytest.mark.parametrize("policy", ["linux-5.18", "linux-6.12", "linux-7.2", "xvisor", "zhou", "patel", "holland-2"])
def test_four_vcpus_start_wait_wake_and_stop(policy: str) -> None:
    """HSM, IPIs, WFI and remote fences among four vCPUs, twice the same."""
    runs = []
    for _ in range(2):
        made = Guest(policy, engine="native", memory=4 << 20, vcpus=4)
        made.load_bytes(assemble(SMP.format(harts=4), ENTRY))
        result = made.run(2_000_000)
        assert (result.reason, result.code) == ("exit", 0)
        runs.append((result.instructions, made.vm.stats()))
    assert runs[0] == runs[1]
    assert runs[0][1]["wfi_exit_stat"] == 3

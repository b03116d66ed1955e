"""Random instructions on memory, devices, holes and nothing: KVM's guests die of them, those of `proposed` never."""

from __future__ import annotations

import random
from functools import cache

import pytest
from tests.small_elf import elf

from trapline.firmware.firmware import Firmware
from trapline.isa.assemble import assemble_program
from trapline.lab.firmware_names import ALL
from trapline.privilege.isa_string import DEFAULT_ISA
from trapline.vmm.arguments import parse_slot
from trapline.vmm.guest import Guest
from trapline.vmm.result import GuestResult

BASE = 0x8020_0000
SLOTS = 300  # of 16 bytes: a random instruction, then ecalls
ECALL = (0x73).to_bytes(4, "little")

# Every exception leads to `next`, which enters the next slot with the same registers: they point to devices, a hole,
# a read-only slot, nothing, memory, and beside what is aligned.
KERNEL = """
    li t0, 7
    csrw scounteren, t0
    li t0, 0xf0
    csrw senvcfg, t0
    .align 2
next:
    la t0, counter
    ld t1, 0(t0)
    li t2, {slots}
    bge t1, t2, done
    addi t2, t1, 1
    sd t2, 0(t0)
    slli t1, t1, 4
    la t2, slots
    add t2, t2, t1
    csrw sepc, t2
    li t3, 0x6100
    csrc sstatus, t3
    li t3, {status}
    csrs sstatus, t3
    csrw satp, zero
    la t3, next
    csrw stvec, t3
    csrw sie, zero
    li ra, 0x10000000
    li sp, 0x10000000
    li gp, 0x40000000
    li tp, 0x50000000
    li s0, 0x10000001
    li s1, 0x44000000
    li a0, 0x80300000
    li a1, 0x80300004
    li a2, 0x10000000
    li a3, 0x40000000
    li a4, 0x20000004
    li a5, 0x0c000000
    li a6, 0x10001000
    li a7, 0x10
    li s3, -8
    sret
done:
    li a7, 0x53525354
    li a6, 0
    li a0, 0
    li a1, 0
    ecall
    .align 3
counter:
    .zero 8
    .align 4
slots:
"""
OPCODES = (0x03, 0x07, 0x0F, 0x13, 0x1B, 0x23, 0x27, 0x2F, 0x33, 0x53, 0x63, 0x67, 0x6F, 0x73, 0x43, 0x57, 0x0B, 0x2B)
SYSTEM = (
    0x10500073, 0x00D00073, 0x01D00073, 0x10200073, 0x30200073, 0x00100073, 0x12000073, 0x62000073, 0x22000073,
    0x6C054573, 0x14D02573, 0x10402573, 0x14402573, 0xC0002573, 0xC0202573, 0xC0302573, 0x60002573, 0x18002573,
)  # fmt: skip


def instruction(source: random.Random) -> bytes:
    """Return a random instruction; loads, stores and atomics mostly with an offset of 0 and a valid operation."""
    if source.random() < 0.5:
        bits = source.getrandbits(16)
        return (bits if bits & 3 != 3 else bits & ~1).to_bytes(2, "little")
    opcode = source.choice(OPCODES)
    bits = source.getrandbits(32) & ~0x7F | opcode
    if opcode == 0x73:
        return source.choice(SYSTEM).to_bytes(4, "little")
    if opcode in (0x03, 0x07):
        bits &= ~(0xFFF << 20)
    elif opcode in (0x23, 0x27):
        bits &= ~(0x7F << 25 | 0x1F << 7)
    elif opcode == 0x2F:
        operation = source.choice((0, 1, 2, 3, 4, 8, 12, 16, 20, 24, 28))
        bits = bits & ~(7 << 12 | 0x1F << 27) | source.choice((2, 3)) << 12 | operation << 27
    elif opcode == 0x0F:
        bits = bits & ~(7 << 12 | 0x1F << 7 | 0xFFF << 20) | 2 << 12 | source.choice((0, 1, 2, 4)) << 20
    return bits.to_bytes(4, "little")


@cache
def kernel(mode: str) -> bytes:
    """The guest's kernel for slots in VU or VS."""
    return assemble_program(KERNEL.format(slots=SLOTS, status=0x6000 | (0x100 if mode == "VS" else 0)), BASE).code


def run(policy: str, seed: int, mode: str, firmware: str, *, host_fwft: bool, misaligned: str) -> GuestResult:
    """Run a guest of random instructions; those of VS may stop it by a wfi, or lose their way until a limit."""
    source = random.Random(seed)
    slots = b"".join((instruction(source) + ECALL * 4)[:16] for _ in range(SLOTS))
    guest = Guest(
        policy,
        firmware=Firmware(ALL[firmware], host_fwft=host_fwft),
        memory=8 << 20,
        misaligned=misaligned,
        memslots=[parse_slot("0x40000000:64K:hole"), parse_slot("0x44000000:64K:ro")],
        isa=f"{DEFAULT_ISA}_zcb",
    )
    guest.load_bytes(elf(BASE, [(BASE, kernel(mode) + slots)]), "random")
    return guest.run(SLOTS * 100)


@pytest.mark.parametrize("firmware", ALL)
def test_nothing_random_ends_a_vm_under_proposed(firmware: str) -> None:
    """On every firmware, whatever misaligned accesses do, random instructions of VU and VS neither kill nor hang."""
    for number, (host_fwft, misaligned) in enumerate([(False, "trap"), (True, "trap"), (False, "hardware")]):
        for mode in ("VU", "VS"):
            seed = number * 10 + len(firmware)
            result = run("proposed", seed, mode, firmware, host_fwft=host_fwft, misaligned=misaligned)
            assert result.reason in ("exit", "limit", "stuck"), (mode, seed, result.message)


@pytest.mark.parametrize("mode", ["VU", "VS"])
def test_they_end_one_under_the_kernel(mode: str) -> None:
    """The same guests are killed by KVM as it is, so the test above would notice."""
    assert run("linux-7.2", 11, mode, "opensbi-1.6", host_fwft=False, misaligned="trap").reason == "killed"

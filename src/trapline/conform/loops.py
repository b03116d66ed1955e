"""Loops of one trap each, for the KVM user program: what a round trip costs, as the mean of many.

A loop runs in VS-mode without paging unless it says otherwise; its handler steps over the instruction that
trapped. A few rounds come before the first mark, so that nothing in between happens for the first time.
"""

from __future__ import annotations

from dataclasses import dataclass

from trapline.isa.assemble import assemble
from trapline.lab.probe.image import ALL, END, FINISHER, MARK, MMIO_PAGE
from trapline.privilege.fields import ATP_MODE_SHIFT, ATP_SV39
from trapline.privilege.pte import PTE_U

RAM = 0x8000_0000
TABLE = RAM + 0x2000
USER = 64 << 30
UNMAPPED = 3 << 30
TOUCHED, TOUCHED_PAGES = RAM + 0x20_0000, 4000
SMALL, LARGE = 0x20_0000, 0x180_0000
WARM_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop: `event` raises the trap once, `before` sets up registers (t0 to t2 are the handler's)."""

    name: str
    text: str
    event: str
    before: str = ""
    paging: bool = False
    user: bool = False


LOOPS = (
    Loop("nothing", "no trap", "nop"),
    Loop("ebreak", "ebreak", "ebreak"),
    Loop("ecall-user", "ecall from VU", "ecall", paging=True, user=True),
    Loop("load-fault", "load page fault", "ld a0, 0(s3)", f"li s3, {UNMAPPED:#x}", paging=True),
    Loop("illegal", "illegal instruction", ".insn 0x0000000b"),
    Loop("misaligned-lr", "misaligned lr.d", "lr.d a0, (s3)", f"li s3, {RAM + 0x1004:#x}"),
    Loop("misaligned-amo", "misaligned amoadd.d", "amoadd.d a0, zero, (s3)", f"li s3, {RAM + 0x1004:#x}"),
    Loop("hstatus", "hstatus access", "csrr a0, hstatus"),
    Loop("rdcycle", "rdcycle", "csrr a0, cycle"),
    Loop("sbi-base", "SBI get_spec_version", "ecall", "li a7, 0x10; li a6, 0"),
    Loop("sbi-timer", "SBI set_timer", "li a0, -1; ecall", "li a7, 0x54494d45; li a6, 0"),
    Loop("sbi-vmm", "SBI call to user space", "ecall", "li a7, 0x08000000; li a6, 0"),
    Loop("mmio-lw", "MMIO lw", "lw a0, 0(s3)", f"li s3, {MMIO_PAGE:#x}"),
    Loop("mmio-sw", "MMIO sw", "sw zero, 0(s3)", f"li s3, {MMIO_PAGE:#x}"),
    Loop("touch", "first touch of a page", "sd zero, 0(s3); add s3, s3, s4", f"li s3, {TOUCHED:#x}; li s4, 0x1000"),
)
BY_NAME = {loop.name: loop for loop in LOOPS}


def rounds_of(loop: Loop, rounds: int) -> int:
    """Return how many rounds a loop of `rounds` really makes: each page is touched once."""
    return min(rounds, TOUCHED_PAGES) if loop.name == "touch" else rounds


def encode(loop: Loop, rounds: int) -> bytes:
    """Return the guest: code, and a page table behind it."""
    window = USER if loop.user else 0
    satp = f"li t0, {ATP_SV39 << ATP_MODE_SHIFT | TABLE >> 12:#x}; csrw satp, t0; sfence.vma" if loop.paging else ""
    source = f"""
  la t0, handler
  csrw stvec, t0
  {satp}
  {loop.before}
  li s5, {FINISHER + window:#x}
  li t0, 0x100
  {"csrc" if loop.user else "csrs"} sstatus, t0
  la t0, begin
  li t1, {window:#x}
  add t0, t0, t1
  csrw sepc, t0
  sret
begin:
  li s2, {WARM_ROUNDS}
  jal s1, rounds
  li a2, {MARK:#x}
  sw a2, 0(s5)
  li s2, {rounds_of(loop, rounds)}
  jal s1, rounds
  li a2, {END:#x}
  sw a2, 0(s5)
9:j 9b
  .align 2
rounds:
  {loop.event}
  addi s2, s2, -1
  bnez s2, rounds
  jr s1
  .align 2
handler:
  csrr t0, sepc
  addi t0, t0, 4
  csrw sepc, t0
  sret
"""
    code = assemble(source, RAM)
    table = [0] * 512
    for first, user in ((0, 0), (64, PTE_U)):
        table[first], table[first + 2] = ALL | user, RAM >> 2 | ALL | user
    return code + bytes(TABLE - RAM - len(code)) + b"".join(entry.to_bytes(8, "little") for entry in table)


def files(loops: tuple[Loop, ...], rounds: int) -> dict[str, bytes]:
    """Return the files of the initramfs."""
    lines = [f"{loop.name} {LARGE if loop.name == 'touch' else SMALL:#x}" for loop in loops]
    found = {f"loops/{loop.name}": encode(loop, rounds) for loop in loops}
    return {**found, "loops.txt": ("\n".join(lines) + "\n").encode()}

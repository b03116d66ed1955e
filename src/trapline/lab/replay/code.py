"""What a counterexample brings along to run by itself: as a guest, beside firmware, and bare.

The launcher finds out in which mode it starts without a trap, for a trap may be what kills: with paging on, a load
from ELSEWHERE is translated in S-mode and is not in M-mode. Started in M-mode it hands every trap to S-mode and
enters it, as firmware would. The reporter stands behind the event: it writes what the handler noted to the serial
port and ends the machine, by the test finisher and, bare, by HTIF's `tohost` first.
"""

from __future__ import annotations

from dataclasses import dataclass

from trapline.isa.assemble import assemble_program
from trapline.lab.probe import image
from trapline.privilege.fields import ATP_MODE_SHIFT, ATP_SV39
from trapline.privilege.pte import PTE_V

CODE = image.RAM + 0xE_0000  # within reach of a jump from every event, below the page table
ROOT, MIDDLE = image.RAM + 0xF_0000, image.RAM + 0xF_1000
MAPPED, ELSEWHERE = image.RAM + 0x40_0000, image.RAM + 0x60_0000  # large pages behind the probe's memory
GIGA, MEGA = 1 << 30, 1 << 21
HTIF_ROUNDS = 20_000  # that Spike may take to look at tohost

_SOURCE = """
start:
  li t0, {elsewhere:#x}
  sd zero, 0(t0)
  li t1, {mapped:#x}
  li t2, 1
  sd t2, 0(t1)
  li t1, {satp:#x}
  csrw satp, t1
  sfence.vma
  ld t2, 0(t0)
  csrw satp, zero
  sfence.vma
  la t0, vector                 # direct mode: QEMU 7.2 keeps bit 0 of mepc, where firmware puts stvec to redirect
  la t1, trap
  sd t1, 0(t0)
  bnez t2, supervisor

  la t0, machine_trap           # M-mode: nobody else is here
  csrw mtvec, t0
  li t0, -1
  csrw medeleg, t0
  csrw mcounteren, t0
  csrw pmpaddr0, t0
  li t0, 0x1f
  csrw pmpcfg0, t0
  li t0, 0xf0                   # cache-block operations for the levels below
  csrw menvcfg, t0
  la t0, bare
  li t1, 1
  sd t1, 0(t0)
  la t0, finisher
  li t1, {scratch:#x}
  sd t1, 0(t0)
  li t0, 0x1800
  csrc mstatus, t0
  li t0, 0x800
  csrs mstatus, t0
  la t0, supervisor
  csrw mepc, t0
  mret

  .align 2
machine_trap:                   # a CSR that this hart lacks, or an SBI call: there is no firmware
  csrw mscratch, t0
  csrr t0, mepc
  addi t0, t0, 4
  csrw mepc, t0
  csrr t0, mcause
  addi t0, t0, -9
  bnez t0, 1f
  li a0, -2
1:csrr t0, mscratch
  mret

supervisor:
  j probe

  .align 2
trap:
  csrr t0, scause
  bltz t0, 1f
  j handler
1:j timer

over:                           # in the event's mode: tp is its address window, s0 the end of the log
  li s2, {uart:#x}
  add s2, s2, tp
  la a0, title
  call text
  li s3, {log:#x}
  bne s3, s0, record
  la a0, no_trap
  call text
  j end
record:
  add s4, s3, tp
  la a0, name_cause
  call text
  ld a1, 0(s4)
  call hex
  la a0, name_epc
  call text
  ld a1, 8(s4)
  call hex
  la a0, name_tval
  call text
  ld a1, 16(s4)
  call hex
  li a1, 10
  sb a1, 0(s2)
  addi s3, s3, {record}
  bne s3, s0, record
end:
  la t0, bare
  ld t1, 0(t0)
  beqz t1, 2f
  la t0, tohost
  li t1, 1
  sd t1, 0(t0)
  li t1, {rounds}
1:addi t1, t1, -1
  bnez t1, 1b
2:li t0, {finisher:#x}
  add t0, t0, tp
  li t1, {end:#x}
  sw t1, 0(t0)
3:j 3b

text:                           # a0: characters to the serial port, up to a zero
  lbu t1, 0(a0)
  beqz t1, 1f
  sb t1, 0(s2)
  addi a0, a0, 1
  j text
1:ret

hex:                            # a1 as 0x and 16 digits
  li t1, 48
  sb t1, 0(s2)
  li t1, 120
  sb t1, 0(s2)
  li t2, 60
1:srl t1, a1, t2
  andi t1, t1, 15
  addi t1, t1, 48
  li t3, 58
  blt t1, t3, 2f
  addi t1, t1, 39
2:sb t1, 0(s2)
  addi t2, t2, -4
  bgez t2, 1b
  ret

  .align 3
bare:
  .dword 0
tohost:
  .dword 0
fromhost:
  .dword 0
title:
  .asciz "{title}\\n"
no_trap:
  .asciz "  no trap\\n"
name_cause:
  .asciz "  scause "
name_epc:
  .asciz " sepc "
name_tval:
  .asciz " stval "
"""


@dataclass(frozen=True, slots=True)
class Launcher:
    """Code and tables by address, the symbols that others look for, and the jump that belongs behind the event."""

    parts: tuple[tuple[int, bytes], ...]
    symbols: dict[str, int]
    first: bytes  # belongs at the lowest address: QEMU starts there, whatever the ELF says
    jump: bytes


def launcher(title: str, probe: int, after: int, symbols: dict[str, int]) -> Launcher:
    """Return what surrounds a probe that begins at `probe`, whose event ends before `after`.

    `symbols` are the image's: the word at `finisher`, say, is changed in M-mode, where no finisher may be.
    """
    source = _SOURCE.format(
        elsewhere=ELSEWHERE,
        mapped=MAPPED,
        satp=ATP_SV39 << ATP_MODE_SHIFT | ROOT >> 12,
        scratch=image.SCRATCH + 0xF00,
        uart=image.MMIO_PAGE,
        log=image.LOG,
        record=image.RECORD,
        rounds=HTIF_ROUNDS,
        finisher=image.FINISHER,
        end=image.END,
        title=title,
    )
    known = "".join(f".equ {name}, {value:#x}\n" for name, value in {**symbols, "probe": probe}.items())
    program = assemble_program(known + source, CODE)
    if CODE + len(program.code) > ROOT:
        raise AssertionError("the launcher outgrew its place")
    found = {name: program.symbols[name] for name in ("start", "over", "tohost", "fromhost")}
    parts = (CODE, program.code), (ROOT, _root()), (MIDDLE, _middle())
    return Launcher(parts, found, _jump(image.RAM, found["start"]), _jump(after, found["over"]))


def _jump(here: int, target: int) -> bytes:
    return assemble_program(f".equ target, {target:#x}\nj target", here).code


def _root() -> bytes:
    table = [0] * 512
    table[CODE // GIGA] = MIDDLE >> 2 | PTE_V
    return _packed(table)


def _middle() -> bytes:
    """Return identity in large pages, but for the one that tells the modes apart."""
    first = CODE // GIGA * GIGA
    table = [first + n * MEGA >> 2 | image.ALL for n in range(512)]
    table[(ELSEWHERE - first) // MEGA] = MAPPED >> 2 | image.ALL
    return _packed(table)


def _packed(table: list[int]) -> bytes:
    return b"".join(entry.to_bytes(8, "little") for entry in table)

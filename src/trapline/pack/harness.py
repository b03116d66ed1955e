"""The M-mode program around the cases: it sets up, enters a mode, notes what the trap left, compares and prints.

The handlers of HS and VS are one instruction that traps on to M-mode; which of them it was says who took the trap
under test. Lower modes are entered by SRET from M-mode, so that a core whose mstatus.MPV is wrong runs the rest.

s0: case, s1: end of the cases, s2: checks that failed, s3: checks, s4: UART or 0, s5: cases skipped.
"""

from __future__ import annotations

from trapline.pack.rows import GVA, MDT, MGVA, MPRV, NOTED, QUIET, SPP, SPV

CASE = 64  # name, set-up, code, after, mode, end, checks, number of checks
CHECK = 48  # noted word, mask, wanted, other, label, rule

START = """
_start:
  csrr t0, mhartid
  bnez t0, park
  li s11, {mdt}               # until something is printed
  li s4, 0
  la t0, no_nmi
  csrw mtvec, t0
  csrc mstatus, s11           # traps go to mtvec also with Smdbltrp, from here on with Smrnmi
  csrsi 0x744, 8              # mnstatus.NMIE
  .align 2
no_nmi:
  csrc mstatus, s11
  la t0, no_stateen
  csrw mtvec, t0
  li t0, -1
  csrw 0x30c, t0              # mstateen0, then hstateen0: all state is for all modes
  csrw 0x60c, t0
  .align 2
no_stateen:
  csrc mstatus, s11
  la t0, no_uart
  csrw mtvec, t0
  li t1, {uart}
  beqz t1, no_uart
  lbu t0, 5(t1)
  mv s4, t1
  .align 2
no_uart:
  csrc mstatus, s11
  la t0, no_pmp
  csrw mtvec, t0
  li t0, -1
  csrw pmpaddr1, t0
  li t0, {noaccess} >> 2 | 0x1fff
  csrw pmpaddr0, t0
  li t0, 0x1f18               # entry 0: 64 KiB of nothing; entry 1: all of memory
  csrw pmpcfg0, t0
  csrr t0, pmpcfg0
  la t1, pmp_held
  sd t0, 0(t1)
  .align 2
no_pmp:
  csrc mstatus, s11
  la s0, {cases}
  la s1, {cases_end}
  li s2, 0
  li s3, 0
  li s5, 0
next:
  bgeu s0, s1, finish
  la t0, trapped
  csrw mtvec, t0
  call neutral
  ld t0, 8(s0)
  jalr t0
  li t0, {spp}
  csrc mstatus, t0
  li t0, {spv}
  csrc hstatus, t0
  ld t1, 32(s0)               # the mode: V, privilege
  andi t2, t1, 3
  andi t3, t1, 4
  ld t4, 16(s0)
  li t5, 3
  beq t2, t5, in_machine
  beqz t3, 1f
  li t0, {spv}
  csrs hstatus, t0
1:beqz t2, 2f
  li t0, {spp}
  csrs mstatus, t0
2:csrw sepc, t4
  li a1, 0
  sret
in_machine:
  li a1, 0
  jr t4

neutral:                      # nothing delegated, no translation, nothing pending
  li t0, {quiet}
  csrc mstatus, t0
  csrw medeleg, zero
  csrw mideleg, zero
  csrw hedeleg, zero
  csrw hideleg, zero
  csrw mie, zero
  csrw mip, zero
  csrw hvip, zero
  csrw satp, zero
  csrw vsatp, zero
  csrw hgatp, zero
  csrw hstatus, zero
  csrw vsstatus, zero
  csrw mcounteren, zero
  csrw hcounteren, zero
  csrw henvcfg, zero
  csrw menvcfg, zero
  csrw scounteren, zero
  csrw scause, zero
  csrw vscause, zero
  csrw mtval2, zero
  csrw mtinst, zero
  csrw htinst, zero
  li t0, 0x7f0
  csrw stval, t0
  csrw vstval, t0
  csrw mtval, t0
  csrw vsepc, t0
  csrw htval, t0
  sfence.vma
  hfence.gvma
  hfence.vvma
  ld t1, 40(s0)
  andi t1, t1, 1
  la t0, hs_ecall
  la t2, vs_ecall
  beqz t1, 1f
  la t0, hs_ebreak
  la t2, vs_ebreak
1:csrw stvec, t0
  csrw vstvec, t2
  ret

skipped:
  addi s5, s5, 1
  j behind

  .align 2
hs_ecall:
  ecall
  .align 2
hs_ebreak:
  ebreak
  .align 2
vs_ecall:
  ecall
  .align 2
vs_ebreak:
  ebreak
"""

_TRAPPED = f"""
  .align 2
trapped:
  la t0, noted
{{notes}}
  li t1, {MPRV}
  csrc mstatus, t1
  csrr t1, hstatus            # GVA and a value of zero cannot be together
  andi t1, t1, {GVA}
  snez t1, t1
  csrr t2, stval
  snez t2, t2
  xor t1, t1, t2
  sd t1, {8 * NOTED.index("hgva")}(t0)
  li t2, {MGVA}
  csrr t1, mstatus
  and t1, t1, t2
  snez t1, t1
  csrr t2, mtval
  snez t2, t2
  xor t1, t1, t2
  sd t1, {8 * NOTED.index("mgva")}(t0)
  la t1, watched
  ld t1, 0(t1)
  ld t1, 0(t1)
  sd t1, {8 * NOTED.index("watched")}(t0)
  csrr t1, mepc
  li t2, 3
  ld t3, 24(s0)
  beq t1, t3, 1f
  li t2, 1
  la t3, hs_ecall
  beq t1, t3, 1f
  la t3, hs_ebreak
  beq t1, t3, 1f
  li t2, 2
  la t3, vs_ecall
  beq t1, t3, 1f
  la t3, vs_ebreak
  beq t1, t3, 1f
  li t2, 0
1:sd t2, 0(t0)
  ld t1, 40(s0)
  andi t1, t1, 2
  beqz t1, compare
  li t1, 3
  beq t1, t2, skipped
compare:
  la t0, trapped
  csrw mtvec, t0
  ld s6, 48(s0)
  ld s7, 56(s0)
1:beqz s7, behind
  addi s3, s3, 1
  la t0, noted
  ld t1, 0(s6)
  slli t1, t1, 3
  add t0, t0, t1
  ld s8, 0(t0)
  ld t1, 8(s6)
  and s8, s8, t1
  ld t1, 16(s6)
  beq s8, t1, 2f
  ld t1, 24(s6)
  beq s8, t1, 2f
  call complain
2:addi s6, s6, {CHECK}
  addi s7, s7, -1
  j 1b
behind:
  addi s0, s0, {CASE}
  j next
"""

END = """
complain:
  mv s9, ra
  addi s2, s2, 1
  la a0, text_bad
  call print
  ld a0, 0(s0)
  call print
  la a0, text_colon
  call print
  ld a0, 32(s6)
  call print
  la a0, text_is
  call print
  mv a0, s8
  call number
  la a0, text_must
  call print
  ld a0, 16(s6)
  call number
  ld a0, 24(s6)
  ld t0, 16(s6)
  beq a0, t0, 1f
  la a0, text_or
  call print
  ld a0, 24(s6)
  call number
1:la a0, text_colon
  call print
  ld a0, 40(s6)
  call print
  la a0, text_end
  call print
  mv ra, s9
  ret

number:                       # a0 in hexadecimal
  mv s10, ra
  mv s11, a0
  la a0, text_hex
  call print
  li a4, 60
1:beqz a4, 2f
  srl t0, s11, a4
  bnez t0, 2f
  addi a4, a4, -4
  j 1b
2:srl t0, s11, a4
  andi t0, t0, 15
  la t1, digits
  add t1, t1, t0
  lbu a2, 0(t1)
  call put
  addi a4, a4, -4
  bgez a4, 2b
  mv ra, s10
  ret

decimal:                      # a0
  mv s10, ra
  li t2, 10
  la t1, noted
  addi t1, t1, 248
  sb zero, 0(t1)
1:remu t0, a0, t2
  divu a0, a0, t2
  addi t0, t0, 48
  addi t1, t1, -1
  sb t0, 0(t1)
  bnez a0, 1b
  mv a0, t1
  call print
  mv ra, s10
  ret

print:                        # the text at a0
  mv a5, ra
1:lbu a2, 0(a0)
  beqz a2, 2f
  call put
  addi a0, a0, 1
  j 1b
2:mv ra, a5
  ret

put:                          # a2; by HTIF where there is no UART
  li t1, 100000
  beqz s4, 2f
1:lbu t0, 5(s4)
  andi t0, t0, 0x20
  addi t1, t1, -1
  beqz t1, 3f
  beqz t0, 1b
3:sb a2, 0(s4)
  ret
2:la t0, tohost
  li t2, 0x101
  slli t2, t2, 48
  or t2, t2, a2
  sd t2, 0(t0)
1:ld t2, 0(t0)
  beqz t2, 1f
  addi t1, t1, -1
  bnez t1, 1b
1:la t0, fromhost
  sd zero, 0(t0)
  ret

finish:
  la a0, text_ok
  beqz s2, 1f
  la a0, text_failed
1:call print
  mv a0, s2
  call decimal
  la a0, text_of
  call print
  mv a0, s3
  call decimal
  la a0, text_skipped
  call print
  mv a0, s5
  call decimal
  la a0, text_end
  call print
  li t0, {mdt}
  csrc mstatus, t0
  la t0, htif
  csrw mtvec, t0
  li t0, {finisher}
  beqz t0, htif
  li t1, 0x5555
  beqz s2, 1f
  li t1, 0x13333
1:sw t1, 0(t0)
  .align 2
htif:
  la t0, tohost
  li t1, 1
  beqz s2, 1f
  li t1, 3
1:sd t1, 0(t0)
  j 1b
park:
  wfi
  j park

text_bad: .asciz "BAD "
text_colon: .asciz ": "
text_is: .asciz " is "
text_must: .asciz ", must be "
text_or: .asciz " or "
text_hex: .asciz "0x"
text_end: .asciz "\\n"
text_ok: .asciz "ok: "
text_failed: .asciz "failed: "
text_of: .asciz " bad of "
text_skipped: .asciz " checks, cases skipped: "
digits: .ascii "0123456789abcdef"
  .align 6
tohost: .dword 0
  .align 6
fromhost: .dword 0
  .align 6
noted: .zero 256
watched: .dword noted
pmp_held: .dword 0
"""


def source(uart: int, finisher: int, noaccess: int, cases: int, cases_end: int) -> str:
    """Return the program without its cases; the addresses of devices are 0 where there are none."""
    notes = [f"  sd a1, {8 * NOTED.index('a1')}(t0)"]
    for n, name in enumerate(NOTED):
        if name not in ("taker", "a1", "hgva", "mgva", "watched"):
            notes.append(f"  csrr t1, {name}; sd t1, {8 * n}(t0)")
    start = START.format(
        uart=uart, noaccess=noaccess, cases=cases, cases_end=cases_end, mdt=MDT, spp=SPP, spv=SPV,
        quiet=QUIET,
    )  # fmt: skip
    return (
        start
        + _TRAPPED.format(notes="\n".join(notes))
        + END.replace("{finisher}", f"{finisher:#x}").replace("{mdt}", f"{MDT:#x}")
    )

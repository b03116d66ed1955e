# The start of an S-mode guest at 0x80200000, and its trap handler.
    .section .text.start, "ax"
    .globl _start
_start:
    la sp, stack_end
    la t0, entry
    csrw stvec, t0
    call main
1:  wfi
    j 1b

    .text
    .align 2
entry:
    addi sp, sp, -160
    sd ra, 0(sp)
    .set at, 8
    .irp r, t0, t1, t2, t3, t4, t5, t6, a0, a1, a2, a3, a4, a5, a6, a7
    sd \r, at(sp)
    .set at, at + 8
    .endr
    call trapped
    ld ra, 0(sp)
    .set at, 8
    .irp r, t0, t1, t2, t3, t4, t5, t6, a0, a1, a2, a3, a4, a5, a6, a7
    ld \r, at(sp)
    .set at, at + 8
    .endr
    addi sp, sp, 160
    sret

    .bss
    .align 4
    .space 16384
stack_end:

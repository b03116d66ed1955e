/* Environment `guest`: the program runs in VS-mode under two-stage Sv39 + Sv39x4; only its console and
 * exit calls leave it (to M-mode, cause 10). */
#include "platform.h"

    .option norelax
    .option arch, +h
    .text
    .globl environment
environment:
    call build_tables
    call table_registers
    csrw vsatp, a0
    csrw hgatp, a1
    hfence.gvma
    hfence.vvma
    li t0, 0xb1ff & ~(1 << 10)
    csrw medeleg, t0
    csrw hedeleg, zero
    li t0, 1 << 13
    csrw vsstatus, t0           /* FS = initial */
    la t0, machine_exit
    csrw stvec, t0
    csrw vstvec, t0
    li t0, 3 << 11
    csrc mstatus, t0
    li t0, (1 << 39) | (1 << 11)    /* MPV, MPP = S */
    csrs mstatus, t0
    la t0, 1f
    csrw mepc, t0
    mret
1:  la sp, program_stack_top
    call main
    li a7, CALL_EXIT
    ecall

    .globl put_character
put_character:
    li a7, CALL_PUTCHAR
    ecall
    ret

    .bss
    .align 4
    .space 65536
program_stack_top:

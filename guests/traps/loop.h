/* What the trap loops share. Each file defines TRAP_NAME, the handler(s) and `loop_setup`, and includes
 * this: one loop of COUNT calls, counted by the loop in s0 and by the handler in s2, with paging on.
 * An illegal instruction, which always goes to M-mode, ends it.
 */
#include "platform.h"

#ifndef COUNT
#define COUNT 1000
#endif

    .option norelax
    .option arch, +h
    .text

/* Enter `loop` at privilege \mpp (0 user, 1 supervisor) with V = \virtual, both stages on. */
    .macro enter_loop mpp, virtual
    .globl environment
environment:
    call build_tables
    call table_registers
    csrw satp, a0
    csrw vsatp, a0
    csrw hgatp, a1
    sfence.vma
    hfence.gvma
    hfence.vvma
    la t0, loop_end
    csrw mtvec, t0
    call loop_setup
    li t0, 3 << 11
    csrc mstatus, t0
    li t0, (\virtual << 39) | (\mpp << 11)
    csrs mstatus, t0
    la t0, loop
    .if \mpp == 0
    li t1, USER_OFFSET
    add t0, t0, t1
    .endif
    csrw mepc, t0
    li s0, 0
    li s1, COUNT
    li s2, 0
    mret
    .endm

    .align 6
loop:
    ecall
    addi s0, s0, 1
    bne s0, s1, loop
    unimp

/* M-mode, when the loop ends or anything unexpected happens. */
    .align 2
loop_end:
    la sp, loop_stack_top
    csrr t0, mcause
    li t1, 2
    bne t0, t1, 1f
    bne s0, s1, 1f
    bne s2, s1, 1f
    la a0, loop_name
    mv a1, s2
    call report
    li a0, 0
    j machine_exit
1:  andi a0, t0, 63
    addi a0, a0, 64
    j machine_exit

    .globl put_character
put_character:
    j machine_putchar

    .section .rodata
loop_name:
    .asciz TRAP_NAME

    .bss
    .align 4
    .space 4096
loop_stack_top:
    .text

/* M-mode of every guest: reset, the trap handler, console and exit.
 *
 * The exit works on any simulator: tohost for HTIF, then the test finisher of the `virt` board. Where
 * there is no finisher its store faults, and the fault waits for HTIF.
 */
#include "platform.h"

    .option norelax
    .section .text.start, "ax"
    .globl _start
_start:
    la sp, machine_stack_top
    csrw mscratch, sp
    la t0, machine_trap
    csrw mtvec, t0
    li t0, -1
    csrw pmpaddr0, t0
    li t0, 0x1f
    csrw pmpcfg0, t0
    csrw mie, zero
    li t0, 1 << 13              /* mstatus.FS = initial */
    csrs mstatus, t0
    csrw fcsr, zero
    j environment

/* Leave with the code in a0. */
    .globl machine_exit
machine_exit:
    slli t1, a0, 1
    ori t1, t1, 1
    la t0, tohost
    sd t1, 0(t0)
    fence
    li t0, FINISHER
    li t1, FINISHER_PASS
    beqz a0, 1f
    slli t1, a0, 16
    li t2, FINISHER_FAIL
    or t1, t1, t2
1:  sw t1, 0(t0)
2:  j 2b

    .globl machine_putchar
machine_putchar:
    li t0, UART
1:  lbu t1, 5(t0)
    andi t1, t1, 0x20
    beqz t1, 1b
    sb a0, 0(t0)
    ret

/* Every trap that nobody below takes: calls from the guest, or a failure (exit code 64 + cause). */
    .align 2
machine_trap:
    csrrw sp, mscratch, sp
    addi sp, sp, -32
    sd t0, 0(sp)
    sd t1, 8(sp)
    sd ra, 16(sp)
    csrr t0, mcause
    addi t1, t0, -8             /* calls from U or VU, S or HS, VS */
    sltiu t1, t1, 3
    bnez t1, 1f
    csrr t1, mtval
    li ra, FINISHER
    beq t1, ra, 2f
    andi a0, t0, 63
    addi a0, a0, 64
    j machine_exit
2:  j 2b                        /* no finisher: HTIF ends it */
1:  csrr t0, mepc
    addi t0, t0, 4
    csrw mepc, t0
    bnez a7, machine_exit       /* CALL_EXIT */
    call machine_putchar
    ld t0, 0(sp)
    ld t1, 8(sp)
    ld ra, 16(sp)
    addi sp, sp, 32
    csrrw sp, mscratch, sp
    mret

    .section .tohost, "aw"
    .align 6
    .globl tohost
tohost:
    .dword 0
    .align 6
    .globl fromhost
fromhost:
    .dword 0

    .bss
    .align 4
    .space 4096
machine_stack_top:

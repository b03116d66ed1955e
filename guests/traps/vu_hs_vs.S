/* VU -> HS -> VS -> VU: hedeleg is clear, and HS redirects the call into VS as a hypervisor does. */
#define TRAP_NAME "vu_hs_vs"
#include "loop.h"

    enter_loop 0, 1

loop_setup:
    li t0, 1 << 8
    csrw medeleg, t0
    csrw hedeleg, zero
    la t0, redirect
    csrw stvec, t0
    la t0, guest_trap
    csrw vstvec, t0
    ret

/* HS: give VS the trap that hardware would have given it. */
    .align 2
redirect:
    csrr t0, scause
    csrw vscause, t0
    csrr t0, sepc
    csrw vsepc, t0
    csrr t0, stval
    csrw vstval, t0
    csrr t0, vsstatus
    andi t1, t0, 1 << 1         /* SIE becomes SPIE */
    slli t1, t1, 4
    andi t0, t0, ~((1 << 5) | (1 << 1))
    or t0, t0, t1
    csrr t1, sstatus            /* SPP as the trap found it */
    andi t1, t1, 1 << 8
    andi t0, t0, ~(1 << 8)
    or t0, t0, t1
    csrw vsstatus, t0
    csrr t0, vstvec
    csrw sepc, t0
    li t0, 1 << 8
    csrs sstatus, t0
    sret

    .align 2
guest_trap:
    csrr t0, scause
    addi t0, t0, -8
    bnez t0, 1f
    addi s2, s2, 1
    csrr t0, sepc
    addi t0, t0, 4
    csrw sepc, t0
    sret
1:  unimp

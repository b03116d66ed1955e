/* VS -> HS -> VS: a hypercall, handled in HS. */
#define TRAP_NAME "vs_hs_vs"
#include "loop.h"

    enter_loop 1, 1

loop_setup:
    li t0, 1 << 10
    csrw medeleg, t0
    la t0, host_trap
    csrw stvec, t0
    ret

    .align 2
host_trap:
    csrr t0, scause
    addi t0, t0, -10
    bnez t0, 1f
    addi s2, s2, 1
    csrr t0, sepc
    addi t0, t0, 4
    csrw sepc, t0
    sret
1:  unimp

/* U -> M -> U: a system call that is not delegated, under Sv39. */
#define TRAP_NAME "u_m"
#include "loop.h"

    enter_loop 0, 0

loop_setup:
    csrw medeleg, zero
    la t0, machine_call
    csrw mtvec, t0
    ret

    .align 2
machine_call:
    csrr t0, mcause
    addi t0, t0, -8
    bnez t0, 1f
    addi s2, s2, 1
    csrr t0, mepc
    addi t0, t0, 4
    csrw mepc, t0
    mret
1:  j loop_end

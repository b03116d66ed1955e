/* VU -> VS -> VU: the call is delegated by medeleg and hedeleg; hardware enters VS. */
#define TRAP_NAME "vu_vs"
#include "loop.h"

    enter_loop 0, 1

loop_setup:
    li t0, 1 << 8
    csrw medeleg, t0
    csrw hedeleg, t0
    la t0, guest_trap
    csrw vstvec, t0
    ret

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

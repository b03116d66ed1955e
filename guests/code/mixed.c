/* A loop whose data lies in the page of its code: one store and one load in eight instructions. */
#include "guest.h"

u64 mixed_loop(u64 count);
__asm__(
    "    .section .data.mixed, \"aw\"\n"
    "    .balign 4096\n"
    "    .globl mixed_loop\n"
    "mixed_loop:\n"
    "    lla t0, 2f\n"
    "    li a1, 1\n"
    "1:  ld t1, 0(t0)\n"
    "    add a1, a1, t1\n"
    "    slli t2, a1, 3\n"
    "    xor a1, a1, t2\n"
    "    addi a1, a1, 1\n"
    "    sd a1, 0(t0)\n"
    "    addi a0, a0, -1\n"
    "    bnez a0, 1b\n"
    "    mv a0, a1\n"
    "    ret\n"
    "    .balign 64\n"
    "2:  .dword 1\n");

int main(void)
{
    report("mixed", mixed_loop(REPEAT));
    return 0;
}

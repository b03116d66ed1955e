/* A loop that patches one of its own instructions each time around, the immediate of an addi, without a fence. */
#include "guest.h"

u64 patched_loop(u64 count);
__asm__(
    "    .section .data.patched, \"aw\"\n"
    "    .balign 4096\n"
    "    .globl patched_loop\n"
    "    .option push\n"
    "    .option norvc\n"
    "patched_loop:\n"
    "    li a1, 0\n"
    "    lla t0, 2f\n"
    "    li t1, 0x00058593\n" /* addi a1, a1, 0 */
    "    li t2, 0x00100000\n"
    "    li t4, 0x7fffffff\n"
    "1:  add t1, t1, t2\n"
    "    and t1, t1, t4\n"
    "    sw t1, 0(t0)\n"
    "    xor a1, a1, t1\n"
    "    j 2f\n" /* QEMU runs a block to its end before it sees that the block has changed */
    "2:  addi a1, a1, 0\n"
    "    addi a0, a0, -1\n"
    "    bnez a0, 1b\n"
    "    mv a0, a1\n"
    "    ret\n"
    "    .option pop\n");

int main(void)
{
    report("modify", patched_loop(REPEAT));
    return 0;
}

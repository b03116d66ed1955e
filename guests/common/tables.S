/* Page tables of 2 MiB leaves for 1 GiB of RAM: the VS-stage (or satp) and the G-stage.
 *
 * `build_tables` links the roots: VS-stage VA 0x80000000 for supervisors and VA 0xc0000000 for users
 * onto RAM; G-stage identity. Clobbers t0..t3.
 */
#include "platform.h"

    .option norelax
    .text
    .globl build_tables
build_tables:
    la t0, stage_root
    la t1, supervisor_leaves
    srli t1, t1, 2
    ori t1, t1, PTE_TABLE
    sd t1, 2*8(t0)
    la t1, user_leaves
    srli t1, t1, 2
    ori t1, t1, PTE_TABLE
    sd t1, 3*8(t0)
    la t0, gstage_root
    la t1, user_leaves          /* the G-stage treats every access as a user's */
    srli t1, t1, 2
    ori t1, t1, PTE_TABLE
    sd t1, 2*8(t0)
    ret

/* a0 = value of satp or vsatp; a1 = value of hgatp */
    .globl table_registers
table_registers:
    li t1, MODE_SV39
    slli t1, t1, 60
    la a0, stage_root
    srli a0, a0, 12
    or a0, a0, t1
    la a1, gstage_root
    srli a1, a1, 12
    or a1, a1, t1
    ret

    .macro leaves flags
    .set page, 0
    .rept 512
    .dword ((0x80000000 + page * 0x200000) >> 2) | \flags
    .set page, page + 1
    .endr
    .endm

    .section .tables, "aw"
    .align 14
gstage_root:
    .zero 16384
stage_root:
    .zero 4096
supervisor_leaves:
    leaves PTE_SUPERVISOR
user_leaves:
    leaves PTE_USER

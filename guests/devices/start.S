# Start-up without any CSR, so that the same file runs in M-mode on a board and in S-mode as a guest.
#include "platform.h"

    .section .text.start, "ax"
    .globl _start
    .option norelax
_start:
    la      gp, __global_pointer$
    la      sp, stack_end
    call    main
    li      t0, FINISHER
    li      t1, FINISHER_PASS
    beqz    a0, 1f
    slli    a0, a0, 16
    li      t1, FINISHER_FAIL
    or      t1, t1, a0
1:  sw      t1, 0(t0)
2:  j       2b

    .globl put_character
put_character:
    li      t0, UART
    sb      a0, 0(t0)
    ret

    .bss
    .balign 16
    .skip   8192
stack_end:

/* Environment `bare`: the program runs in M-mode without translation. */
#include "platform.h"

    .option norelax
    .text
    .globl environment
environment:
    la sp, program_stack_top
    call main
    j machine_exit

    .globl put_character
put_character:
    j machine_putchar

    .bss
    .align 4
    .space 65536
program_stack_top:

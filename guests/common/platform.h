/* Addresses and numbers that the assembly and the C of the guests share. */
#ifndef PLATFORM_H
#define PLATFORM_H

#define UART 0x10000000
#define FINISHER 0x100000
#define FINISHER_PASS 0x5555
#define FINISHER_FAIL 0x3333

/* Calls to M-mode (number in a7). */
#define CALL_PUTCHAR 0
#define CALL_EXIT 1

/* Page-table entries: V R W X, U, A D. */
#define PTE_TABLE 0x01
#define PTE_SUPERVISOR 0xcf
#define PTE_USER 0xdf
#define MODE_SV39 8

/* The same RAM is mapped twice by the VS-stage and by satp: for supervisors at its address, for users here. */
#define USER_OFFSET 0x40000000

#endif

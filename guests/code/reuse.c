/* Pages that hold code, then data, then other code: each is filled with functions, run, cleared, used, and so on. */
#include "guest.h"

#define PAGES 16

static u64 pages[PAGES][512] __attribute__((aligned(4096)));

int main(void)
{
    u64 digest = 1;

    for (u64 round = 0; round < REPEAT; round++) {
        u64 *page = pages[round % PAGES];

        for (u64 i = 0; i < 512; i++)
            page[i] = 0x0000806700150513ul + ((i + round) % 512 << 20); /* addi a0, a0, imm; ret */
        __asm__ volatile("" ::: "memory");
        for (u64 i = 0; i < 512; i++)
            digest = ((u64 (*)(u64))(u64)&page[i])(digest) ^ digest << 1;
        for (u64 i = 0; i < 512; i++)
            page[i] = 0;
        for (u64 i = 0; i < 4096; i++)
            page[i * 7 % 512] += digest + i;
        digest += page[round % 512];
    }
    report("reuse", digest);
    return 0;
}

/* A code generator's work: a function of sixty instructions is written anew, in a page of its own, and called ten times. */
#include "guest.h"

static u32 page[1024] __attribute__((aligned(4096)));

int main(void)
{
    u64 digest = 1, state = 88172645463325252ul;
    u64 (*function)(u64) = (u64 (*)(u64))(u64)page;

    for (u64 round = 0; round < REPEAT; round++) {
        u64 random = next_random(&state);

        for (int i = 0; i < 60; i++)
            page[i] = (u32)(random >> (i & 31) & 0x7ff) << 20 | 0x00050513; /* addi a0, a0, imm */
        page[60] = 0x00008067; /* ret */
        __asm__ volatile("" ::: "memory");
        for (int i = 0; i < 10; i++)
            digest = function(digest * 3);
    }
    report("rewrite", digest);
    return 0;
}

/* Copies of blocks of every size and alignment, and fills. */
#include "guest.h"

static u8 source[131072] __attribute__((aligned(64))), target[131072] __attribute__((aligned(64)));

int main(void)
{
    u64 seed = 7, digest = 0;

    for (u64 i = 0; i < sizeof source; i++)
        source[i] = next_random(&seed);
    for (u64 round = 0; round < REPEAT; round++) {
        memcpy(target, source, sizeof source);
        for (u64 size = 8; size <= 4096; size *= 2)
            memcpy(target + 8 * (round & 15), source + 4096 + size, size);
        memcpy(target + 3 + (round & 7), source + 1, 2000);
        memset(target + 70000, (int)round, 1500);
        digest = digest * 31 + *(u64 *)(target + 8 * (round & 127)) + target[70000 + (round & 1023)];
    }
    report("memcpy", digest);
    return 0;
}

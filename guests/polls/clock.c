/* What a kernel's tests of its clock do: four seconds of calls that read mtime, in which time must never go backwards. */
#include "guest.h"

#define MTIME (*(volatile u64 *)0x200bff8)
#define TICKS_PER_SECOND 10000000
#define SECOND 1000000

static int backwards;

static __attribute__((noinline)) u64 current_time_us(void)
{
    return MTIME * 1000000 / TICKS_PER_SECOND;
}

static __attribute__((noinline)) u64 current_time_ms(void)
{
    return current_time_us() / 1000;
}

static void watch(u64 (*clock)(void), u64 time)
{
    u64 start = clock(), last = start;

    while (last - start < time) {
        u64 now = clock();

        backwards |= now < last;
        last = now;
    }
}

int main(void)
{
    u64 start = current_time_ms();

    watch(current_time_ms, SECOND / 1000);
    watch(current_time_us, SECOND);
    while (current_time_ms() - start < 3000) /* both clocks have one base */
        backwards |= current_time_ms() * 1000 > current_time_us();
    for (start = current_time_us(); current_time_us() - start < SECOND;)
        ;
    report("clock", backwards);
    return backwards;
}

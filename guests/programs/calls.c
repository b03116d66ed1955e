/* Calls and returns: Fibonacci numbers, and the Ackermann function, by recursion. */
#include "guest.h"

static __attribute__((noinline)) u64 fibonacci(u64 n)
{
    return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

static __attribute__((noinline)) u64 ackermann(u64 m, u64 n)
{
    if (m == 0)
        return n + 1;
    return ackermann(m - 1, n == 0 ? 1 : ackermann(m, n - 1));
}

int main(void)
{
    u64 sum = 0;

    for (u64 round = 0; round < REPEAT; round++)
        sum = sum * 31 + fibonacci(18 + (round & 3)) + ackermann(2, 40 + (round & 7));
    report("calls", sum);
    return 0;
}

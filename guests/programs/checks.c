/* CRC-32 and Adler-32 of a buffer, with tables and bit by bit. */
#include "guest.h"

static u8 data[1 << 15];
static u32 table[256];

static void make_table(void)
{
    for (u32 i = 0; i < 256; i++) {
        u32 value = i;

        for (int bit = 0; bit < 8; bit++)
            value = value >> 1 ^ (value & 1 ? 0xedb88320 : 0);
        table[i] = value;
    }
}

static __attribute__((noinline)) u32 crc(u32 value)
{
    for (u64 i = 0; i < sizeof data; i++)
        value = value >> 8 ^ table[(value ^ data[i]) & 255];
    return value;
}

static __attribute__((noinline)) u32 adler(u32 value)
{
    u32 low = value & 0xffff, high = value >> 16;

    for (u64 i = 0; i < sizeof data; i++) {
        low += data[i];
        high += low;
        if ((i & 0xfff) == 0xfff)
            low %= 65521, high %= 65521;
    }
    return high % 65521 << 16 | low % 65521;
}

int main(void)
{
    u64 seed = 5;
    u32 first = ~0u, second = 1;

    make_table();
    for (u64 i = 0; i < sizeof data; i++)
        data[i] = next_random(&seed);
    for (u64 round = 0; round < REPEAT; round++) {
        first = crc(first);
        second = adler(second);
    }
    report("checks", (u64)first << 32 | second);
    return 0;
}

/* Console output and the library functions that freestanding gcc still calls. */
#include "guest.h"

void put_string(const char *text)
{
    while (*text)
        put_character(*text++);
}

void put_hex(u64 value)
{
    for (int shift = 60; shift >= 0; shift -= 4)
        put_character("0123456789abcdef"[value >> shift & 15]);
}

void report(const char *name, u64 checksum)
{
    put_string(name);
    put_string(" checksum ");
    put_hex(checksum);
    put_character('\n');
}

void *memcpy(void *to, const void *from, size_t count)
{
    u8 *d = to;
    const u8 *s = from;

    if ((((u64)d | (u64)s) & 7) == 0) {
        for (; count >= 32; count -= 32, d += 32, s += 32) {
            u64 a = ((const u64 *)s)[0], b = ((const u64 *)s)[1];
            u64 c = ((const u64 *)s)[2], e = ((const u64 *)s)[3];
            ((u64 *)d)[0] = a;
            ((u64 *)d)[1] = b;
            ((u64 *)d)[2] = c;
            ((u64 *)d)[3] = e;
        }
        for (; count >= 8; count -= 8, d += 8, s += 8)
            *(u64 *)d = *(const u64 *)s;
    }
    while (count--)
        *d++ = *s++;
    return to;
}

void *memset(void *to, int value, size_t count)
{
    u8 *d = to;

    while (count--)
        *d++ = value;
    return to;
}

int memcmp(const void *left, const void *right, size_t count)
{
    const u8 *a = left, *b = right;

    for (; count--; a++, b++)
        if (*a != *b)
            return *a - *b;
    return 0;
}

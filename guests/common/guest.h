/* What every program has: fixed-width types, a console, and the few library functions that gcc calls. */
#ifndef GUEST_H
#define GUEST_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;
typedef long s64;
typedef u64 size_t;

void put_character(int character);
void put_string(const char *text);
void put_hex(u64 value);
void report(const char *name, u64 checksum);

void *memcpy(void *to, const void *from, size_t count);
void *memset(void *to, int value, size_t count);
int memcmp(const void *left, const void *right, size_t count);

/* A small generator of pseudo-random numbers (xorshift64). */
static inline u64 next_random(u64 *state)
{
    u64 x = *state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return *state = x;
}

/* REPEAT comes from the Makefile: how often the whole program does its work. */
#ifndef REPEAT
#define REPEAT 1
#endif

#endif

/* Bytes: lines, words and letters of a text are counted. */
#include "guest.h"

static u8 text[1 << 16];
static u64 letters[256];

static void make_text(void)
{
    u64 seed = 99;

    for (u64 i = 0; i < sizeof text; i++) {
        u64 drawn = next_random(&seed) % 40;

        text[i] = drawn < 30 ? 'a' + drawn % 26 : drawn < 38 ? ' ' : '\n';
    }
}

static __attribute__((noinline)) u64 count(void)
{
    u64 lines = 0, words = 0;
    int inside = 0;

    for (u64 i = 0; i < sizeof text; i++) {
        u8 c = text[i];

        letters[c]++;
        lines += c == '\n';
        if (c == ' ' || c == '\n') {
            inside = 0;
        } else if (!inside) {
            inside = 1;
            words++;
        }
    }
    return lines << 32 | words;
}

int main(void)
{
    u64 sum = 0;

    make_text();
    for (u64 round = 0; round < REPEAT; round++) {
        sum = sum * 31 + count();
        text[round & (sizeof text - 1)] ^= 1;
    }
    for (int i = 0; i < 256; i++)
        sum = sum * 31 + letters[i];
    report("words", sum);
    return 0;
}

/* Compression in the manner of deflate: matches through hash chains, then a canonical prefix code; and back again. */
#include "guest.h"

enum { SIZE = 1 << 16, HASH = 1 << 13, WINDOW = 1 << 15, CHAIN = 24, LONGEST = 66, SHORTEST = 3, SYMBOLS = 320 };

static u8 text[SIZE], back[SIZE];
static u16 tokens[SIZE], extra[SIZE];
static u32 head[HASH], before[SIZE];
static u32 count[SYMBOLS], code[SYMBOLS];
static u8 bits[SYMBOLS];
static u8 out[2 * SIZE];

static void fill(u64 *seed)
{
    static const char words[] = "trap guest hart virtual machine page table fault redirect delegate supervisor mode ";
    u64 at = 0;

    while (at < SIZE) {
        u64 r = next_random(seed), from = r % 60, length = 4 + (r >> 32) % 20;

        for (u64 i = 0; i < length && at < SIZE; i++)
            text[at++] = words[(from + i) % (sizeof words - 1)] ^ ((r >> 40) % 31 == 0);
    }
}

static u32 hash_at(const u8 *p) { return ((u32)p[0] << 16 | p[1] << 8 | p[2]) * 2654435761u >> 19; }

static u32 find_tokens(void)
{
    u32 used = 0;

    for (u32 i = 0; i < HASH; i++)
        head[i] = 0;
    for (u32 at = 0; at < SIZE;) {
        u32 best = 0, distance = 0, step = 1;

        if (at + SHORTEST < SIZE) {
            u32 h = hash_at(text + at), limit = SIZE - at < LONGEST ? SIZE - at : LONGEST;

            for (u32 where = head[h], tries = CHAIN; where && tries && at - (where - 1) < WINDOW; tries--) {
                const u8 *a = text + where - 1, *b = text + at;
                u32 n = 0;

                while (n < limit && a[n] == b[n])
                    n++;
                if (n > best)
                    best = n, distance = at - (where - 1);
                where = before[where - 1];
            }
        }
        if (best >= SHORTEST) {
            tokens[used] = 256 + best - SHORTEST, extra[used++] = distance;
            step = best;
        } else {
            tokens[used++] = text[at];
        }
        for (u32 end = at + step; at < end; at++)
            if (at + SHORTEST < SIZE) {
                u32 h = hash_at(text + at);

                before[at] = head[h], head[h] = at + 1;
            }
    }
    return used;
}

/* Code lengths from the counts' magnitudes, made to satisfy Kraft's inequality; then canonical codes. */
static void make_code(u32 used)
{
    u32 total = 0, kraft = 0, next = 0;

    for (u32 s = 0; s < SYMBOLS; s++)
        count[s] = 1;
    for (u32 i = 0; i < used; i++)
        count[tokens[i]]++;
    for (u32 s = 0; s < SYMBOLS; s++)
        total += count[s];
    for (u32 s = 0; s < SYMBOLS; s++) {
        bits[s] = 1;
        while (bits[s] < 15 && (u64)count[s] << bits[s] < total)
            bits[s]++;
        kraft += 1u << (15 - bits[s]);
    }
    for (u32 s = 0; kraft > 1u << 15; s = (s + 1) % SYMBOLS)
        if (bits[s] < 15)
            kraft -= 1u << (15 - bits[s]), bits[s]++, kraft += 1u << (15 - bits[s]);
    for (u32 length = 1; length < 16; length++, next <<= 1)
        for (u32 s = 0; s < SYMBOLS; s++)
            if (bits[s] == length)
                code[s] = next++;
}

static u32 write_tokens(u32 used)
{
    u64 hold = 0;
    u32 filled = 0, at = 0;

    for (u32 i = 0; i < used; i++) {
        u32 s = tokens[i];

        hold = hold << bits[s] | code[s], filled += bits[s];
        if (s >= 256)
            hold = hold << 16 | extra[i], filled += 16;
        for (; filled >= 8; filled -= 8)
            out[at++] = hold >> (filled - 8);
    }
    out[at++] = hold << (8 - filled);
    return at;
}

static void read_tokens(void)
{
    u64 hold = 0;
    u32 filled = 0, in = 0, at = 0;

    while (at < SIZE) {
        u32 symbol = SYMBOLS, seen = 0, first = 0, length;

        for (; filled < 48; filled += 8)
            hold = hold << 8 | out[in++];
        for (length = 1; symbol == SYMBOLS; length++) {
            seen = hold >> (filled - length) & ((1u << length) - 1);
            for (u32 s = first; s < SYMBOLS; s++)
                if (bits[s] == length && code[s] == seen) {
                    symbol = s;
                    break;
                }
        }
        filled -= length - 1;
        if (symbol < 256) {
            back[at++] = symbol;
            continue;
        }
        u32 distance = hold >> (filled - 16) & 0xffff;

        filled -= 16;
        for (u32 n = symbol - 256 + SHORTEST; n; n--, at++)
            back[at] = back[at - distance];
    }
}

int main(void)
{
    u64 seed = 7, sum = 0;

    for (u64 round = 0; round < REPEAT; round++) {
        fill(&seed);
        u32 used = find_tokens();

        make_code(used);
        u32 size = write_tokens(used);

        for (u32 i = 0; i < size; i++)
            sum = sum * 31 + out[i];
        if (round % 64 == 0) {
            read_tokens();
            for (u32 i = 0; i < SIZE; i++)
                if (back[i] != text[i])
                    return 1;
        }
        sum += size;
    }
    report("compress", sum);
    return 0;
}

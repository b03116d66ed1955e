/* Integer mix: records, calls through small functions and pointers, string copies and compares,
 * branches and array accesses, in the proportions of systems code. */
#include "guest.h"

#define NAME 32

struct record {
    struct record *next;
    int kind;
    int value;
    char name[NAME];
};

static struct record first, second;
static int row[64], grid[64][64];
static u64 digest = 1;

static __attribute__((noinline)) int string_compare(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return (u8)*a - (u8)*b;
}

static __attribute__((noinline)) void string_copy(char *to, const char *from)
{
    while ((*to++ = *from++))
        ;
}

static __attribute__((noinline)) int classify(int character)
{
    switch (character & 7) {
    case 0: return 3;
    case 1: return character + 1;
    case 2: return character >> 1;
    case 5: return -character;
    default: return 0;
    }
}

static __attribute__((noinline)) void update_grid(int index, int value)
{
    int at = index & 31;

    row[at] = value;
    row[at + 1] = row[at];
    row[at + 30] = index;
    for (int i = at; i <= at + 1; i++)
        grid[at][i] = row[at] + i;
    grid[at][at ? at - 1 : 0] += 1;
    grid[at + 20][at] = row[at];
}

static __attribute__((noinline)) int twice(int x) { return x + x; }
static __attribute__((noinline)) int thrice(int x) { return x * 3 + 1; }
static int (*const operations[2])(int) = { twice, thrice };

static __attribute__((noinline)) void link_records(struct record *from, struct record *to, int round)
{
    *to = *from;
    to->next = from;
    to->value = operations[round & 1](from->value);
    if (to->kind == 2)
        to->kind = classify(round);
    else
        to->kind = 2;
    from->next = to;
}

int main(void)
{
    char text[NAME], other[NAME];

    string_copy(first.name, "a record with a longer name");
    string_copy(other, "a record with a longer nome");
    first.kind = 2;
    for (u64 round = 0; round < REPEAT; round++) {
        int i = (int)round;

        string_copy(text, first.name);
        text[25] = 'a' + i % 20;
        if (string_compare(text, other) > 0)
            digest = digest * 31 + 7;
        update_grid(i, first.value);
        link_records(&first, &second, i);
        first.value = (second.value ^ i) / (1 + (i & 15));
        for (char c = 'A'; c <= 'F'; c++)
            digest += classify(c + i) ^ (digest >> 7);
        digest = digest * 33 + grid[i & 31][(i + 1) & 31] + second.kind;
    }
    report("integer", digest);
    return 0;
}

/* Quicksort through a comparison function, on fresh random data each time. */
#include "guest.h"

#define COUNT 32768

static u64 data[COUNT];

typedef int comparison(const u64 *, const u64 *);

static int ascending(const u64 *a, const u64 *b) { return *a < *b ? -1 : *a > *b; }
static int by_low_word(const u64 *a, const u64 *b)
{
    u32 x = (u32)*a, y = (u32)*b;

    return x < y ? -1 : x > y ? 1 : ascending(a, b);
}

static void exchange(u64 *a, u64 *b)
{
    u64 t = *a;

    *a = *b;
    *b = t;
}

static void sort(u64 *low, u64 *high, comparison *compare)
{
    while (high - low > 1) {
        u64 *left = low - 1, *right = high, pivot = low[(high - low - 1) / 2];

        for (;;) {
            do
                left++;
            while (compare(left, &pivot) < 0);
            do
                right--;
            while (compare(right, &pivot) > 0);
            if (left >= right)
                break;
            exchange(left, right);
        }
        u64 *middle = right + 1;

        if (middle - low < high - middle) {
            sort(low, middle, compare);
            low = middle;
        } else {
            sort(middle, high, compare);
            high = middle;
        }
    }
}

int main(void)
{
    comparison *volatile orders[2] = { ascending, by_low_word };
    u64 seed = 88172645463325252, digest = 0;

    for (u64 round = 0; round < REPEAT; round++) {
        for (u64 i = 0; i < COUNT; i++)
            data[i] = next_random(&seed);
        sort(data, data + COUNT, orders[round & 1]);
        for (u64 i = 1; i < COUNT; i++)
            if (orders[round & 1](data + i - 1, data + i) > 0)
                return 1;
        digest = digest * 31 + data[COUNT / 3] + data[COUNT - 1];
    }
    report("qsort", digest);
    return 0;
}

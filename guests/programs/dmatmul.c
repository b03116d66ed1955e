/* Double matrix multiplication, 96 x 96. */
#include "guest.h"

#define SIZE 96

typedef double element;

static element a[SIZE][SIZE], b[SIZE][SIZE], c[SIZE][SIZE];

static __attribute__((noinline)) void multiply(void)
{
    for (int i = 0; i < SIZE; i++)
        for (int j = 0; j < SIZE; j++) {
            element sum = 0;

            for (int k = 0; k < SIZE; k++)
                sum += a[i][k] * b[k][j];
            c[i][j] = sum;
        }
}

static u64 bits(element value)
{
    union { element value; u64 bits; } view = { value };

    return view.bits;
}

int main(void)
{
    u64 seed = 12345, digest = 0;

    for (int i = 0; i < SIZE; i++)
        for (int j = 0; j < SIZE; j++) {
            a[i][j] = (element)(next_random(&seed) >> 40);
            b[i][j] = (element)(next_random(&seed) >> 44);
        }
    for (u64 round = 0; round < REPEAT; round++) {
        multiply();
        a[round % SIZE][3] = (element)((bits(c[5][7]) >> 12) & 0xffff);
        digest = digest * 31 + bits(c[round % SIZE][SIZE - 1]);
    }
    report("dmatmul", digest);
    return 0;
}

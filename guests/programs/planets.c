/* Doubles, with divisions and square roots: five bodies that attract each other. */
#include "guest.h"

#define BODIES 5

struct body { double at[3], speed[3], mass; };

static struct body bodies[BODIES] = {
    { { 0, 0, 0 }, { 0, 0, 0 }, 39.5 },
    { { 4.8, -1.2, -0.1 }, { 0.6, 2.8, -0.02 }, 0.037 },
    { { 8.3, 4.1, -0.4 }, { -1.0, 1.8, 0.008 }, 0.011 },
    { { 12.9, -15.1, -0.2 }, { 1.1, 0.9, -0.01 }, 0.0017 },
    { { 15.4, -25.9, 0.2 }, { 0.98, 0.6, -0.03 }, 0.002 },
};

static double square_root(double value)
{
#ifdef __riscv
    double root;

    __asm__("fsqrt.d %0, %1" : "=f"(root) : "f"(value));
    return root;
#else
    return __builtin_sqrt(value);
#endif
}

static __attribute__((noinline)) void advance(double step)
{
    for (int i = 0; i < BODIES; i++)
        for (int j = i + 1; j < BODIES; j++) {
            double way[3], square = 0, pull;

            for (int k = 0; k < 3; k++) {
                way[k] = bodies[i].at[k] - bodies[j].at[k];
                square = square + way[k] * way[k];
            }
            pull = step / (square * square_root(square));
            for (int k = 0; k < 3; k++) {
                bodies[i].speed[k] = bodies[i].speed[k] - way[k] * (bodies[j].mass * pull);
                bodies[j].speed[k] = bodies[j].speed[k] + way[k] * (bodies[i].mass * pull);
            }
        }
    for (int i = 0; i < BODIES; i++)
        for (int k = 0; k < 3; k++)
            bodies[i].at[k] = bodies[i].at[k] + step * bodies[i].speed[k];
}

int main(void)
{
    u64 sum = 0;

    for (u64 round = 0; round < REPEAT; round++)
        advance(0.001);
    for (int i = 0; i < BODIES; i++)
        for (int k = 0; k < 3; k++) {
            union { double value; u64 bits; } view = { bodies[i].at[k] };

            sum = sum * 31 + view.bits;
        }
    report("planets", sum);
    return 0;
}

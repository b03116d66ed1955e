/* Nothing: what is left is the simulator's start-up. */
#include "guest.h"

int main(void)
{
    report("empty", 0);
    return 0;
}

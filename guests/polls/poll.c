/* Reads one register over and over, as software does that waits for something. */
#include "guest.h"

int main(void)
{
    u64 reads = 0;

    while (reads != REPEAT) {
        (void)*(volatile TYPE *)ADDRESS;
        reads++;
    }
    report("poll", reads);
    return 0;
}

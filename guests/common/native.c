/* A program as a process of the host: what native code takes for the same work. */
#include <stdio.h>

void put_character(int character) { putchar(character); }

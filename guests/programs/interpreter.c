/* A byte-code interpreter with a switch, running a sieve and a recursive Fibonacci. */
#include "guest.h"

enum {
    PUSH, LOAD, STORE, FETCH, PUT, ADD, SUB, LESS, JUMP, JUMP_IF_ZERO, CALL, RETURN, LOCAL, HALT
};

#define OP(code, argument) ((code) | (argument) << 8)
#define SIEVE 4096

/* Variables: 0 i, 1 j, 2 count. The sieve's flags are at FETCH/PUT. */
static const int sieve[] = {
    /*  0 */ OP(PUSH, 0), OP(STORE, 2), OP(PUSH, 2), OP(STORE, 0),
    /*  4 */ OP(LOAD, 0), OP(PUSH, SIEVE), OP(LESS, 0), OP(JUMP_IF_ZERO, 36),
    /*  8 */ OP(LOAD, 0), OP(FETCH, 0), OP(JUMP_IF_ZERO, 16), OP(JUMP, 31), 0, 0, 0, 0,
    /* 16 */ OP(LOAD, 2), OP(PUSH, 1), OP(ADD, 0), OP(STORE, 2), OP(LOAD, 0), OP(STORE, 1),
    /* 22 */ OP(LOAD, 1), OP(PUSH, SIEVE), OP(LESS, 0), OP(JUMP_IF_ZERO, 31),
    /* 26 */ OP(LOAD, 1), OP(PUT, 1), OP(LOAD, 1), OP(LOAD, 0), OP(JUMP, 38),
    /* 31 */ OP(LOAD, 0), OP(PUSH, 1), OP(ADD, 0), OP(STORE, 0), OP(JUMP, 4),
    /* 36 */ OP(LOAD, 2), OP(HALT, 0),
    /* 38 */ OP(ADD, 0), OP(STORE, 1), OP(JUMP, 22),
};

static const int fibonacci[] = {
    /*  0 */ OP(PUSH, 17), OP(CALL, 3), OP(HALT, 0),
    /*  3 */ OP(LOCAL, 0), OP(PUSH, 2), OP(LESS, 0), OP(JUMP_IF_ZERO, 9),
    /*  7 */ OP(LOCAL, 0), OP(RETURN, 0),
    /*  9 */ OP(LOCAL, 0), OP(PUSH, 1), OP(SUB, 0), OP(CALL, 3),
    /* 13 */ OP(LOCAL, 0), OP(PUSH, 2), OP(SUB, 0), OP(CALL, 3), OP(ADD, 0), OP(RETURN, 0),
};

static u8 flags[SIEVE];

static __attribute__((noinline)) s64 interpret(const int *program)
{
    s64 stack[256], variables[8] = { 0 }, *top = stack, *frame = stack;
    int pc = 0;

    for (;;) {
        int op = program[pc++], argument = op >> 8;

        switch (op & 255) {
        case PUSH: *top++ = argument; break;
        case LOAD: *top++ = variables[argument]; break;
        case STORE: variables[argument] = *--top; break;
        case FETCH: top[-1] = flags[top[-1]]; break;
        case PUT: flags[*--top] = argument; break;
        case ADD: top--; top[-1] += *top; break;
        case SUB: top--; top[-1] -= *top; break;
        case LESS: top--; top[-1] = top[-1] < *top; break;
        case JUMP: pc = argument; break;
        case JUMP_IF_ZERO: if (!*--top) pc = argument; break;
        case CALL: top[0] = pc; top[1] = frame - stack; frame = top - 1; top += 2; pc = argument; break;
        case LOCAL: *top++ = *frame; break;
        case RETURN: {
            s64 result = top[-1];

            pc = (int)frame[1];
            top = frame;
            frame = stack + frame[2];
            *top++ = result;
            break;
        }
        default: return top[-1];
        }
    }
}

int main(void)
{
    u64 digest = 0;

    for (u64 round = 0; round < REPEAT; round++) {
        memset(flags, 0, sizeof flags);
        flags[SIEVE - 1 - (round & 15)] = 1;
        digest = digest * 31 + interpret(sieve) + interpret(fibonacci);
    }
    report("interpreter", digest);
    return 0;
}

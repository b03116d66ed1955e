/* Linked lists spread over memory: walk, reverse, look up, splice. */
#include "guest.h"

#define NODES 8192

struct node {
    struct node *next;
    u64 key, payload[6];
};

static struct node pool[NODES];

static __attribute__((noinline)) struct node *reverse(struct node *list)
{
    struct node *done = 0;

    while (list) {
        struct node *next = list->next;

        list->next = done;
        done = list;
        list = next;
    }
    return done;
}

static __attribute__((noinline)) u64 walk(const struct node *list)
{
    u64 sum = 0;

    for (; list; list = list->next)
        sum = sum * 3 + list->key;
    return sum;
}

static __attribute__((noinline)) struct node *find(struct node *list, u64 key)
{
    while (list && list->key != key)
        list = list->next;
    return list;
}

int main(void)
{
    static u16 order[NODES];
    u64 seed = 99, digest = 0;
    struct node *list = 0;

    for (int i = 0; i < NODES; i++)
        order[i] = i;
    for (int i = NODES - 1; i > 0; i--) {
        int j = next_random(&seed) % (i + 1);
        u16 t = order[i];

        order[i] = order[j];
        order[j] = t;
    }
    for (int i = 0; i < NODES; i++) {
        struct node *node = &pool[order[i]];

        node->key = i;
        node->next = list;
        list = node;
    }
    for (u64 round = 0; round < REPEAT; round++) {
        struct node *found;

        list = reverse(list);
        digest += walk(list);
        found = find(list, (round * 577) % NODES);
        if (!found)
            return 1;
        found->payload[round % 6] += digest;
        digest = digest * 5 + found->payload[0] + found->payload[5];
    }
    report("list", digest);
    return 0;
}

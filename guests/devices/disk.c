/* A driver for virtio disks without interrupts: reads, writes, code that a disk replaces, a broken request. */
#include "guest.h"

#define WINDOWS 0x10001000ul
#define STRIDE 0x1000ul
#define PENDING 0x0c001000ul /* of the PLIC: one bit a source */
#define SECTOR 512
#define RING 8

enum { MAGIC = 0x000, VERSION = 0x004, DEVICE_ID = 0x008, FEATURES_SEL = 0x014, ACCEPTED = 0x020, ACCEPTED_SEL = 0x024,
       QUEUE_SEL = 0x030, QUEUE_SIZE = 0x038, QUEUE_READY = 0x044, NOTIFY = 0x050, INTERRUPT = 0x060,
       INTERRUPT_ACK = 0x064, STATUS = 0x070, DESC = 0x080, DRIVER = 0x090, DEVICE = 0x0a0, CAPACITY = 0x100 };
enum { ACKNOWLEDGE = 1, HAS_DRIVER = 2, DRIVER_OK = 4, FEATURES_OK = 8, NEEDS_RESET = 64 };
enum { READ = 0, WRITE = 1, FLUSH = 4 };
enum { NEXT = 1, DEVICE_WRITES = 2 };

struct desc { u64 address; u32 length; u16 flags, next; };
struct header { u32 type, reserved; u64 sector; };

static struct desc descs[RING] __attribute__((aligned(16)));
static volatile struct { u16 flags, idx, ring[RING]; } avail __attribute__((aligned(2)));
static volatile struct { u16 flags, idx; struct { u32 id, length; } ring[RING]; } used __attribute__((aligned(4)));
static u8 data[SECTOR] __attribute__((aligned(16)));
static u32 code[1024] __attribute__((aligned(4096)));
static volatile u8 status;
static u64 base;

static u32 get(u32 offset) { return *(volatile u32 *)(base + offset); }
static void put(u32 offset, u32 value) { *(volatile u32 *)(base + offset) = value; }

static void put_address(u32 offset, const volatile void *to)
{
    put(offset, (u64)to);
    put(offset + 4, (u64)to >> 32);
}

/* Set the device up; return whether it agrees to VERSION_1 alone. */
static int set_up(void)
{
    put(STATUS, 0);
    put(STATUS, ACKNOWLEDGE);
    put(STATUS, ACKNOWLEDGE | HAS_DRIVER);
    put(ACCEPTED_SEL, 0);
    put(ACCEPTED, 0);
    put(ACCEPTED_SEL, 1);
    put(ACCEPTED, 1);
    put(STATUS, ACKNOWLEDGE | HAS_DRIVER | FEATURES_OK);
    if (!(get(STATUS) & FEATURES_OK))
        return 0;
    avail.idx = 0;
    used.idx = 0;
    put(QUEUE_SEL, 0);
    put(QUEUE_SIZE, RING);
    put_address(DESC, descs);
    put_address(DRIVER, &avail);
    put_address(DEVICE, &used);
    put(QUEUE_READY, 1);
    put(STATUS, ACKNOWLEDGE | HAS_DRIVER | FEATURES_OK | DRIVER_OK);
    return 1;
}

static void offer(void)
{
    avail.ring[avail.idx % RING] = 0;
    __asm__ volatile("fence rw, rw" ::: "memory");
    avail.idx++;
    __asm__ volatile("fence rw, rw" ::: "memory");
    put(NOTIFY, 0);
}

/* Do one request; return its status, or 255 if the device does not say that it is done. */
static int request(u32 type, u64 sector, void *buffer)
{
    static struct header header;
    u16 before = used.idx;

    header = (struct header){ type, 0, sector };
    descs[0] = (struct desc){ (u64)&header, sizeof header, NEXT, 1 };
    descs[1] = (struct desc){ (u64)buffer, SECTOR, NEXT | (type == READ ? DEVICE_WRITES : 0), 2 };
    descs[2] = (struct desc){ (u64)&status, 1, DEVICE_WRITES, 0 };
    if (type == FLUSH)
        descs[0].next = 2;
    status = 255;
    offer();
    for (u64 patience = 0; used.idx == before; patience++)
        if (patience == 100000000)
            return 255;
    return status;
}

static int call(void)
{
    __asm__ volatile("fence.i" ::: "memory");
    return ((int (*)(void))code)();
}

static int find(void)
{
    for (int slot = 0; slot < 8; slot++) {
        base = WINDOWS + slot * STRIDE;
        if (get(MAGIC) == 0x74726976 && get(VERSION) == 2 && get(DEVICE_ID) == 2)
            return slot + 1;
    }
    return 0;
}

int main(void)
{
    volatile u32 *pending = (volatile u32 *)PENDING;
    u64 sum = 0;
    int source = find();

    if (!source || !set_up())
        return 1;
    if (request(READ, 3, data))
        return 2;
    for (int i = 0; i < SECTOR; i++)
        sum = sum * 31 + data[i];
    if (!(get(INTERRUPT) & 1) || !(*pending >> source & 1))
        return 3;
    put(INTERRUPT_ACK, get(INTERRUPT));
    if (get(INTERRUPT))
        return 4;
    for (int i = 0; i < SECTOR; i++)
        data[i] = i * 7;
    if (request(WRITE, 10, data) || request(FLUSH, 0, data))
        return 5;
    memset(data, 0, SECTOR);
    if (request(READ, 10, data) || data[100] != (u8)700)
        return 6;
    if (request(READ, get(CAPACITY), data) != 1)
        return 7;
    /* Code that has run is replaced by the disk, without a store of ours. */
    code[0] = 0x00200513; /* li a0, 2 */
    code[1] = 0x00008067; /* ret */
    if (request(WRITE, 11, code))
        return 8;
    code[0] = 0x00100513; /* li a0, 1 */
    if (call() != 1 || request(READ, 11, code) || call() != 2)
        return 9;
    /* A chain that leaves its table: the device needs a reset, and works after it. */
    descs[0].flags = NEXT;
    descs[0].next = RING;
    offer();
    if (!(get(STATUS) & NEEDS_RESET) || !set_up() || request(READ, 3, data))
        return 10;
    report("disk", sum);
    return 0;
}

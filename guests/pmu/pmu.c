/*
 * What a guest gets from SBI PMU (SBI specification, chapter 11): counters that count, are read, stop, are kept in
 * shared memory and interrupt when they overflow. A line for each check; none has a number that depends on time, so
 * that consoles of two hypervisors can be compared. Ends by SRST: reason 0, or 1 if a check failed.
 */
typedef unsigned long u64;

struct answer {
	long error;
	u64 value;
};

enum { TIME = 0x54494d45, PMU = 0x504d55, SRST = 0x53525354, DBCN = 0x4442434e, BASE = 0x10 };
enum { NUM, INFO, CONFIG, START, STOP, READ, READ_HIGH, SNAPSHOT };
enum { CYCLES = 1, INSTRUCTIONS = 2, SET_TIMER = 0xf0005 };
enum { CLEAR = 2, AUTO_START = 4, INIT = 1, RESET = 1, TAKE = 2 };
#define LCOFI 13

static struct {
	u64 overflowed, values[64];
	char rest[4096 - 8 - 512];
} shared __attribute__((aligned(4096)));
static volatile u64 illegal, interrupts;
static u64 failed, mask, sampled;

static struct answer sbi(u64 extension, u64 function, u64 x0, u64 x1, u64 x2, u64 x3, u64 x4)
{
	register u64 a0 __asm__("a0") = x0, a1 __asm__("a1") = x1, a2 __asm__("a2") = x2, a3 __asm__("a3") = x3;
	register u64 a4 __asm__("a4") = x4, a6 __asm__("a6") = function, a7 __asm__("a7") = extension;

	__asm__ volatile("ecall" : "+r"(a0), "+r"(a1) : "r"(a2), "r"(a3), "r"(a4), "r"(a6), "r"(a7) : "memory");
	return (struct answer){ (long)a0, a1 };
}

static void put(char c)
{
	sbi(DBCN, 2, (u64)c, 0, 0, 0, 0);
}

static void say(const char *text)
{
	while (*text)
		put(*text++);
}

static void number(long value)
{
	if (value < 0)
		put('-');
	if (value / 10)
		number(value < 0 ? -(value / 10) : value / 10);
	put((char)('0' + (value < 0 ? -(value % 10) : value % 10)));
}

static void check(const char *name, int right)
{
	failed |= !right;
	say(right ? "ok   " : "BAD  ");
	say(name);
	put('\n');
}

static void result(const char *name, struct answer a)
{
	say("     ");
	say(name);
	say(" gives ");
	number(a.error);
	put('\n');
}

#define ROW(n) [n] = read_##n
#define READER(n)                                                             \
	static u64 read_##n(void)                                             \
	{                                                                     \
		u64 v = 0;                                                    \
		__asm__ volatile("csrr %0, 0xc00 + " #n : "+r"(v));           \
		return v;                                                     \
	}
#define EACH(X) \
	X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15) X(16) X(17) X(18) \
	X(19) X(20) X(21) X(22) X(23) X(24) X(25) X(26) X(27) X(28) X(29) X(30) X(31)
EACH(READER)
#define COMMA(n) ROW(n),
static u64 (*const readers[32])(void) = { EACH(COMMA) };

static u64 counter(u64 index)
{
	struct answer info = sbi(PMU, INFO, index, 0, 0, 0, 0);

	return readers[info.value & 31]();
}

static void work(void)
{
	for (volatile int n = 0; n < 2000; n++)
		;
}

void trapped(void)
{
	u64 cause, epc;

	__asm__ volatile("csrr %0, scause" : "=r"(cause));
	__asm__ volatile("csrr %0, sepc" : "=r"(epc));
	if (cause == (1UL << 63 | LCOFI)) {
		interrupts++;
		sbi(PMU, STOP, sampled, 1, 0, 0, 0);
		__asm__ volatile("csrc sip, %0" : : "r"(1UL << LCOFI));
	} else if (cause == 2 || cause == 22) {
		illegal++;
		__asm__ volatile("csrw sepc, %0" : : "r"(epc + 4));
	} else {
		say("BAD  a trap that nothing expected: ");
		number((long)cause);
		put('\n');
		sbi(SRST, 0, 0, 1, 0, 0, 0);
	}
}

static struct answer configure(u64 flags, u64 event)
{
	return sbi(PMU, CONFIG, 0, mask, flags, event, 0);
}

static void counts(const char *name, u64 event)
{
	struct answer c = configure(CLEAR, event), again;
	u64 first, second, third;

	say(name);
	put('\n');
	result("configuring it", c);
	if (c.error)
		return;
	check("it starts", sbi(PMU, START, c.value, 1, INIT, 0, 0).error == 0);
	first = counter(c.value);
	work();
	second = counter(c.value);
	check("it counts", illegal == 0 && second > first);
	result("starting it twice", sbi(PMU, START, c.value, 1, 0, 0, 0));
	check("it stops", sbi(PMU, STOP, c.value, 1, 0, 0, 0).error == 0);
	third = counter(c.value);
	work();
	say(illegal ? "     stopped, reading it traps\n" : "     stopped, it can be read\n");
	check("stopped, it stays", illegal || counter(c.value) == third);
	illegal = 0;
	result("stopping it twice", sbi(PMU, STOP, c.value, 1, 0, 0, 0));
	sbi(PMU, STOP, c.value, 1, RESET, 0, 0);
	again = configure(CLEAR, event);
	check("released, it can be had again", again.error == 0 && again.value == c.value);
	sbi(PMU, STOP, again.value, 1, RESET, 0, 0);
}

static void firmware_event(void)
{
	struct answer c = configure(CLEAR | AUTO_START, SET_TIMER);

	say("set_timer, counted by the firmware\n");
	check("it can be configured", c.error == 0);
	for (int n = 0; n < 3; n++)
		sbi(TIME, 0, -1UL, 0, 0, 0, 0);
	check("three calls are three", sbi(PMU, READ, c.value, 0, 0, 0, 0).value == 3);
	result("the high half", sbi(PMU, READ_HIGH, c.value, 0, 0, 0, 0));
	result("a counter of hardware, read as firmware's", sbi(PMU, READ, 0, 0, 0, 0, 0));
	sbi(PMU, STOP, c.value, 1, RESET, 0, 0);
	result("a counter that was released", sbi(PMU, READ, c.value, 0, 0, 0, 0));
}

static void snapshot(void)
{
	struct answer set = sbi(PMU, SNAPSHOT, (u64)&shared, 0, 0, 0, 0), c;

	say("snapshots\n");
	result("naming the memory", set);
	if (set.error)
		return;
	c = configure(CLEAR | AUTO_START, INSTRUCTIONS);
	result("configuring a counter that starts at once", c);
	result("stopping it", sbi(PMU, STOP, c.value, 1, RESET, 0, 0));
	c = configure(CLEAR, INSTRUCTIONS);
	result("configuring a counter", c);
	if (c.error == 0) {
		check("starting it", sbi(PMU, START, c.value, 1, INIT, 0, 0).error == 0);
		work();
		result("stopping it with a snapshot", sbi(PMU, STOP, c.value, 1, TAKE, 0, 0));
		check("the value is in memory", shared.values[0] > 2000);
		check("nothing overflowed", shared.overflowed == 0);
		sbi(PMU, STOP, c.value, 1, RESET, 0, 0);
	}
	result("memory that is not aligned", sbi(PMU, SNAPSHOT, (u64)&shared + 8, 0, 0, 0, 0));
	check("giving the memory back", sbi(PMU, SNAPSHOT, -1UL, -1UL, 0, 0, 0).error == 0);
}

static void overflow(void)
{
	struct answer c = configure(CLEAR, CYCLES);
	u64 enabled;

	say("overflow\n");
	__asm__ volatile("csrs sie, %1; csrr %0, sie" : "=r"(enabled) : "r"(1UL << LCOFI));
	say(enabled >> LCOFI & 1 ? "     the guest has Sscofpmf\n" : "     the guest has no Sscofpmf\n");
	result("configuring a counter", c);
	if (c.error || !(enabled >> LCOFI & 1))
		return;
	sampled = c.value;
	__asm__ volatile("csrsi sstatus, 2");
	check("it starts below its end", sbi(PMU, START, c.value, 1, INIT, -1000UL, 0).error == 0);
	for (volatile int n = 0; n < 1000000 && !interrupts; n++)
		;
	__asm__ volatile("csrci sstatus, 2");
	check("an interrupt tells of it", interrupts == 1);
	sbi(PMU, STOP, c.value, 1, RESET, 0, 0);
}

void main(void)
{
	struct answer many = sbi(PMU, NUM, 0, 0, 0, 0, 0);

	check("there is SBI PMU", sbi(BASE, 3, PMU, 0, 0, 0, 0).value != 0 && many.error == 0);
	say("     counters: ");
	number((long)many.value);
	put('\n');
	mask = many.value >= 64 ? -1UL : (1UL << many.value) - 1;
	readers[0]();
	say(illegal ? "     cycle cannot be read\n" : "     cycle can be read\n");
	illegal = 0;
	counts("cycles", CYCLES);
	counts("instructions", INSTRUCTIONS);
	firmware_event();
	snapshot();
	overflow();
	result("an event that there is not", configure(CLEAR, 0x10020));
	result("a counter that there is not", sbi(PMU, INFO, many.value, 0, 0, 0, 0));
	say(failed ? "FAIL\n" : "PASS\n");
	sbi(SRST, 0, 0, failed, 0, 0, 0);
}

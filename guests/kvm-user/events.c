/* Raises the events of a probe image, one after the other, and prints what became of each. */
#include "kvm_user.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>

#define MAX_EXITS 8
#define RECORD 32
#define RECORDS 8
#define HANG_MICROSECONDS 20000

struct entry {
	char id[48], mode[4];
	uint64_t start, virgin, contents;
};

/* What the manifest says of the image. */
static struct slot slots[MAX_SLOTS];
static unsigned slot_count, entry_count;
static struct entry *entries;
static uint64_t finisher, mark, end, log_gpa, warm;
static unsigned char *image;
static size_t image_size;

static struct vm vm;
static bool alive;
static unsigned char before[8192], after[8192];

struct outcome {
	const char *end; /* reached, killed, hung, vmm, no-mark */
	int error;
	uint32_t reason;
	unsigned exits;
	struct kvm_run seen[MAX_EXITS + 1];
};

static void read_manifest(void)
{
	char *text = read_all("/probe.txt", NULL), *line, *save = NULL;

	image = read_all("/probe.bin", &image_size);
	if (text == NULL || image == NULL)
		fail("/probe.txt or /probe.bin");
	entries = calloc(1024, sizeof(*entries));
	for (line = strtok_r(text, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
		struct slot *s = &slots[slot_count];
		struct entry *e = &entries[entry_count];

		if (sscanf(line, "slot %lx %lx %7s %lx", &s->gpa, &s->size, s->kind, &s->backing) == 4)
			slot_count++;
		else if (sscanf(line, "entry %47s %3s %lx %lx %lx", e->id, e->mode, &e->start, &e->virgin,
				&e->contents) == 5)
			entry_count++;
		else if (sscanf(line, "finisher %lx %lx %lx", &finisher, &mark, &end) != 3 &&
			 sscanf(line, "log %lx", &log_gpa) != 1 && sscanf(line, "warm %lx", &warm) != 1) {
			errno = EINVAL;
			fail("/probe.txt");
		}
		if (slot_count == MAX_SLOTS || entry_count == 1024) {
			errno = E2BIG;
			fail("/probe.txt");
		}
	}
}

static unsigned char *guest(uint64_t gpa)
{
	unsigned n = 0;

	while (gpa - slots[n].gpa >= slots[n].size)
		n++;
	return vm.memory[n] + (gpa - slots[n].gpa);
}

/* Run until the guest writes `wanted` to the finisher; answer other exits as a VMM without devices does. */
static bool run_until(uint64_t wanted, struct outcome *o)
{
	struct kvm_run *run = vm.run;

	for (;;) {
		int ret;

		ret = ioctl(vm.vcpu, KVM_RUN, 0);
		o->reason = run->exit_reason;
		if (ret != 0) {
			o->error = errno;
			o->end = errno == EINTR ? "hung" : "killed";
			return false;
		}
		if (run->exit_reason == KVM_EXIT_MMIO && run->mmio.is_write && run->mmio.phys_addr == finisher) {
			uint32_t data;

			memcpy(&data, run->mmio.data, 4);
			o->end = data == wanted ? "reached" : "lost";
			return data == wanted;
		}
		o->seen[o->exits++] = *run;
		if (run->exit_reason == KVM_EXIT_MMIO) {
			if (!run->mmio.is_write)
				memset(run->mmio.data, 0, sizeof(run->mmio.data));
		} else if ((run->exit_reason != KVM_EXIT_RISCV_SBI && run->exit_reason != KVM_EXIT_RISCV_CSR) ||
			   o->exits > MAX_EXITS) {
			o->end = "vmm";
			return false;
		}
		if (o->exits > MAX_EXITS) {
			o->end = "vmm";
			return false;
		}
	}
}

static void print_exit(const struct kvm_run *run)
{
	uint64_t data;

	printf("{\"reason\": %u", run->exit_reason);
	if (run->exit_reason == KVM_EXIT_MMIO) {
		memcpy(&data, run->mmio.data, 8);
		printf(", \"gpa\": %llu, \"len\": %u, \"write\": %u", (unsigned long long)run->mmio.phys_addr,
		       run->mmio.len, run->mmio.is_write);
		if (run->mmio.is_write)
			printf(", \"data\": %lu",
			       run->mmio.len >= 8 ? data : data & ((1UL << run->mmio.len * 8) - 1));
	} else if (run->exit_reason == KVM_EXIT_RISCV_SBI) {
		printf(", \"extension\": %lu, \"function\": %lu", run->riscv_sbi.extension_id,
		       run->riscv_sbi.function_id);
	} else if (run->exit_reason == KVM_EXIT_RISCV_CSR) {
		printf(", \"csr\": %lu", run->riscv_csr.csr_num);
	}
	printf("}");
}

static void print_registers(void)
{
	unsigned n;

	printf("\"x\": [");
	for (n = 0; n <= CORE_MODE; n++)
		printf("%s%lu", n ? ", " : "", reg_get(&vm, KVM_REG_RISCV_CORE, n));
	printf("], \"csrs\": [");
	for (n = 0; n < 10; n++)
		printf("%s%lu", n ? ", " : "", reg_get(&vm, KVM_REG_RISCV_CSR, n));
	printf("]");
}

static void print_outcome(const struct entry *e, unsigned turn, const struct outcome *o)
{
	const uint64_t *record = (const void *)guest(log_gpa);
	unsigned n;

	printf("{\"event\": \"%s\", \"from\": \"%s\", \"turn\": %u, \"end\": \"%s\", \"errno\": %d, \"exit_reason\": %u, ",
	       e->id, e->mode, turn, o->end, o->error, o->reason);
	printf("\"exits\": [");
	for (n = 0; n < o->exits; n++) {
		printf("%s", n ? ", " : "");
		print_exit(&o->seen[n]);
	}
	printf("], \"log\": [");
	for (n = 0; n < RECORDS && record[n * 4 + 1] != 0; n++)
		printf("%s[%lu, %lu, %lu, %lu]", n ? ", " : "", record[n * 4], record[n * 4 + 1], record[n * 4 + 2],
		       record[n * 4 + 3]);
	printf("], \"stats\": {");
	stats_print(&vm, before, after);
	printf("}, ");
	print_registers();
	printf(", \"kernel\": [");
	log_print();
	printf("]}\n");
	drain();
}

static void alarm_after(unsigned microseconds)
{
	struct itimerval timer = { .it_value = { .tv_sec = 0, .tv_usec = microseconds } };

	setitimer(ITIMER_REAL, &timer, NULL);
}

static void on_alarm(int signal)
{
	(void)signal;
}

/* A VM in which the image's common pages are mapped already, as they are for the hosted probe. */
static void fresh(void)
{
	struct outcome o = { 0 };

	if (vm.run != NULL)
		vm_drop(&vm);
	vm_make(&vm, slots, slot_count);
	memset(vm.memory[0], 0, slots[0].size); /* all pages present */
	memcpy(vm.memory[0], image, image_size);
	if (warm != 0) {
		vcpu_reset(&vm, warm);
		if (!run_until(end, &o))
			fail("the warm-up of the VM");
		vcpu_complete(&vm);
	}
	alive = true;
}

static void raise_event(const struct entry *e, unsigned turn)
{
	struct outcome o = { 0 };

	if (!alive)
		fresh();
	if (madvise(guest(e->virgin), PAGE, MADV_DONTNEED) != 0)
		fail("MADV_DONTNEED");
	memcpy(guest(e->virgin), image + (e->contents - slots[0].gpa), PAGE);
	memset(guest(log_gpa), 0, RECORD * RECORDS);
	vcpu_reset(&vm, e->start);
	log_forget();
	alarm_after(HANG_MICROSECONDS);
	if (!run_until(mark, &o)) {
		o.end = "no-mark";
		memcpy(after, before, sizeof(after));
	} else {
		stats_read(&vm, before);
		o.exits = 0;
		port_mark(PORT_MARK);
		run_until(end, &o);
		port_mark(PORT_END);
		stats_read(&vm, after);
	}
	alarm_after(0);
	print_outcome(e, turn, &o);
	alive = strcmp(o.end, "reached") == 0;
	if (alive)
		vcpu_complete(&vm);
}

void run_events(void)
{
	struct sigaction action = { .sa_handler = on_alarm };
	unsigned repeat = (unsigned)argument("repeat", 1), n, turn;
	size_t size;
	char *symbols;

	kvm_open();
	sigaction(SIGALRM, &action, NULL);
	read_manifest();
	symbols = argument("symbols", 0) ? read_all("/proc/kallsyms", &size) : NULL;
	if (symbols != NULL)
		port_hand_over(symbols, size);
	free(symbols);
	printf("{\"entries\": %u, \"repeat\": %u}\n", entry_count, repeat);
	for (n = 0; n < entry_count; n++)
		for (turn = 0; turn < repeat; turn++)
			raise_event(&entries[n], turn);
	printf("{\"done\": %u}\n", entry_count * repeat);
}

/* Runs sweeps: a guest makes many calls or accesses in a row and notes what became of each in its own memory. */
#include "kvm_user.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#define HANG_MICROSECONDS 20000
#define MAX_VCPUS 8
#define SBI_EXTENSIONS 16
#define TYPE_SBI_EXT (0x08UL << 24)
#define CSR_SIP 7

enum { CONTROL_TAKE_AWAY = 1, CONTROL_SET_SIP = 2, CONTROL_YIELD = 3 };

/* What a manifest says. */
struct sweep {
	char name[48];
	struct slot slots[MAX_SLOTS];
	unsigned slot_count, vcpu_count;
	uint64_t start, cursor, count, records, records_size, finisher, control, enabled;
	unsigned vcpus[MAX_VCPUS]; /* ids, in the order in which they are made */
};

struct other {
	pthread_t thread;
	int fd;
	struct kvm_run *run;
};

static struct sweep sweep;
static struct vm vm;
static struct other others[MAX_VCPUS];
static volatile bool stopping;
static unsigned char before[8192], after[8192];

static bool read_sweep(unsigned number)
{
	char path[32], *text, *line, *save = NULL;

	snprintf(path, sizeof(path), "/sweep-%u.txt", number);
	text = read_all(path, NULL);
	if (text == NULL)
		return false;
	memset(&sweep, 0, sizeof(sweep));
	for (line = strtok_r(text, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
		struct slot *s = &sweep.slots[sweep.slot_count];
		unsigned id;

		if (sweep.slot_count < MAX_SLOTS &&
		    sscanf(line, "slot %lx %lx %7s %lx", &s->gpa, &s->size, s->kind, &s->backing) == 4)
			sweep.slot_count++;
		else if (sweep.vcpu_count < MAX_VCPUS && sscanf(line, "vcpu %u", &id) == 1)
			sweep.vcpus[sweep.vcpu_count++] = id;
		else if (sscanf(line, "name %47s", sweep.name) != 1 && sscanf(line, "start %lx", &sweep.start) != 1 &&
			 sscanf(line, "cursor %lx %lx", &sweep.cursor, &sweep.count) != 2 &&
			 sscanf(line, "records %lx %lx", &sweep.records, &sweep.records_size) != 2 &&
			 sscanf(line, "finisher %lx %lx", &sweep.finisher, &sweep.control) != 2 &&
			 sscanf(line, "enable %lx", &sweep.enabled) != 1) {
			errno = EINVAL;
			fail(path);
		}
	}
	free(text);
	return true;
}

static void *guest(uint64_t gpa)
{
	return vm.memory[0] + (gpa - sweep.slots[0].gpa);
}

static uint64_t *cursor(void)
{
	return guest(sweep.cursor);
}

static void on_signal(int signal)
{
	(void)signal;
}

/* A further vCPU: runs until the sweep is over; what it leaves the guest for is nobody's here. */
static void *run_other(void *data)
{
	struct other *other = data;

	while (!stopping) {
		int ret = ioctl(other->fd, KVM_RUN, 0);

		if (ret != 0 && errno != EINTR && errno != EAGAIN)
			break;
		if (ret == 0 && other->run->exit_reason == KVM_EXIT_SYSTEM_EVENT)
			break;
	}
	return NULL;
}

static void start_others(void)
{
	sigset_t alarm;
	unsigned n;

	sigemptyset(&alarm);
	sigaddset(&alarm, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &alarm, NULL);
	stopping = false;
	for (n = 1; n < sweep.vcpu_count; n++) {
		struct other *o = &others[n];

		o->fd = ioctl(vm.fd, KVM_CREATE_VCPU, (long)sweep.vcpus[n]);
		if (o->fd < 0)
			fail("KVM_CREATE_VCPU");
		o->run = mmap(NULL, vm.run_size, PROT_READ | PROT_WRITE, MAP_SHARED, o->fd, 0);
		if (o->run == MAP_FAILED)
			fail("mmap of kvm_run");
	}
	for (n = 1; n < sweep.vcpu_count; n++)
		if (pthread_create(&others[n].thread, NULL, run_other, &others[n]) != 0)
			fail("a thread for a vCPU");
	pthread_sigmask(SIG_UNBLOCK, &alarm, NULL);
}

static void stop_others(void)
{
	unsigned n;

	stopping = true;
	for (n = 1; n < sweep.vcpu_count; n++) {
		others[n].run->immediate_exit = 1;
		pthread_kill(others[n].thread, SIGUSR1);
		pthread_join(others[n].thread, NULL);
		munmap(others[n].run, vm.run_size);
		close(others[n].fd);
	}
}

/* Which SBI extensions there are: 1, 0 or minus the error number, by KVM's index. */
static void print_extensions(void)
{
	unsigned n;

	printf("\"extensions\": [");
	for (n = 0; n < SBI_EXTENSIONS; n++) {
		uint64_t value = 0;
		int error = reg_try_get(&vm, TYPE_SBI_EXT, n, &value);

		printf("%s%ld", n ? ", " : "", error ? -(long)error : (long)value);
	}
	printf("], ");
}

/* The item under way is over, without its return: go on with the next one. */
static void step_over(void)
{
	struct kvm_mp_state state = { .mp_state = KVM_MP_STATE_RUNNABLE };

	++*cursor();
	ioctl(vm.vcpu, KVM_SET_MP_STATE, &state);
	reg_set(&vm, KVM_REG_RISCV_CORE, CORE_MODE, KVM_RISCV_MODE_S);
	reg_set(&vm, KVM_REG_RISCV_CORE, 0, sweep.start);
}

static void print_end(const char **comma, const char *how, int error)
{
	printf("%s[%lu, \"%s\", %d, [", *comma, *cursor(), how, error);
	log_print();
	printf("]]");
	*comma = ", ";
}

/* An exit to user space; answered as a VMM without devices does. */
static void print_exit(const char **comma, struct kvm_run *run)
{
	uint64_t data;
	unsigned n;

	printf("%s[%lu, \"exit\", %u, [", *comma, *cursor(), run->exit_reason);
	*comma = ", ";
	if (run->exit_reason == KVM_EXIT_MMIO) {
		memcpy(&data, run->mmio.data, 8);
		printf("%llu, %u, %u", (unsigned long long)run->mmio.phys_addr, run->mmio.len, run->mmio.is_write);
		if (!run->mmio.is_write)
			memset(run->mmio.data, 0, sizeof(run->mmio.data));
	} else if (run->exit_reason == KVM_EXIT_RISCV_SBI) {
		printf("%lu, %lu", run->riscv_sbi.extension_id, run->riscv_sbi.function_id);
		for (n = 0; n < 6; n++)
			printf(", %lu", run->riscv_sbi.args[n]);
	} else if (run->exit_reason == KVM_EXIT_RISCV_CSR) {
		printf("%lu, %lu, %lu", run->riscv_csr.csr_num, run->riscv_csr.new_value, run->riscv_csr.write_mask);
		run->riscv_csr.ret_value = 0;
	} else if (run->exit_reason == KVM_EXIT_SYSTEM_EVENT) {
		printf("%u, %llu", run->system_event.type, (unsigned long long)run->system_event.data[0]);
	}
	printf("]]");
}

/* What the guest asks of its VMM by a store to the control address. */
static void obey(uint64_t word)
{
	unsigned n = (unsigned)(word >> 8);

	if ((word & 0xff) == CONTROL_YIELD) {
		usleep(100);
	} else if ((word & 0xff) == CONTROL_TAKE_AWAY && n < vm.count) {
		if (mprotect(vm.memory[n], vm.slots[n].size, PROT_NONE) != 0)
			fail("mprotect");
	} else if ((word & 0xff) == CONTROL_SET_SIP) {
		reg_set(&vm, KVM_REG_RISCV_CSR, CSR_SIP, n ? 0 : ~0UL);
	}
}

static void run_to_the_end(void)
{
	const char *comma = "";
	uint64_t last = ~0UL;

	while (*cursor() < sweep.count) {
		struct kvm_run *run = vm.run;
		int ret = ioctl(vm.vcpu, KVM_RUN, 0), error = errno;

		if (ret != 0 && error == EINTR && *cursor() != last) {
			last = *cursor();
			continue;
		}
		if (ret == 0 && run->exit_reason == KVM_EXIT_MMIO && run->mmio.is_write &&
		    run->mmio.phys_addr == sweep.finisher)
			return;
		if (ret == 0 && run->exit_reason == KVM_EXIT_MMIO && run->mmio.is_write &&
		    run->mmio.phys_addr == sweep.control) {
			uint64_t word;

			memcpy(&word, run->mmio.data, 8);
			obey(word);
			continue;
		}
		if (ret != 0) {
			print_end(&comma, error == EINTR ? "hung" : "killed", error == EINTR ? 0 : error);
			step_over();
			continue;
		}
		print_exit(&comma, run);
		if (run->exit_reason != KVM_EXIT_MMIO && run->exit_reason != KVM_EXIT_RISCV_SBI &&
		    run->exit_reason != KVM_EXIT_RISCV_CSR)
			step_over();
	}
}

static void run_sweep(unsigned number)
{
	struct itimerval every = { { 0, HANG_MICROSECONDS }, { 0, HANG_MICROSECONDS } }, never = { 0 };
	char path[32];
	size_t size;
	void *image;
	unsigned n;

	snprintf(path, sizeof(path), "/sweep-%u.bin", number);
	image = read_all(path, &size);
	if (image == NULL)
		fail(path);
	vm_make(&vm, sweep.slots, sweep.slot_count);
	memset(vm.memory[0], 0, sweep.slots[0].size);
	memcpy(vm.memory[0], image, size);
	free(image);
	vcpu_reset(&vm, sweep.start);
	for (n = 0; n < 64; n++)
		if (sweep.enabled >> n & 1)
			reg_try_set(&vm, TYPE_SBI_EXT, n, 1);
	printf("{\"sweep\": \"%s\", ", sweep.name);
	print_extensions();
	printf("\"ends\": [");
	log_forget();
	start_others();
	stats_read(&vm, before);
	port_mark(PORT_MARK);
	setitimer(ITIMER_REAL, &every, NULL);
	run_to_the_end();
	setitimer(ITIMER_REAL, &never, NULL);
	port_mark(PORT_END);
	stats_read(&vm, after);
	stop_others();
	port_hand_over(guest(sweep.records), sweep.records_size);
	printf("], \"stats\": {");
	stats_print(&vm, before, after);
	printf("}}\n");
	drain();
	vm_drop(&vm);
	vm_forget(&vm);
}

void run_sweeps(void)
{
	struct sigaction action = { .sa_handler = on_signal };
	unsigned number;

	kvm_open();
	sigaction(SIGALRM, &action, NULL);
	sigaction(SIGUSR1, &action, NULL);
	for (number = 0; read_sweep(number); number++)
		run_sweep(number);
	printf("{\"sweeps\": %u}\n", number);
}

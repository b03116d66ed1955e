/*
 * A small VMM: boots a guest from /guest, with the SBI console and an 8250 that never interrupts. Its twin under a
 * preset is conform/hosted_guest.py: what one of them does the other must do.
 */
#include "kvm_user.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#define RAM 0x80000000UL
#define KERNEL_OFFSET 0x200000UL
#define UART 0x10000000UL
#define SBI_PUTCHAR 1
#define SBI_GETCHAR 2
#define SBI_DBCN 0x4442434eUL
#define SBI_EXT_DBCN 9
#define SBI_NOT_SUPPORTED (-2L)
#define SBI_INVALID_PARAM (-3L)
#define CONSOLE_MOST 4096UL
enum { DBCN_WRITE, DBCN_READ, DBCN_WRITE_BYTE };
#define TYPE_SBI_EXT (0x08UL << 24)

static struct vm vm;
static struct slot ram = { RAM, 0, "ram", 0 };
static unsigned long exits, mmio, calls;
static unsigned char uart_lcr, uart_ier;
static unsigned long written;
static volatile sig_atomic_t seconds;

/* What the guest writes goes to the host's console, and apart from it to the port. */
static void put(const unsigned char *data, size_t size)
{
	size_t n;

	fwrite(data, 1, size, stdout);
	for (n = 0; n < size; n++)
		port_write(data[n]);
	written += size;
}

static void put_byte(unsigned char byte)
{
	put(&byte, 1);
}

static void on_second(int number)
{
	(void)number;
	seconds++;
}

static void place(const char *path, uint64_t offset)
{
	size_t size;
	void *data = read_all(path, &size);

	if (data == NULL)
		fail(path);
	if (offset + size > ram.size) {
		errno = ENOMEM;
		fail(path);
	}
	memcpy(vm.memory[0] + offset, data, size);
	free(data);
}

static void serve_mmio(struct kvm_run *run)
{
	uint64_t offset = run->mmio.phys_addr - UART;
	unsigned char *data = run->mmio.data;

	mmio++;
	if (!run->mmio.is_write) {
		memset(data, 0, sizeof(run->mmio.data));
		if (offset == 5)
			data[0] = 0x60; /* LSR: transmitter empty */
		else if (offset == 2)
			data[0] = uart_ier & 0x02 ? 0x02 : 0x01; /* IIR: transmitter empty, or nothing */
		else if (offset == 1)
			data[0] = uart_ier;
		else if (offset == 3)
			data[0] = uart_lcr;
		return;
	}
	if (offset == 3)
		uart_lcr = data[0];
	else if (offset == 1 && !(uart_lcr & 0x80))
		uart_ier = data[0];
	else if (offset == 0 && !(uart_lcr & 0x80))
		put_byte(data[0]);
}

/* DBCN as the VMM of trapline has it: 4 KiB a call, nobody types. */
static int64_t serve_console(uint64_t function, const uint64_t *args, uint64_t *value)
{
	uint64_t length = args[0] < CONSOLE_MOST ? args[0] : CONSOLE_MOST, at = args[1] - RAM;

	*value = 0;
	if (function == DBCN_WRITE_BYTE) {
		put_byte((unsigned char)args[0]);
		return 0;
	}
	if (function > DBCN_WRITE_BYTE)
		return SBI_NOT_SUPPORTED;
	if (args[2] != 0 || (length != 0 && (at >= ram.size || length > ram.size - at)))
		return SBI_INVALID_PARAM;
	if (function == DBCN_WRITE) {
		put(vm.memory[0] + at, length);
		*value = length;
	}
	return 0;
}

static void serve_sbi(struct kvm_run *run)
{
	uint64_t *args = (void *)run->riscv_sbi.args, *ret = (void *)run->riscv_sbi.ret;

	calls++;
	if (run->riscv_sbi.extension_id == SBI_PUTCHAR) {
		put_byte((unsigned char)args[0]);
		ret[0] = 0;
	} else if (run->riscv_sbi.extension_id == SBI_GETCHAR) {
		ret[0] = ~0UL;
	} else if (run->riscv_sbi.extension_id == SBI_DBCN) {
		ret[0] = (uint64_t)serve_console(run->riscv_sbi.function_id, args, &ret[1]);
	} else {
		ret[0] = (uint64_t)SBI_NOT_SUPPORTED;
		ret[1] = 0;
	}
}

/* A guest that goes on and on, or that waits for ever, is ended. */
static const char *patience(void)
{
	static unsigned long most, silence, last;
	static long since;

	if (most == 0) {
		most = argument("most", 128UL << 10);
		silence = argument("silence", 3);
	}
	if (written != last) {
		last = written;
		since = seconds;
	}
	if (written >= most)
		return "console full";
	return (unsigned long)(seconds - since) >= silence ? "silent" : NULL;
}

static const char *run_to_the_end(void)
{
	struct kvm_run *run = vm.run;
	const char *end;

	for (;; exits++) {
		end = patience();
		if (end != NULL)
			return end;
		if (ioctl(vm.vcpu, KVM_RUN, 0) != 0) {
			if (errno == EINTR || errno == EAGAIN)
				continue;
			return strerror(errno);
		}
		if (run->exit_reason == KVM_EXIT_MMIO)
			serve_mmio(run);
		else if (run->exit_reason == KVM_EXIT_RISCV_SBI)
			serve_sbi(run);
		else if (run->exit_reason == KVM_EXIT_SYSTEM_EVENT)
			return run->system_event.type == KVM_SYSTEM_EVENT_SHUTDOWN ? "shutdown" : "reset";
		else
			return "an exit that this VMM does not know";
	}
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

void run_linux(void)
{
	static unsigned char before[8192], after[8192];
	struct itimerval every = { { 1, 0 }, { 1, 0 } }, never = { { 0, 0 }, { 0, 0 } };
	struct sigaction action = { .sa_handler = on_second };
	const char *end;
	double started;

	setvbuf(stdout, NULL, _IOLBF, 1 << 12);
	ram.size = argument("memory", 256UL << 20);
	kvm_open();
	vm_make(&vm, &ram, 1);
	place("/guest/Image", argument("kernel_at", KERNEL_OFFSET));
	place("/guest/initrd", argument("initrd_at", ram.size / 2));
	place("/guest/dtb", argument("dtb_at", ram.size - (2UL << 20)));
	vcpu_reset(&vm, argument("entry", RAM + KERNEL_OFFSET));
	reg_try_set(&vm, TYPE_SBI_EXT, SBI_EXT_DBCN, 1);
	reg_set(&vm, KVM_REG_RISCV_CORE, 11, RAM + argument("dtb_at", ram.size - (2UL << 20)));
	log_forget();
	stats_read(&vm, before);
	port_mark(PORT_MARK);
	started = now();
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &every, NULL);
	end = run_to_the_end();
	setitimer(ITIMER_REAL, &never, NULL);
	port_mark(PORT_END);
	stats_read(&vm, after);
	printf("\n{\"guest\": \"%s\", \"seconds\": %.3f, \"exits\": %lu, \"mmio\": %lu, \"sbi\": %lu, \"stats\": {", end,
	       now() - started, exits, mmio, calls);
	stats_print(&vm, before, after);
	printf("}, \"kernel\": [");
	log_print();
	printf("]}\n");
}

/* The guest's init: says that it is there. */
void run_guest(void)
{
	struct utsname name;

	uname(&name);
	printf("GUEST-UP %s %s\n", name.release, name.machine);
}

/* Runs loops of one trap each: what is between their marks is what the trap costs. */
#include "kvm_user.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define RAM 0x80000000UL
#define FINISHER 0x100000UL
#define MARK 0x1111
#define END 0x5555
#define HUGE (2UL << 20)

static struct vm vm;
static struct slot ram = { RAM, 0, "ram", 0 };

/* Memory that nobody has touched, at an address that suits huge pages. */
static unsigned char *untouched(size_t size)
{
	unsigned char *memory =
		mmap(NULL, size + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (memory == MAP_FAILED)
		fail("mmap of a loop's memory");
	return (unsigned char *)(((uintptr_t)memory + HUGE - 1) & ~(HUGE - 1));
}

static void run(const char *name)
{
	struct kvm_run *shared = vm.run;

	for (;;) {
		if (ioctl(vm.vcpu, KVM_RUN, 0) != 0)
			fail(name);
		if (shared->exit_reason != KVM_EXIT_MMIO)
			continue;
		if (!shared->mmio.is_write || shared->mmio.phys_addr != FINISHER)
			continue;
		if (shared->mmio.data[0] == (MARK & 0xff)) {
			port_mark(PORT_MARK);
		} else {
			port_mark(PORT_END);
			return;
		}
	}
}

void run_loops(void)
{
	char *text = read_all("/loops.txt", NULL), *line, *save = NULL, name[64], path[80];
	unsigned long memory;
	size_t size;
	char *symbols;
	unsigned count = 0;

	kvm_open();
	if (text == NULL)
		fail("/loops.txt");
	symbols = argument("symbols", 0) ? read_all("/proc/kallsyms", &size) : NULL;
	if (symbols != NULL)
		port_hand_over(symbols, size);
	free(symbols);
	for (line = strtok_r(text, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
		unsigned char *image;

		if (sscanf(line, "%63s %lx", name, &memory) != 2) {
			errno = EINVAL;
			fail("/loops.txt");
		}
		snprintf(path, sizeof(path), "/loops/%s", name);
		image = read_all(path, &size);
		if (image == NULL)
			fail(path);
		ram.size = memory;
		vm.memory[0] = untouched(memory);
		memcpy(vm.memory[0], image, size);
		free(image);
		vm_make(&vm, &ram, 1);
		vcpu_reset(&vm, RAM);
		run(name);
		vm_drop(&vm);
		munmap(vm.memory[0], memory);
		count++;
		printf("{\"loop\": \"%s\"}\n", name);
		drain();
	}
	printf("{\"done\": %u}\n", count);
}

/* A VMM for a host with KVM's AIA: a Linux guest with several vCPUs, KVM's APLIC and IMSICs, and an 8250 that
 * interrupts. Usage: kvm-aia VCPUS MODE, where MODE is 0 emul, 1 hwaccel, 2 auto. See README.md. */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define RAM 0x80000000UL
#define SIZE (256UL << 20)
#define KERNEL 0x200000UL
#define INITRD (SIZE / 2)
#define TREE (SIZE - (2UL << 20))
#define UART 0x10000000UL
#define UART_IRQ 10
#define APLIC 0x0d000000UL
#define IMSIC 0x28000000UL
#define SOURCES 96
#define MAX_VCPUS 8

/* include/uapi/asm/kvm.h of riscv: newer than the headers that compilers bring along. */
enum { TYPE_AIA = 11, GRP_CONFIG = 0, GRP_ADDR = 1, GRP_CTRL = 2 };
enum { CONFIG_MODE = 0, CONFIG_SOURCES = 2, CONFIG_HART_BITS = 5 };
#define CORE(n) (0x8030000002000000UL | (n))

static int kvm, vm, device;
static unsigned char *memory;
static pthread_mutex_t uart = PTHREAD_MUTEX_INITIALIZER;
static unsigned char lcr, ier;
static int empty; /* the transmitter has become empty, and nobody was told */

static _Noreturn void fail(const char *what)
{
	printf("kvm-aia: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void set_attr(uint32_t group, uint64_t attr, const void *value, const char *what)
{
	struct kvm_device_attr a = { .group = group, .attr = attr, .addr = (uintptr_t)value };

	if (ioctl(device, KVM_SET_DEVICE_ATTR, &a) != 0)
		fail(what);
}

static void set_reg(int vcpu, uint64_t id, uint64_t value)
{
	struct kvm_one_reg reg = { .id = id, .addr = (uintptr_t)&value };

	if (ioctl(vcpu, KVM_SET_ONE_REG, &reg) != 0)
		fail("KVM_SET_ONE_REG");
}

static void place(const char *path, uint64_t offset)
{
	int file = open(path, O_RDONLY);
	ssize_t got;

	if (file < 0)
		fail(path);
	while ((got = read(file, memory + offset, 1 << 20)) > 0)
		offset += (uint64_t)got;
	close(file);
}

static void make_aia(int vcpus, uint32_t mode)
{
	struct kvm_create_device made = { .type = TYPE_AIA };
	uint32_t sources = SOURCES, bits = 0;
	uint64_t address = APLIC;
	int n;

	if (ioctl(vm, KVM_CREATE_DEVICE, &made) != 0)
		fail("KVM_CREATE_DEVICE");
	device = (int)made.fd;
	while (1 << bits < vcpus)
		bits++;
	set_attr(GRP_CONFIG, CONFIG_MODE, &mode, "mode");
	set_attr(GRP_CONFIG, CONFIG_SOURCES, &sources, "sources");
	set_attr(GRP_CONFIG, CONFIG_HART_BITS, &bits, "hart bits");
	set_attr(GRP_ADDR, 0, &address, "APLIC");
	for (n = 0; n < vcpus; n++) {
		address = IMSIC + (uint64_t)n * 4096;
		set_attr(GRP_ADDR, 1 + (uint64_t)n, &address, "IMSIC");
	}
	set_attr(GRP_CTRL, 0, NULL, "initialisation");
}

static void wire(void)
{
	struct kvm_irq_level line = { .irq = UART_IRQ, .level = empty && (ier & 2) };

	if (ioctl(vm, KVM_IRQ_LINE, &line) != 0)
		fail("KVM_IRQ_LINE");
}

static unsigned char uart_read(uint64_t offset)
{
	switch (offset) {
	case 1:
		return ier;
	case 2:
		if (!empty || !(ier & 2))
			return 1;
		empty = 0;
		wire();
		return 2;
	case 3:
		return lcr;
	case 5:
		return 0x60;
	}
	return 0;
}

static void uart_write(uint64_t offset, unsigned char value)
{
	if (offset == 3) {
		lcr = value;
	} else if (lcr & 0x80) {
		return;
	} else if (offset == 0) {
		putchar(value);
		empty = 1;
		wire();
	} else if (offset == 1) {
		ier = value;
		empty = 1;
		wire();
	}
}

static void serve_mmio(struct kvm_run *run)
{
	uint64_t offset = run->mmio.phys_addr - UART;

	pthread_mutex_lock(&uart);
	if (run->mmio.is_write) {
		uart_write(offset, run->mmio.data[0]);
	} else {
		memset(run->mmio.data, 0, sizeof(run->mmio.data));
		run->mmio.data[0] = uart_read(offset);
	}
	pthread_mutex_unlock(&uart);
}

static void *run_vcpu(void *argument)
{
	int vcpu = (int)(intptr_t)argument, size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	struct kvm_run *run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);

	for (;;) {
		if (ioctl(vcpu, KVM_RUN, 0) != 0) {
			if (errno == EINTR || errno == EAGAIN)
				continue;
			fail("KVM_RUN");
		}
		switch (run->exit_reason) {
		case KVM_EXIT_MMIO:
			serve_mmio(run);
			break;
		case KVM_EXIT_RISCV_SBI:
			run->riscv_sbi.ret[0] = (unsigned long)-2;
			break;
		case KVM_EXIT_SYSTEM_EVENT:
			printf("kvm-aia: the guest ended, event %u\n", run->system_event.type);
			fflush(stdout);
			exit(0);
		default:
			printf("kvm-aia: exit reason %u\n", run->exit_reason);
			exit(1);
		}
	}
}

int main(int argc, char **argv)
{
	struct kvm_userspace_memory_region region = { .guest_phys_addr = RAM, .memory_size = SIZE };
	int vcpus = argc == 3 ? atoi(argv[1]) : 0, vcpu[MAX_VCPUS], n;
	pthread_t thread;

	if (vcpus < 1 || vcpus > MAX_VCPUS) {
		printf("kvm-aia: usage: kvm-aia VCPUS MODE\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 1 << 12);
	kvm = open("/dev/kvm", O_RDWR);
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	if (vm < 0)
		fail("/dev/kvm");
	memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	region.userspace_addr = (uintptr_t)memory;
	if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) != 0)
		fail("KVM_SET_USER_MEMORY_REGION");
	for (n = 0; n < vcpus; n++) {
		vcpu[n] = ioctl(vm, KVM_CREATE_VCPU, n);
		if (vcpu[n] < 0)
			fail("KVM_CREATE_VCPU");
	}
	make_aia(vcpus, (uint32_t)atoi(argv[2]));
	place("/guest.Image", KERNEL);
	place("/guest.cpio", INITRD);
	place("/guest.dtb", TREE);
	set_reg(vcpu[0], CORE(0), RAM + KERNEL);
	set_reg(vcpu[0], CORE(10), 0);
	set_reg(vcpu[0], CORE(11), RAM + TREE);
	for (n = 1; n < vcpus; n++)
		pthread_create(&thread, NULL, run_vcpu, (void *)(intptr_t)vcpu[n]);
	run_vcpu((void *)(intptr_t)vcpu[0]);
	return 0;
}

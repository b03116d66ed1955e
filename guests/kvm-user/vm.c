/* A VM with memory slots and one vCPU, its registers and its statistics. */
#include "kvm_user.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

int kvm_fd;

void kvm_open(void)
{
	kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm_fd < 0)
		fail("/dev/kvm");
	if (ioctl(kvm_fd, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
		fail("KVM_GET_API_VERSION");
}

/* Memory behind a slot: anonymous, with every page present, or physical addresses where nothing answers. */
static unsigned char *backing(const struct slot *slot)
{
	unsigned char *memory;

	if (strcmp(slot->kind, "hole") == 0) {
		int fd = open("/dev/mem", O_RDWR | O_SYNC);

		if (fd < 0)
			fail("/dev/mem");
		memory = mmap(NULL, slot->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)slot->backing);
		close(fd);
	} else {
		memory = mmap(NULL, slot->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
			      0);
	}
	if (memory == MAP_FAILED)
		fail("mmap of a slot's memory");
	return memory;
}

/* KVM refuses a slot whose memory may not be written (EPERM): it is taken away behind the slot's back. */
static void protect(const struct slot *slot, void *memory, int protection)
{
	if (strcmp(slot->kind, "none") == 0 && mprotect(memory, slot->size, protection) != 0)
		fail("mprotect");
}

static void stats_open(struct vm *vm)
{
	struct kvm_stats_header header;

	vm->stats = ioctl(vm->vcpu, KVM_GET_STATS_FD, 0);
	if (vm->stats < 0 || pread(vm->stats, &header, sizeof(header), 0) != (ssize_t)sizeof(header))
		fail("KVM_GET_STATS_FD");
	vm->descriptors = header.num_desc;
	vm->name_size = header.name_size;
	vm->data_offset = header.data_offset;
	if (vm->table == NULL) {
		size_t size = vm->descriptors * (sizeof(struct kvm_stats_desc) + vm->name_size);

		vm->table = malloc(size);
		if (pread(vm->stats, vm->table, size, header.desc_offset) != (ssize_t)size)
			fail("statistics descriptors");
	}
	vm->data_size = 8192;
}

void vm_make(struct vm *vm, const struct slot *slots, unsigned count)
{
	unsigned n;

	vm->slots = slots;
	vm->count = count;
	vm->fd = ioctl(kvm_fd, KVM_CREATE_VM, 0);
	if (vm->fd < 0)
		fail("KVM_CREATE_VM");
	for (n = 0; n < count; n++) {
		struct kvm_userspace_memory_region region = {
			.slot = n,
			.flags = strcmp(slots[n].kind, "ro") == 0 ? KVM_MEM_READONLY : 0,
			.guest_phys_addr = slots[n].gpa,
			.memory_size = slots[n].size,
		};

		if (vm->memory[n] == NULL)
			vm->memory[n] = backing(&slots[n]);
		region.userspace_addr = (uintptr_t)vm->memory[n];
		protect(&slots[n], vm->memory[n], PROT_READ | PROT_WRITE);
		if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region) != 0)
			fail("KVM_SET_USER_MEMORY_REGION");
		protect(&slots[n], vm->memory[n], PROT_NONE);
	}
	vm->vcpu = ioctl(vm->fd, KVM_CREATE_VCPU, 0);
	if (vm->vcpu < 0)
		fail("KVM_CREATE_VCPU");
	vm->run_size = (size_t)ioctl(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	vm->run = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vm->vcpu, 0);
	if (vm->run == MAP_FAILED)
		fail("mmap of kvm_run");
	stats_open(vm);
}

void vm_drop(struct vm *vm)
{
	munmap(vm->run, vm->run_size);
	close(vm->stats);
	close(vm->vcpu);
	close(vm->fd);
}

/* Give the memory behind the slots back: the next VM has others. */
void vm_forget(struct vm *vm)
{
	unsigned n;

	for (n = 0; n < vm->count; n++) {
		munmap(vm->memory[n], vm->slots[n].size);
		vm->memory[n] = NULL;
	}
}

static int reg_access(struct vm *vm, unsigned long request, uint64_t type, unsigned number, uint64_t *value)
{
	struct kvm_one_reg reg = {
		.id = KVM_REG_RISCV | KVM_REG_SIZE_U64 | type | number,
		.addr = (uintptr_t)value,
	};

	return ioctl(vm->vcpu, request, &reg);
}

uint64_t reg_get(struct vm *vm, uint64_t type, unsigned number)
{
	uint64_t value = 0;

	if (reg_access(vm, KVM_GET_ONE_REG, type, number, &value) != 0)
		fail("KVM_GET_ONE_REG");
	return value;
}

/* Returns 0 or the error number. */
int reg_try_get(struct vm *vm, uint64_t type, unsigned number, uint64_t *value)
{
	return reg_access(vm, KVM_GET_ONE_REG, type, number, value) != 0 ? errno : 0;
}

int reg_try_set(struct vm *vm, uint64_t type, unsigned number, uint64_t value)
{
	return reg_access(vm, KVM_SET_ONE_REG, type, number, &value);
}

void reg_set(struct vm *vm, uint64_t type, unsigned number, uint64_t value)
{
	if (reg_try_set(vm, type, number, value) != 0)
		fail("KVM_SET_ONE_REG");
}

/* Registers as after power on, and the entry; the timer never rings. */
void vcpu_reset(struct vm *vm, uint64_t pc)
{
	unsigned n;

	for (n = 1; n < CORE_MODE; n++)
		reg_set(vm, KVM_REG_RISCV_CORE, n, 0);
	for (n = 0; n < 10; n++)
		reg_set(vm, KVM_REG_RISCV_CSR, n, n == 9 ? 7 : 0);
	reg_try_set(vm, KVM_REG_RISCV_TIMER, 2, ~0UL);
	reg_try_set(vm, KVM_REG_RISCV_TIMER, 3, KVM_RISCV_TIMER_STATE_ON);
	reg_set(vm, KVM_REG_RISCV_CORE, CORE_MODE, KVM_RISCV_MODE_S);
	reg_set(vm, KVM_REG_RISCV_CORE, 0, pc);
}

/* Let KVM take the answer to the last exit without entering the guest. */
void vcpu_complete(struct vm *vm)
{
	vm->run->immediate_exit = 1;
	ioctl(vm->vcpu, KVM_RUN, 0);
	vm->run->immediate_exit = 0;
}

void stats_read(struct vm *vm, unsigned char *data)
{
	if (pread(vm->stats, data, vm->data_size, (off_t)vm->data_offset) <= 0)
		fail("statistics");
}

/* Print the counters that moved, as the members of a JSON object. */
void stats_print(struct vm *vm, const unsigned char *before, const unsigned char *after)
{
	const char *comma = "";
	unsigned n;

	for (n = 0; n < vm->descriptors; n++) {
		const struct kvm_stats_desc *d = (const void *)(vm->table + n * (sizeof(*d) + vm->name_size));
		uint64_t old, new;

		if ((d->flags & KVM_STATS_TYPE_MASK) != KVM_STATS_TYPE_CUMULATIVE || d->size != 1)
			continue;
		memcpy(&old, before + d->offset, 8);
		memcpy(&new, after + d->offset, 8);
		if (old != new) {
			printf("%s\"%s\": %llu", comma, d->name, (unsigned long long)(new - old));
			comma = ", ";
		}
	}
}

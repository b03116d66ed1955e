/* A KVM user program for conformance runs: see README.md. */
#ifndef KVM_USER_H
#define KVM_USER_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ITEMS(a) (sizeof(a) / sizeof((a)[0]))
#define MAX_SLOTS 8
#define PAGE 4096UL

/* setup.c: what init does, files, the kernel log. */
_Noreturn void fail(const char *what);
void become_init(void);
_Noreturn void power_off(void);
void load_modules(void);
void *read_all(const char *path, size_t *size);
uint64_t argument(const char *name, uint64_t otherwise);
void log_forget(void);
void log_print(void);
void drain(void);

/* port.c: the board's way to see where the program is; does nothing without one. */
enum { PORT_MARK = 1, PORT_END = 2, PORT_KILLED = 3, PORT_LOST = 4 };
void port_open(void);
void port_mark(uint64_t code);
void port_hand_over(const void *data, size_t size);
void port_write(unsigned char byte);

/* vm.c: one VM with one vCPU. */
struct slot {
	uint64_t gpa, size;
	char kind[8]; /* ram, ro, hole, none */
	uint64_t backing; /* of a hole: the physical address */
};

struct vm {
	int fd, vcpu, stats;
	struct kvm_run *run;
	size_t run_size;
	unsigned char *memory[MAX_SLOTS];
	const struct slot *slots;
	unsigned count;
	/* statistics */
	unsigned descriptors;
	size_t name_size, data_offset, data_size;
	unsigned char *table;
};

extern int kvm_fd;
void kvm_open(void);
void vm_make(struct vm *vm, const struct slot *slots, unsigned count);
void vm_drop(struct vm *vm);
void vm_forget(struct vm *vm);
uint64_t reg_get(struct vm *vm, uint64_t type, unsigned number);
void reg_set(struct vm *vm, uint64_t type, unsigned number, uint64_t value);
int reg_try_get(struct vm *vm, uint64_t type, unsigned number, uint64_t *value);
int reg_try_set(struct vm *vm, uint64_t type, unsigned number, uint64_t value);
void vcpu_reset(struct vm *vm, uint64_t pc);
void vcpu_complete(struct vm *vm);
void stats_read(struct vm *vm, unsigned char *data);
void stats_print(struct vm *vm, const unsigned char *before, const unsigned char *after);

#define CORE_MODE 32

/* events.c, sweeps.c, loops.c and linux.c: the things that it does. */
void run_events(void);
void run_sweeps(void);
void run_loops(void);
void run_linux(void);
void run_guest(void);

#endif

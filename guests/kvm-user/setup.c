/* The program as init of a small system: file systems, modules, the kernel's log, the end. */
#include "kvm_user.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

static int log_fd = -1;
static bool is_init;

_Noreturn void power_off(void)
{
	drain();
	if (is_init) {
		sync();
		reboot(RB_POWER_OFF);
	}
	exit(0);
}

_Noreturn void fail(const char *what)
{
	printf("{\"failed\": \"%s: %s\"}\n", what, strerror(errno));
	power_off();
}

void drain(void)
{
	fflush(stdout);
	tcdrain(1);
}

void become_init(void)
{
	is_init = getpid() == 1;
	if (!is_init)
		return;
	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	mkdir("/dev", 0755);
	mount("proc", "/proc", "proc", 0, NULL);
	mount("sysfs", "/sys", "sysfs", 0, NULL);
	mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
}

/* Arguments are words NAME=VALUE behind "--" of the kernel's command line, or of this program's. */
uint64_t argument(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text != NULL ? strtoull(text, NULL, 0) : otherwise;
}

void *read_all(const char *path, size_t *size)
{
	size_t room = 1 << 16, length = 0;
	char *data = malloc(room);
	ssize_t got;
	int fd = open(path, O_RDONLY);

	if (fd < 0) {
		free(data);
		return NULL;
	}
	while ((got = read(fd, data + length, room - length - 1)) > 0) {
		length += (size_t)got;
		if (room - length < 1 << 12) {
			room *= 2;
			data = realloc(data, room);
		}
	}
	close(fd);
	data[length] = 0;
	if (size != NULL)
		*size = length;
	return data;
}

/* /modules.txt names the modules in the order in which they are loaded. */
void load_modules(void)
{
	char *list = read_all("/modules.txt", NULL), *name, *save = NULL;

	if (list == NULL)
		return;
	for (name = strtok_r(list, "\n", &save); name != NULL; name = strtok_r(NULL, "\n", &save)) {
		int fd = open(name, O_RDONLY | O_CLOEXEC);

		if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) != 0 && errno != EEXIST))
			fail(name);
		close(fd);
	}
	free(list);
}

static ssize_t log_record(char *record, size_t size)
{
	ssize_t got;

	do
		got = read(log_fd, record, size - 1);
	while (got < 0 && errno == EPIPE); /* records were overwritten */
	if (got > 0)
		record[got] = 0;
	return got;
}

void log_forget(void)
{
	char record[8192];

	if (log_fd < 0)
		log_fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
	while (log_fd >= 0 && log_record(record, sizeof(record)) > 0)
		;
}

/* Print what the kernel has logged since, as the elements of a JSON array. */
void log_print(void)
{
	const char *comma = "";
	char record[8192];

	while (log_fd >= 0 && log_record(record, sizeof(record)) > 0) {
		char *text = strchr(record, ';'), *c;

		if (text == NULL)
			continue;
		printf("%s\"", comma);
		for (c = text + 1; *c != 0 && *c != '\n'; c++) {
			if (*c == '"' || *c == '\\')
				putchar('\\');
			if (*c >= ' ')
				putchar(*c);
		}
		putchar('"');
		comma = ", ";
	}
}

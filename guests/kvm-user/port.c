/*
 * The port: a page of the board's bus whose stores the board's owner sees at once. They are of 4 bytes: of 8 not every
 * hypervisor takes them, where this host is a guest itself.
 */
#include "kvm_user.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

static volatile uint32_t *port;

void port_open(void)
{
	uint64_t at = argument("port", 0);
	int fd;

	if (at == 0)
		return;
	fd = open("/dev/mem", O_RDWR | O_SYNC);
	if (fd < 0)
		fail("/dev/mem");
	port = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)at);
	if (port == MAP_FAILED)
		fail("mmap of the port");
	close(fd);
}

void port_mark(uint64_t code)
{
	if (port != NULL)
		port[0] = (uint32_t)code;
}

void port_hand_over(const void *data, size_t size)
{
	if (port == NULL)
		return;
	port[2] = (uint32_t)(uintptr_t)data;
	port[3] = (uint32_t)((uintptr_t)data >> 32);
	port[4] = (uint32_t)size;
}

void port_write(unsigned char byte)
{
	if (port != NULL)
		port[6] = byte;
}

/* The program's start: alone, or as init of an initramfs. */
#include "kvm_user.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

static void release(void)
{
	struct utsname name;

	uname(&name);
	printf("{\"release\": \"%s\"}\n", name.release);
	drain();
}

int main(int argc, char **argv)
{
	const char *mode = "events";
	int n;

	setvbuf(stdout, NULL, _IOFBF, 1 << 16);
	become_init();
	for (n = 1; n < argc; n++) {
		char *equals = strchr(argv[n], '=');

		if (equals == NULL) {
			mode = argv[n];
			continue;
		}
		*equals = 0;
		setenv(argv[n], equals + 1, 1);
	}
	if (strcmp(mode, "guest") == 0) {
		run_guest();
		power_off();
	}
	release();
	load_modules();
	port_open();
	if (strcmp(mode, "linux") == 0) {
		run_sweeps(); /* what the kernel was built with */
		run_linux();
	} else if (strcmp(mode, "sweeps") == 0) {
		run_sweeps();
	} else if (strcmp(mode, "loops") == 0) {
		run_loops();
	} else {
		run_events();
	}
	power_off();
}

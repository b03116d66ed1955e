"""Defaults that the command line and the library share, without what they stand for."""

FIRMWARE = "opensbi-1.6"  # the firmware model under a hosted hypervisor
MEMORY = 256 << 20  # bytes of a machine or guest
TIMEBASE = 10_000_000  # Hz, of the time CSR

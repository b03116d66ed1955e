"""The host's floating-point unit in place of integers, where bits and flags are the same."""

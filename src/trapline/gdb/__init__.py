"""The stub behind gdb's remote protocol: packets, the target's description, commands, the socket."""

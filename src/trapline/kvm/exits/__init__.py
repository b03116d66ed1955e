"""What KVM does at an exit: vcpu_exit.c and what it calls."""

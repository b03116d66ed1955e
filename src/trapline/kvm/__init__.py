"""HS-mode, hosted: the files are named as the concerns of Linux's arch/riscv/kvm."""

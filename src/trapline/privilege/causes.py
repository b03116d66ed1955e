"""Exception and interrupt codes (Privileged spec, mcause; Hypervisor chapter, scause)."""

from __future__ import annotations

from trapline.lang.functions import inline

INST_MISALIGNED = 0
INST_ACCESS = 1
ILLEGAL_INST = 2
BREAKPOINT = 3
LOAD_MISALIGNED = 4
LOAD_ACCESS = 5
STORE_MISALIGNED = 6
STORE_ACCESS = 7
ECALL_U = 8
ECALL_HS = 9
ECALL_VS = 10
ECALL_M = 11
INST_PAGE_FAULT = 12
LOAD_PAGE_FAULT = 13
STORE_PAGE_FAULT = 15
DOUBLE_TRAP = 16
SOFTWARE_CHECK = 18
HARDWARE_ERROR = 19
INST_GUEST_PAGE_FAULT = 20
LOAD_GUEST_PAGE_FAULT = 21
VIRTUAL_INST = 22
STORE_GUEST_PAGE_FAULT = 23

ACCESS_FAULTS = (INST_ACCESS, LOAD_ACCESS, STORE_ACCESS)
PAGE_FAULTS = (INST_PAGE_FAULT, LOAD_PAGE_FAULT, STORE_PAGE_FAULT)
GUEST_PAGE_FAULTS = (INST_GUEST_PAGE_FAULT, LOAD_GUEST_PAGE_FAULT, STORE_GUEST_PAGE_FAULT)

ENVIRONMENT_CALLS = (ECALL_U, ECALL_HS, ECALL_VS, ECALL_M)
# Those whose xtval is an address of the trapped access (Hypervisor chapter, GVA); that of a breakpoint may be.
WITH_ADDRESS = frozenset((
    INST_MISALIGNED, LOAD_MISALIGNED, STORE_MISALIGNED, *ACCESS_FAULTS, *PAGE_FAULTS, *GUEST_PAGE_FAULTS,
))  # fmt: skip

INTERRUPT = 1 << 63

IRQ_SSI, IRQ_VSSI, IRQ_MSI = 1, 2, 3
IRQ_STI, IRQ_VSTI, IRQ_MTI = 5, 6, 7
IRQ_SEI, IRQ_VSEI, IRQ_MEI = 9, 10, 11
IRQ_SGEI, IRQ_LCOFI = 12, 13

# The kernel's EXC_ names in lower case with dashes; those it has no name for follow the specification.

MISALIGNED_BITS = 1 << LOAD_MISALIGNED | 1 << STORE_MISALIGNED  # in medeleg and hedeleg

CAUSE_NAMES = {
    INST_MISALIGNED: "inst-misaligned",
    INST_ACCESS: "inst-access",
    ILLEGAL_INST: "inst-illegal",
    BREAKPOINT: "breakpoint",
    LOAD_MISALIGNED: "load-misaligned",
    LOAD_ACCESS: "load-access",
    STORE_MISALIGNED: "store-misaligned",
    STORE_ACCESS: "store-access",
    ECALL_U: "syscall",
    ECALL_HS: "hypervisor-syscall",
    ECALL_VS: "supervisor-syscall",
    ECALL_M: "machine-syscall",
    INST_PAGE_FAULT: "inst-page-fault",
    LOAD_PAGE_FAULT: "load-page-fault",
    STORE_PAGE_FAULT: "store-page-fault",
    DOUBLE_TRAP: "double-trap",
    SOFTWARE_CHECK: "software-check",
    HARDWARE_ERROR: "hardware-error",
    INST_GUEST_PAGE_FAULT: "inst-guest-page-fault",
    LOAD_GUEST_PAGE_FAULT: "load-guest-page-fault",
    VIRTUAL_INST: "virtual-inst-fault",
    STORE_GUEST_PAGE_FAULT: "store-guest-page-fault",
}

INTERRUPT_NAMES = {
    IRQ_SSI: "s-soft",
    IRQ_VSSI: "vs-soft",
    IRQ_MSI: "m-soft",
    IRQ_STI: "s-timer",
    IRQ_VSTI: "vs-timer",
    IRQ_MTI: "m-timer",
    IRQ_SEI: "s-ext",
    IRQ_VSEI: "vs-ext",
    IRQ_MEI: "m-ext",
    IRQ_SGEI: "s-gext",
    IRQ_LCOFI: "pmu-ovf",
}


def cause_name(cause: int) -> str:
    """Name of an xcause value, interrupts included."""
    cause = int(cause)
    if cause & INTERRUPT:
        return INTERRUPT_NAMES.get(cause & 63, f"interrupt-{cause & 63}")
    return CAUSE_NAMES.get(cause, f"cause-{cause}")


@inline
def trap_kind(code: int, interrupt: int, origin: int, destination: int) -> int:
    """Index into hart.trap_count: exception or interrupt code; mode index; 0 M, 1 HS, 2 VS."""
    return ((code & 31) << 5) | (interrupt << 10) | (origin << 2) | destination


@inline
def trap_index(cause: int, origin: int, destination: int) -> int:
    """The same of an xcause."""
    return trap_kind(cause, cause >> 63, origin, destination)

"""hart.kvm_flags: what compiled exits must know of the policy, the VMM and the guest, beside the actions by cause."""

# SBI extensions whose calls are served there, and whether the VMM's devices are.
SERVES_TIME, SERVES_IPI, SERVES_RFENCE, SERVES_MMIO = (1 << n for n in range(4))
# The MMIO decoder: it decodes what an implicit access of a page table stands for, and refuses c.swsp and c.sdsp with
# bits 11:7 zero; an access fault of the fetch before it is one of a fetch.
DECODES_IMPLICIT, REFUSES_SP_ZERO, READS_AS_THE_GUEST = (1 << n for n in range(4, 7))
# Virtual instructions: a WFI in VU-mode is illegal; WRS is served.
WFI_OF_USER_IS_ILLEGAL, SERVES_WRS = (1 << n for n in range(7, 9))
# A counter overflow ends a WFI.
OVERFLOW_WAKES = 1 << 9
# SBI: HSM status is served, and is the caller's (hsm-status-of-the-caller); extensions that are not there are refused.
SERVES_HSM_STATUS, STATUS_OF_CALLER, REFUSES_UNKNOWN = (1 << n for n in range(10, 13))
# RFENCE: a range that passes the end of the address space is not served (fence-range-wraps).
FENCE_RANGE_WRAPS = 1 << 13
# The MMIO decoder compares the address of the access with that of the fault (mmio-checks-address).
CHECKS_ADDRESS = 1 << 14
# HSM status of a hart that does not exist is an error (without hsm-status-error-lost).
REFUSES_NO_HART = 1 << 15

"""Numbers of the SBI specification (v0.1 to v3.0): errors, extensions, implementations, states.

The chapter "Binary Encoding" gives the errors, each extension's chapter its identifiers.
"""

from __future__ import annotations

from enum import IntEnum


class SbiError(IntEnum):
    """Standard SBI errors (table "Standard SBI Errors")."""

    SUCCESS = 0
    FAILED = -1
    NOT_SUPPORTED = -2
    INVALID_PARAM = -3
    DENIED = -4
    INVALID_ADDRESS = -5
    ALREADY_AVAILABLE = -6
    ALREADY_STARTED = -7
    ALREADY_STOPPED = -8
    NO_SHMEM = -9
    INVALID_STATE = -10
    BAD_RANGE = -11
    TIMEOUT = -12
    IO = -13
    DENIED_LOCKED = -14


class Eid(IntEnum):
    """Extension identifiers (a7)."""

    SET_TIMER = 0x00
    CONSOLE_PUTCHAR = 0x01
    CONSOLE_GETCHAR = 0x02
    CLEAR_IPI = 0x03
    SEND_IPI = 0x04
    REMOTE_FENCE_I = 0x05
    REMOTE_SFENCE_VMA = 0x06
    REMOTE_SFENCE_VMA_ASID = 0x07
    SHUTDOWN = 0x08
    BASE = 0x10
    TIME = 0x54494D45
    IPI = 0x735049
    RFENCE = 0x52464E43
    HSM = 0x48534D
    SRST = 0x53525354
    PMU = 0x504D55
    DBCN = 0x4442434E
    SUSP = 0x53555350
    CPPC = 0x43505043
    NACL = 0x4E41434C
    STA = 0x535441
    SSE = 0x535345
    FWFT = 0x46574654
    DBTR = 0x44425452
    MPXY = 0x4D505859


EXPERIMENTAL = (0x0800_0000, 0x08FF_FFFF)
VENDOR = (0x0900_0000, 0x09FF_FFFF)
FIRMWARE_SPECIFIC = (0x0A00_0000, 0x0AFF_FFFF)


class HartState(IntEnum):
    """HSM hart states."""

    STARTED = 0
    STOPPED = 1
    START_PENDING = 2
    STOP_PENDING = 3
    SUSPENDED = 4
    SUSPEND_PENDING = 5
    RESUME_PENDING = 6


class Implementation(IntEnum):
    """SBI implementation identifiers (Base extension)."""

    BBL = 0
    OPENSBI = 1
    XVISOR = 2
    KVM = 3
    RUSTSBI = 4
    DIOSIX = 5
    COFFER = 6
    XEN = 7
    POLARFIRE_HSS = 8
    COREBOOT = 9
    OREBOOT = 10
    BHYVE = 11


class Reset(IntEnum):
    """SRST reset types."""

    SHUTDOWN = 0
    COLD_REBOOT = 1
    WARM_REBOOT = 2


class Feature(IntEnum):
    """FWFT features defined by SBI v3.0."""

    MISALIGNED_EXC_DELEG = 0
    LANDING_PAD = 1
    SHADOW_STACK = 2
    DOUBLE_TRAP = 3
    PTE_AD_HW_UPDATING = 4
    POINTER_MASKING_PMLEN = 5


class FirmwareEvent(IntEnum):
    """PMU firmware events (event type 15)."""

    MISALIGNED_LOAD = 0
    MISALIGNED_STORE = 1
    ACCESS_LOAD = 2
    ACCESS_STORE = 3
    ILLEGAL_INSN = 4
    SET_TIMER = 5
    IPI_SENT = 6
    IPI_RECEIVED = 7
    FENCE_I_SENT = 8
    FENCE_I_RECEIVED = 9
    SFENCE_VMA_SENT = 10
    SFENCE_VMA_RECEIVED = 11
    SFENCE_VMA_ASID_SENT = 12
    SFENCE_VMA_ASID_RECEIVED = 13
    HFENCE_GVMA_SENT = 14
    HFENCE_GVMA_RECEIVED = 15
    HFENCE_GVMA_VMID_SENT = 16
    HFENCE_GVMA_VMID_RECEIVED = 17
    HFENCE_VVMA_SENT = 18
    HFENCE_VVMA_RECEIVED = 19
    HFENCE_VVMA_ASID_SENT = 20
    HFENCE_VVMA_ASID_RECEIVED = 21


def spec_version(major: int, minor: int) -> int:
    """Encode an SBI version as get_spec_version returns it: major in bits 30:24, minor in 23:0."""
    if not 0 <= major < 128 or not 0 <= minor < 1 << 24:
        raise ValueError(f"SBI version {major}.{minor} does not fit the encoding")
    return major << 24 | minor


# Flags of PMU: those of counter_config_matching, counter_start and counter_stop.
SKIP_MATCH, CLEAR_VALUE, AUTO_START, SET_UINH, SET_SINH = 1 << 0, 1 << 1, 1 << 2, 1 << 5, 1 << 6
SET_INIT_VALUE, INIT_SNAPSHOT = 1 << 0, 1 << 1
STOP_RESET, TAKE_SNAPSHOT = 1 << 0, 1 << 1

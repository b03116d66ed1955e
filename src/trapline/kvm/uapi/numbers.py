"""Numbers of KVM's interface (include/uapi/linux/kvm.h, arch/riscv/include/uapi/asm/kvm.h)."""

from __future__ import annotations

from enum import IntEnum

# Linux error numbers, the same on every host that runs this.
ENOENT, EINTR, EIO, EFAULT, EBUSY, EEXIST, EINVAL, EOPNOTSUPP = 2, 4, 5, 14, 16, 17, 22, 95
ENXIO, ENODEV = 6, 19
ERRNO_NAMES = {
    ENOENT: "ENOENT",
    EINTR: "EINTR",
    EIO: "EIO",
    EFAULT: "EFAULT",
    EBUSY: "EBUSY",
    EEXIST: "EEXIST",
    EINVAL: "EINVAL",
    EOPNOTSUPP: "EOPNOTSUPP",
    ENXIO: "ENXIO",
    ENODEV: "ENODEV",
}


class Exit(IntEnum):
    """kvm_run.exit_reason."""

    UNKNOWN = 0
    DEBUG = 4
    MMIO = 6
    INTR = 10
    SYSTEM_EVENT = 24
    RISCV_SBI = 35
    RISCV_CSR = 36


class SystemEvent(IntEnum):
    """kvm_run.system_event.type."""

    SHUTDOWN = 1
    RESET = 2


class MpState(IntEnum):
    """KVM_GET_MP_STATE and KVM_SET_MP_STATE."""

    RUNNABLE = 0
    INIT_RECEIVED = 2
    STOPPED = 5


KVM_INTERRUPT_SET = 0xFFFF_FFFF  # -1U
KVM_INTERRUPT_UNSET = 0xFFFF_FFFE  # -2U

KVM_GUESTDBG_ENABLE = 1 << 0

KVM_MEM_LOG_DIRTY_PAGES = 1 << 0
KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE = 1 << 0
KVM_DIRTY_LOG_INITIALLY_SET = 1 << 1

IRQ_VS_SOFT, IRQ_VS_TIMER, IRQ_VS_EXT = 2, 6, 10
IRQ_PMU_OVF = 13
VS_IRQS = (IRQ_VS_SOFT, IRQ_VS_TIMER, IRQ_VS_EXT, IRQ_PMU_OVF)

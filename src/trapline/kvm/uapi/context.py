"""What a vCPU shares with the VMM (kvm_run), and what KVM keeps of the guest while it is out."""

from __future__ import annotations

from typing import Annotated, ClassVar

from trapline.dataclass import dataclass, field
from trapline.kvm.uapi.numbers import Exit, SystemEvent
from trapline.kvm.vcpu_state import HartWord
from trapline.lang.state import Hart
from trapline.privilege.csr_numbers import CSR_BY_NAME
from trapline.session.state.plain_types import U64, Bits, Limits

# Fields of GuestCsrs and the CSRs that hold them while the vCPU is loaded; hideleg comes before vsie.
GUEST_CSRS = {
    name: CSR_BY_NAME[name]
    for name in "vsstatus vsie vstvec vsscratch vsepc vscause vstval hvip vsatp scounteren senvcfg".split()
}


@dataclass(frozen=True, slots=True)
class CpuTrap:
    """A trap as it arrived in HS-mode: struct kvm_cpu_trap."""

    scause: int
    sepc: int
    stval: int
    htval: int = 0
    htinst: int = 0

    @property
    def is_interrupt(self) -> bool:
        """Whether a host interrupt ended guest mode."""
        return bool(self.scause >> 63)

    @property
    def gpa(self) -> int:
        """The guest physical address of a guest page fault: htval holds it without its low two bits."""
        return self.htval << 2 | self.stval & 3


@dataclass(slots=True)
class MmioAccess:
    """kvm_run.mmio."""

    snapshot_types: ClassVar = {"length": Bits(4)}

    phys_addr: int = 0
    length: int = 0
    is_write: bool = False
    data: int = 0  # little endian; the VMM fills it for a read


@dataclass(slots=True)
class SbiForward:
    """kvm_run.riscv_sbi; the VMM fills `ret`."""

    snapshot_types: ClassVar = {"ret": Annotated[list[int], Limits(min_length=2, max_length=2)]}

    extension_id: int = 0
    function_id: int = 0
    args: tuple[int, ...] = (0, 0, 0, 0, 0, 0)
    ret: list[int] = field(default_factory=lambda: [0, 0])


@dataclass(slots=True)
class CsrAccess:
    """kvm_run.riscv_csr; the VMM fills `ret_value`."""

    csr_num: int = 0
    new_value: int = 0
    write_mask: int = 0
    ret_value: int = 0


@dataclass(slots=True)
class SystemEventExit:
    """kvm_run.system_event."""

    snapshot_types: ClassVar = {"data": tuple[U64, ...]}

    type: SystemEvent = SystemEvent.SHUTDOWN
    data: tuple[int, ...] = ()


@dataclass(slots=True)
class KvmRun:
    """The shared page of KVM_RUN."""

    exit_reason: Exit = Exit.UNKNOWN
    immediate_exit: bool = False
    mmio: MmioAccess = field(default_factory=MmioAccess)
    riscv_sbi: SbiForward = field(default_factory=SbiForward)
    riscv_csr: CsrAccess = field(default_factory=CsrAccess)
    system_event: SystemEventExit = field(default_factory=SystemEventExit)


@dataclass(slots=True)
class GuestCsrs:
    """The VS-level CSRs of a vCPU that is not loaded: struct kvm_vcpu_csr, in ONE_REG's order."""

    hart: Hart
    vsstatus: int = 0
    vstvec: int = 0
    vsscratch: int = 0
    vsepc: int = 0
    vscause: int = 0
    vstval: int = 0
    vsatp: int = 0
    scounteren: int = 7
    senvcfg: int = 0
    vsie = HartWord("kvm_vsie", int)  # the guest's sie, learnt at each exit
    hvip = HartWord("kvm_hvip", int)  # the interrupts that KVM injects

    def __post_init__(self) -> None:
        """Hosted exits use two of them: they are words of the hart's state."""
        self.hart.kvm_vsie = self.hart.kvm_hvip = 0


@dataclass(slots=True)
class VcpuConfig:
    """Values that are written when a vCPU is loaded: struct kvm_vcpu_config."""

    hedeleg: int = 0
    hideleg: int = 0
    henvcfg: int = 0
    hstateen0: int = 0

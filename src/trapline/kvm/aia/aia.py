"""AIA of a vCPU: its CSRs while it is out, those that trap, and the hart's guest external interrupts (aia.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from trapline.dataclass import dataclass, fields
from trapline.kvm.aia.aia_imsic import VcpuImsic
from trapline.kvm.uapi.numbers import EINVAL, ENOENT, IRQ_VS_EXT
from trapline.privilege import csr_numbers as csr
from trapline.privilege.causes import IRQ_SEI
from trapline.privilege.csr import csr_read, csr_write
from trapline.privilege.fields import HVICTL_IID_SHIFT, LCOFIP
from trapline.session.state.plain_types import U64

if TYPE_CHECKING:
    from trapline.kvm.vcpu import Vcpu

FEATURE: Final = "aia"
IRQCHIP_FEATURE: Final = "aia-irqchip"
IPRIO_FIRST, IPRIO_LAST, IMSIC_FIRST, IMSIC_LAST, SELECT_MASK = 0x30, 0x3F, 0x70, 0xFF, 0x1FF
# What `rmw` answers besides a value: the guest gets an illegal instruction, or the VMM gets the access.
ILLEGAL, TO_USER = -1, -2

# Byte of hviprio1 (0 to 7) or hviprio2 (8 to 15) with the priority number of a major interrupt.
_PRIORITY_BYTE = {0: 0, 1: 1, 4: 2, 5: 3, 8: 4, **{irq: irq - 8 for irq in range(13, 24)}}


@dataclass(slots=True)
class AiaCsrs:
    """struct kvm_riscv_aia_csr, in ONE_REG's order; the upper halves are for 32 bits."""

    siselect: int = 0
    iprio1: int = 0
    iprio2: int = 0
    sieh: int = 0
    siph: int = 0
    iprio1h: int = 0
    iprio2h: int = 0


AIA_CSRS = tuple(field.name for field in fields(AiaCsrs))
_LOADED = {"siselect": csr.VSISELECT, "iprio1": csr.HVIPRIO1, "iprio2": csr.HVIPRIO2}


class GuestLines:
    """The guest external interrupts of each hart and their owners (struct aia_hgei_control)."""

    snapshot_skips = ("count",)
    snapshot_types: ClassVar = {"_owned": set[tuple[U64, U64]]}

    def __init__(self, count: int) -> None:
        self.count = count
        self._owned: set[tuple[int, int]] = set()  # vCPU, which stands for its hart, and line

    def take(self, vcpu: Vcpu) -> int:
        """Take the first free line of the vCPU's hart; 0 if there is none."""
        for line in range(1, self.count + 1):
            if (vcpu.id, line) not in self._owned:
                self._owned.add((vcpu.id, line))
                return line
        return 0

    def give_back(self, vcpu: Vcpu, line: int) -> None:
        """The line is free again."""
        self._owned.discard((vcpu.id, line))


class VcpuAia:
    """The AIA context of a vCPU; `imsic` is there once the VM's AIA device is initialised."""

    def __init__(self, vcpu: Vcpu) -> None:
        self.vcpu = vcpu
        self.csrs = AiaCsrs()
        self.imsic: VcpuImsic | None = None
        self.available = bool(vcpu.hart.has_ssaia != 0 and vcpu.policy.has_feature(FEATURE) and not vcpu.vm.nested)
        vcpu.hart.kvm_aia = int(self.available)
        if self.available and vcpu.hart.has_sscofpmf != 0:
            vcpu.hart.call(csr_write, csr.HVIEN, LCOFIP)

    def reset(self) -> None:
        """kvm_riscv_vcpu_aia_reset."""
        self.csrs = AiaCsrs()
        if self.imsic is not None:
            self.imsic.reset()

    def load(self) -> None:
        """Write the CSRs, and see to the interrupt file."""
        if not self.available:
            return
        if self.imsic is not None:
            self.imsic.update()
        for field, number in _LOADED.items():
            self.vcpu.hart.call(csr_write, number, getattr(self.csrs, field))
        self.update_hvip()

    def put(self) -> None:
        """Read the CSRs back."""
        if self.available:
            for field, number in _LOADED.items():
                setattr(self.csrs, field, int(self.vcpu.hart.call(csr_read, number)))

    def update_hvip(self) -> None:
        """hvictl: IID 9 with IPRIO 1 while hvip holds an external interrupt, with 0 for none."""
        if self.available:
            pending = self.vcpu.csrs.hvip >> IRQ_VS_EXT & 1
            self.vcpu.hart.call(csr_write, csr.HVICTL, IRQ_SEI << HVICTL_IID_SHIFT | pending)

    def has_interrupts(self) -> bool:
        """Whether the guest file signals an interrupt that vsie enables."""
        return self.imsic is not None and bool(self.vcpu.csrs.vsie >> IRQ_SEI & 1) and self.imsic.has_interrupt()

    # --- accesses that trap ---
    def rmw(self, number: int, new: int, mask: int) -> int:
        """Emulate sireg or stopei: the old value, ILLEGAL or TO_USER."""
        if not self.available:
            return ILLEGAL
        if number == csr.STOPEI:
            return TO_USER if self.imsic is None else self.imsic.topei(mask)
        select = int(self.vcpu.hart.call(csr_read, csr.VSISELECT)) & SELECT_MASK
        if IPRIO_FIRST <= select <= IPRIO_LAST:
            return self._iprio(select, new, mask)
        if not IMSIC_FIRST <= select <= IMSIC_LAST or self.imsic is None:
            return TO_USER
        value = self.imsic.rmw(select, new, mask)
        return {-ENOENT: TO_USER, -EINVAL: ILLEGAL}.get(value, value)

    def _iprio(self, select: int, new: int, mask: int) -> int:
        """The priority numbers of eight interrupts, as far as hviprio1 and hviprio2 hold them."""
        if select & 1:
            return ILLEGAL
        call, old = self.vcpu.hart.call, 0
        numbers = int(call(csr_read, csr.HVIPRIO1)) | int(call(csr_read, csr.HVIPRIO2)) << 64
        places = {
            8 * n: 8 * at for n in range(8) if (at := _PRIORITY_BYTE.get(4 * (select - IPRIO_FIRST) + n)) is not None
        }
        for shift, at in places.items():
            old |= (numbers >> at & 0xFF) << shift
        if mask:
            wanted = old & ~mask | new & mask
            for shift, at in places.items():
                numbers = numbers & ~(0xFF << at) | (wanted >> shift & 0xFF) << at
            call(csr_write, csr.HVIPRIO1, numbers & (1 << 64) - 1)
            call(csr_write, csr.HVIPRIO2, numbers >> 64)
        return old

"""A vCPU's IMSIC: a file in software, or one of the hart's guest interrupt files (aia_imsic.c).

With a guest file (the VS-file) the guest's CSR accesses and MSIs are the hardware's business; KVM only
picks the file, maps its page and moves the state. Without one KVM emulates the registers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from trapline.kvm.uapi.numbers import EINVAL, ENODEV, ENOENT, IRQ_VS_EXT
from trapline.lang.state import Hart
from trapline.lang.state.words import IMSIC_WORDS
from trapline.lang.values import MASK64, U64
from trapline.machine.devices.imsic import PAGE, SETEIPNUM_BE, SETEIPNUM_LE
from trapline.privilege.fields import HSTATUS_VGEIN, HSTATUS_VGEIN_SHIFT
from trapline.privilege.imsic import (
    EIDELIVERY,
    EIE,
    EIP,
    EITHRESHOLD,
    FILE_GUEST,
    imsic_message,
    imsic_read,
    imsic_signal,
    imsic_write,
)
from trapline.session.state.plain_types import Below, Bits

if TYPE_CHECKING:
    from trapline.kvm.aia.aia_device import AiaDevice
    from trapline.kvm.vcpu import Vcpu

_MAX_ID = 2047


class SwFile:
    """The interrupt file that KVM emulates (struct imsic_mrif), with identities below `ids`."""

    snapshot_skips = ("ids",)
    snapshot_types: ClassVar = {"eidelivery": Bits(1), "eithreshold": Bits(11)}

    def __init__(self, ids: int) -> None:
        self.ids = ids
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.eidelivery = self.eithreshold = 0
        self.eip, self.eie = [0] * (self.ids // 64), [0] * (self.ids // 64)

    def topei(self) -> int:
        """The value of stopei."""
        limit = min(self.eithreshold, self.ids) if self.eithreshold else self.ids
        for word, (pending, enabled) in enumerate(zip(self.eip, self.eie, strict=True)):
            ready = pending & enabled
            if ready:
                identity = 64 * word + (ready & -ready).bit_length() - 1
                return identity << 16 | identity if identity < limit else 0
        return 0

    def claim(self) -> None:
        """The identity in topei is no longer pending."""
        identity = self.topei() >> 16
        if identity:
            self.eip[identity // 64] &= ~(1 << identity % 64)

    def rmw(self, select: int, new: int, mask: int) -> int:
        """Read a register and write the bits of `mask`; below 0 an errno."""
        if select == EIDELIVERY:
            old, self.eidelivery = self.eidelivery, _merge(self.eidelivery, new, mask & 1)
        elif select == EITHRESHOLD:
            old, self.eithreshold = self.eithreshold, _merge(self.eithreshold, new, mask & _MAX_ID)
        elif EIP <= select < EIE + 64:
            array, word = (self.eip if select < EIE else self.eie), (select & 63) // 2
            if select & 1 or word >= len(array):
                return -EINVAL
            old = array[word]
            array[word] = _merge(old, new, mask & ~1 if word == 0 else mask)
        else:
            return -ENOENT
        return old


def _merge(old: int, new: int, mask: int) -> int:
    return old & ~mask | new & mask


class VcpuImsic:
    """The IMSIC of one vCPU, at `address` in the guest."""

    snapshot_skips = ("address",)
    snapshot_types: ClassVar = {"vsfile": lambda imsic: Below(imsic.vcpu.vm.hgei.count + 1)}

    def __init__(self, device: AiaDevice, vcpu: Vcpu, address: int) -> None:
        self.device, self.vcpu, self.address = device, vcpu, address
        self.swfile = SwFile(device.ids + 1)
        self.vsfile = 0  # the guest external interrupt, 0 for none

    # --- which file ---
    def update(self) -> None:
        """Before the guest runs: take a VS-file if there is one, and let hstatus.VGEIN say which."""
        if self.device.emulates or self.vsfile:
            return
        self.vsfile = self.vcpu.vm.hgei.take(self.vcpu)
        if not self.vsfile:
            return
        hart, file = self.vcpu.hart, self._file
        for register in (EIDELIVERY, EITHRESHOLD):
            hart.call(imsic_write, file, register, 0)
        self.vcpu.vm.ioremap(self.address, self.vcpu.vm.vsfile_page(self.vcpu, self.vsfile))
        old = self.swfile
        for word in range(min(len(old.eip), IMSIC_WORDS)):
            hart.call(imsic_write, file, EIP + 2 * word, old.eip[word])
            hart.call(imsic_write, file, EIE + 2 * word, old.eie[word])
        hart.call(imsic_write, file, EITHRESHOLD, old.eithreshold)
        hart.call(imsic_write, file, EIDELIVERY, old.eidelivery)
        old.clear()
        self.vcpu.set_interrupt(IRQ_VS_EXT, level=False)
        self._select(self.vsfile)

    def release(self) -> None:
        """Give the VS-file back and keep its state in the software file."""
        if not self.vsfile:
            return
        hart, file, old = self.vcpu.hart, self._file, self.swfile
        self.vcpu.vm.iounmap(self.address)
        for word in range(min(len(old.eip), IMSIC_WORDS)):
            old.eip[word] |= _read(hart, file, EIP + 2 * word)
            old.eie[word] |= _read(hart, file, EIE + 2 * word)
            hart.call(imsic_write, file, EIP + 2 * word, 0)
            hart.call(imsic_write, file, EIE + 2 * word, 0)
        old.eidelivery, old.eithreshold = _read(hart, file, EIDELIVERY), _read(hart, file, EITHRESHOLD)
        hart.call(imsic_write, file, EIDELIVERY, 0)
        self.vcpu.vm.hgei.give_back(self.vcpu, self.vsfile)
        self.vsfile = 0
        self._select(0)
        self._update_external()

    def reset(self) -> None:
        """The vCPU is reset."""
        self.release()
        self.swfile.clear()
        self._update_external()

    @property
    def _file(self) -> int:
        return FILE_GUEST + self.vsfile - 1

    def _select(self, vgein: int) -> None:
        hart = self.vcpu.hart
        hart.guest_hstatus = int(hart.guest_hstatus) & ~HSTATUS_VGEIN | vgein << HSTATUS_VGEIN_SHIFT

    # --- interrupts ---
    def inject(self, guest_index: int, offset: int, identity: int) -> int:
        """An MSI to this vCPU's page."""
        if not identity or guest_index or offset not in (SETEIPNUM_LE, SETEIPNUM_BE):
            return -ENODEV
        if offset == SETEIPNUM_BE:
            identity = int.from_bytes(identity.to_bytes(4, "little"), "big")
        if identity >= self.swfile.ids:
            return -EINVAL
        if self.vsfile:
            self.vcpu.hart.call(imsic_message, self._file, identity)
        else:
            self.swfile.eip[identity // 64] |= 1 << identity % 64
            self._update_external()
        return 0

    def has_interrupt(self) -> bool:
        """Whether the VS-file signals one; the software file signals through hvip."""
        return bool(self.vsfile and int(self.vcpu.hart.hgeip) >> self.vsfile & 1)

    def _update_external(self) -> None:
        pending = bool(self.swfile.eidelivery and self.swfile.topei())
        self.vcpu.set_interrupt(IRQ_VS_EXT, level=pending)

    # --- registers ---
    def topei(self, mask: int) -> int:
        """Emulate stopei."""
        value = self.swfile.topei()
        if mask:
            self.swfile.claim()
            self._update_external()
        return value

    def rmw(self, select: int, new: int, mask: int) -> int:
        """Emulate sireg; below 0 an errno."""
        value = self.swfile.rmw(select, new, mask)
        if mask:
            self._update_external()
        return value

    def attribute(self, select: int, new: int | None = None) -> int:
        """Read or write a register for the VMM, wherever the file is; below 0 an errno."""
        check = SwFile(self.swfile.ids).rmw(select, 0, 0)
        if check < 0:
            return check
        if not self.vsfile:
            value = self.swfile.rmw(select, new or 0, 0 if new is None else MASK64)
            if new is not None:
                self._update_external()
            return value if new is None else 0
        if new is None:
            return _read(self.vcpu.hart, self._file, select)
        self.vcpu.hart.call(imsic_write, self._file, select, new)
        self.vcpu.hart.call(imsic_signal, self._file)
        return 0


def _read(hart: Hart, file: int, select: int) -> int:
    return int(imsic_read(hart, U64(file), U64(select)))


class ImsicPage:
    """The page of a vCPU's IMSIC as KVM answers it where no VS-file is mapped."""

    def __init__(self, device: AiaDevice, address: int) -> None:
        self._device, self._address = device, address

    def load(self, hart: Hart, offset: int, size: int) -> int:
        """Every register reads as zero."""
        return 0

    def store(self, hart: Hart, offset: int, size: int, value: int) -> None:
        """A guest's write."""
        if size == 4 and offset % 4 == 0:
            self._device.inject_msi(self._address + offset, value)


IMSIC_SIZE = PAGE

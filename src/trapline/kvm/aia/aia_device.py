"""KVM_DEV_TYPE_RISCV_AIA: the in-kernel APLIC and IMSICs of a VM, and their attributes (aia_device.c).

Every call answers as the ioctl does: 0 (or the value), or a negative errno.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trapline.kvm.aia.aia_imsic import IMSIC_SIZE, ImsicPage, VcpuImsic
from trapline.kvm.uapi.numbers import EBUSY, EINVAL, ENODEV, ENXIO
from trapline.lang.values import MASK64
from trapline.machine.devices.aplic import Aplic

if TYPE_CHECKING:
    from trapline.kvm.vm import Vm

GRP_CONFIG, GRP_ADDR, GRP_CTRL, GRP_APLIC, GRP_IMSIC = range(5)
CONFIG_MODE, CONFIG_IDS, CONFIG_SRCS, CONFIG_GROUP_BITS, CONFIG_GROUP_SHIFT, CONFIG_HART_BITS, CONFIG_GUEST_BITS = (
    range(7)
)
MODE_EMUL, MODE_HWACCEL, MODE_AUTO = range(3)
ADDR_APLIC, CTRL_INIT = 0, 0
IDS_MIN, IDS_MAX, SRCS_MAX = 63, 2048, 1024
APLIC_SIZE, APLIC_ALIGN = 0x4000, 0x1000
HOST_IDS = 256  # identities of the host's guest files, and 0
_LIMITS = {
    CONFIG_GROUP_BITS: (0, 8),
    CONFIG_GROUP_SHIFT: (24, 56),
    CONFIG_HART_BITS: (0, 16),
    CONFIG_GUEST_BITS: (0, 8),
}
_PAGE_SHIFT = 12


def addr_imsic(vcpu: int) -> int:
    """KVM_DEV_RISCV_AIA_ADDR_IMSIC."""
    return 1 + vcpu


def imsic_attr(vcpu: int, select: int) -> int:
    """KVM_DEV_RISCV_AIA_IMSIC_MKATTR."""
    return vcpu << 12 | select


class AiaDevice:
    """The device of one VM. `initialized` is set by CTRL_INIT; until then nothing exists in the guest."""

    snapshot_skips = ("initialized", "max_ids", "_config", "_hart_index", "_imsic_addresses", "_aplic_address")

    def __init__(self, vm: Vm) -> None:
        self.vm = vm
        self.initialized = False
        self.max_ids = HOST_IDS if vm.host_imsic else IDS_MAX
        self._config = {
            CONFIG_MODE: MODE_AUTO if vm.hgei.count else MODE_EMUL,
            CONFIG_IDS: self.max_ids - 1,
            CONFIG_SRCS: 0,
            CONFIG_GROUP_BITS: 0,
            CONFIG_GROUP_SHIFT: 24,
            CONFIG_HART_BITS: 0,
            CONFIG_GUEST_BITS: 0,
        }
        self._aplic_address = MASK64
        self._imsic_addresses = [MASK64] * len(vm.vcpus)
        self._hart_index = list(range(len(vm.vcpus)))
        self.aplic: Aplic | None = None

    @property
    def ids(self) -> int:
        """The highest identity."""
        return self._config[CONFIG_IDS]

    @property
    def emulates(self) -> bool:
        """Whether the VMM asked for emulation."""
        return self._config[CONFIG_MODE] == MODE_EMUL

    # --- snapshots ---
    def arrangement(self) -> list[tuple[int, int, int]]:
        """Return what a VMM has to set, (group, attribute, value), for a device like this one."""
        rows = [(GRP_CONFIG, attr, value) for attr, value in self._config.items()]
        addresses = [self._aplic_address, *self._imsic_addresses]
        rows += [(GRP_ADDR, attr, address) for attr, address in enumerate(addresses) if address != MASK64]
        return [*rows, (GRP_CTRL, CTRL_INIT, 0)] if self.initialized else rows

    # --- attributes ---
    def has_attr(self, group: int, attr: int) -> int:
        """KVM_HAS_DEVICE_ATTR."""
        if group == GRP_CONFIG and attr in self._config:
            return 0
        if group == GRP_ADDR and attr < addr_imsic(len(self.vm.vcpus)):
            return 0
        if group == GRP_CTRL and attr == CTRL_INIT:
            return 0
        if group == GRP_APLIC:
            return 0 if self._aplic_register(attr) else -ENODEV if self.aplic is None else -ENXIO
        if group == GRP_IMSIC:
            return min(0, self._imsic_attr(attr, None))
        return -ENXIO

    def get_attr(self, group: int, attr: int) -> int:
        """KVM_GET_DEVICE_ATTR; the value, or below 0 an errno."""
        if group == GRP_CONFIG:
            return self._config.get(attr, -ENXIO)
        if group == GRP_ADDR and attr < addr_imsic(len(self.vm.vcpus)):
            return self._aplic_address if attr == ADDR_APLIC else self._imsic_addresses[attr - 1]
        if group == GRP_APLIC:
            if self.aplic is None:
                return -ENODEV
            return self.aplic.load(self.vm.vcpus[0].hart, attr, 4) if self._aplic_register(attr) else -ENXIO
        return self._imsic_attr(attr, None) if group == GRP_IMSIC else -ENXIO

    def set_attr(self, group: int, attr: int, value: int = 0) -> int:
        """KVM_SET_DEVICE_ATTR."""
        if group == GRP_CONFIG:
            return self._set_config(attr, value)
        if group == GRP_ADDR and attr < addr_imsic(len(self.vm.vcpus)):
            return self._set_address(attr, value)
        if group == GRP_CTRL and attr == CTRL_INIT:
            return self._init()
        if group == GRP_APLIC:
            if self.aplic is None:
                return -ENODEV
            if not self._aplic_register(attr):
                return -ENXIO
            self.aplic.store(self.vm.vcpus[0].hart, attr, 4, value)
            return 0
        return self._imsic_attr(attr, value) if group == GRP_IMSIC else -ENXIO

    def _aplic_register(self, offset: int) -> bool:
        return self.aplic is not None and offset % 4 == 0 and 0 <= offset < APLIC_SIZE

    def _imsic_attr(self, attr: int, value: int | None) -> int:
        number, select = attr >> 12, attr & 0xFFF
        if not self.initialized or number >= len(self.vm.vcpus):
            return -ENODEV
        imsic = self.vm.vcpus[number].aia.imsic
        return -ENODEV if imsic is None else imsic.attribute(select, value)

    def _set_config(self, attr: int, value: int) -> int:
        if self.initialized:
            return -EBUSY
        if attr not in self._config:
            return -ENXIO
        if attr == CONFIG_MODE:
            good = value == MODE_EMUL or (value in (MODE_HWACCEL, MODE_AUTO) and self.vm.hgei.count > 0)
        elif attr == CONFIG_IDS:
            good = IDS_MIN <= value < min(IDS_MAX, self.max_ids) and value & IDS_MIN == IDS_MIN
        elif attr == CONFIG_SRCS:
            good = value < min(SRCS_MAX, self.max_ids)
        else:
            low, high = _LIMITS[attr]
            good = low <= value < high
        if not good:
            return -EINVAL
        self._config[attr] = value
        return 0

    def _set_address(self, attr: int, address: int) -> int:
        if self.initialized:
            return -EBUSY
        if address % APLIC_ALIGN:
            return -EINVAL
        if attr == ADDR_APLIC:
            self._aplic_address = address
        else:
            self._imsic_addresses[attr - 1] = address
        return 0

    # --- initialisation ---
    def _init(self) -> int:
        if self.initialized:
            return -EBUSY
        sources = self._config[CONFIG_SRCS]
        if self.ids < sources or (sources and self._aplic_address == MASK64):
            return -EINVAL
        if MASK64 in self._imsic_addresses or len({self._base(a) for a in self._imsic_addresses}) > 1:
            return -EINVAL
        if sources:
            self.aplic = Aplic(sources, send=self._send, own_addresses=False)
            self.vm.io_bus.register(self._aplic_address, APLIC_SIZE, self.aplic)
        self.initialized = True
        for vcpu, address in zip(self.vm.vcpus, self._imsic_addresses, strict=True):
            self._hart_index[vcpu.id] = self._index(address)
            vcpu.aia.imsic = VcpuImsic(self, vcpu, address)
            self.vm.io_bus.register(address, IMSIC_SIZE, ImsicPage(self, address))
        return 0

    def _base(self, address: int) -> int:
        """The part of an IMSIC's address that all have in common."""
        config = self._config
        mask = (1 << config[CONFIG_HART_BITS] + config[CONFIG_GUEST_BITS] + _PAGE_SHIFT) - 1
        mask |= (1 << config[CONFIG_GROUP_BITS]) - 1 << config[CONFIG_GROUP_SHIFT]
        return address & ~mask

    def _index(self, address: int) -> int:
        """The hart index that an IMSIC's address stands for."""
        config = self._config
        hart = address >> config[CONFIG_GUEST_BITS] + _PAGE_SHIFT & (1 << config[CONFIG_HART_BITS]) - 1
        group = address >> config[CONFIG_GROUP_SHIFT] & (1 << config[CONFIG_GROUP_BITS]) - 1
        return group << config[CONFIG_HART_BITS] | hart

    # --- interrupts ---
    def inject_irq(self, source: int, *, level: bool) -> int:
        """KVM_IRQ_LINE: a wire of the APLIC."""
        if not self.initialized:
            return -EBUSY
        if self.aplic is None or not 0 < source <= self.aplic.sources:
            return -ENODEV
        self.aplic.set_level(source, level)
        return 0

    def inject_msi(self, address: int, data: int) -> int:
        """KVM_SIGNAL_MSI: a write to a guest physical address."""
        if not self.initialized:
            return -EBUSY
        guests = (1 << self._config[CONFIG_GUEST_BITS]) - 1
        page = address >> _PAGE_SHIFT
        for vcpu, base in zip(self.vm.vcpus, self._imsic_addresses, strict=True):
            if page & ~guests == base >> _PAGE_SHIFT and vcpu.aia.imsic is not None:
                return vcpu.aia.imsic.inject(page & guests, address & 0xFFF, data & 0xFFFF_FFFF)
        return 0

    def _send(self, domain: Aplic, hart_index: int, guest: int, identity: int) -> None:
        for vcpu in self.vm.vcpus:
            if self._hart_index[vcpu.id] == hart_index and vcpu.aia.imsic is not None:
                vcpu.aia.imsic.inject(guest, 0, identity)
                return

"""A guest's interrupt controllers, as the VMM sets them up: PLIC or APLIC of its own, or KVM's AIA device."""

from __future__ import annotations

from collections.abc import Callable

from trapline.kvm.aia import aia_device as kvm_aia
from trapline.kvm.uapi.numbers import KVM_INTERRUPT_SET, KVM_INTERRUPT_UNSET
from trapline.kvm.vcpu import Vcpu
from trapline.kvm.vm import Vm
from trapline.lang.devices import ASK_SOURCE, DeviceState
from trapline.machine import memory_map as mm
from trapline.machine.aia import Aia
from trapline.machine.devices.aplic import Aplic
from trapline.machine.devices.imsic import PAGE
from trapline.machine.devices.plic import Plic
from trapline.session.regions import Device

MODES = {"emul": kvm_aia.MODE_EMUL, "hwaccel": kvm_aia.MODE_HWACCEL, "auto": kvm_aia.MODE_AUTO}


class Controllers:
    """`set_level` is what a device's wire does; `devices` are those that the VMM itself emulates."""

    def __init__(self, vm: Vm, aia: Aia) -> None:
        self.io = DeviceState()
        self.io.answers[ASK_SOURCE] = lambda value: self.set_level(value >> 1, value & 1 != 0)
        self.devices: list[tuple[mm.Window, Device]] = []
        self.taken: list[mm.Window] = []
        if aia.imsic:
            self._vm = vm
            self._create_in_kernel(vm, aia)
            self.set_level: Callable[[int, bool], None] = self._irq_line
            return
        wires = [_external(vcpu) for vcpu in vm.vcpus]
        if aia.aplic:
            aplic = Aplic(mm.APLIC_SOURCES, targets=wires)
            self.devices.append((mm.APLIC_S, aplic))
            self.set_level = aplic.set_level
        else:
            plic = Plic([vcpu.hart for vcpu in vm.vcpus], self.io, mm.PLIC_SOURCES, wires)
            self.devices.append((mm.PLIC, plic))
            self.set_level = plic.set_level

    def _create_in_kernel(self, vm: Vm, aia: Aia) -> None:
        device = vm.create_aia()
        count = len(vm.vcpus)
        if aia.mode:
            _require(device.set_attr(kvm_aia.GRP_CONFIG, kvm_aia.CONFIG_MODE, MODES[aia.mode]), f"mode={aia.mode}", aia)
        for attribute, value in (
            (kvm_aia.CONFIG_IDS, kvm_aia.HOST_IDS - 1),
            (kvm_aia.CONFIG_SRCS, mm.APLIC_SOURCES),
            (kvm_aia.CONFIG_HART_BITS, (count - 1).bit_length()),
        ):
            _require(device.set_attr(kvm_aia.GRP_CONFIG, attribute, value), "its configuration", aia)
        _require(device.set_attr(kvm_aia.GRP_ADDR, kvm_aia.ADDR_APLIC, mm.APLIC_S.base), "the APLIC's address", aia)
        for number in range(count):
            address = mm.IMSIC_S_BASE + number * PAGE
            _require(device.set_attr(kvm_aia.GRP_ADDR, kvm_aia.addr_imsic(number), address), "an IMSIC's address", aia)
        _require(device.set_attr(kvm_aia.GRP_CTRL, kvm_aia.CTRL_INIT), "its initialisation", aia)
        self.taken = [mm.APLIC_S, mm.Window(mm.IMSIC_S_BASE, count * PAGE)]

    def _irq_line(self, source: int, level: bool) -> None:
        if self._vm.aia is not None:
            self._vm.aia.inject_irq(source, level=level)


def _require(answer: int, what: str, aia: Aia) -> None:
    if answer:
        more = "" if aia.guests else " (the harts have no guest interrupt files: add guests=N)"
        raise ValueError(f"aia: KVM refuses {what}: {answer}{more}")


def _external(vcpu: Vcpu) -> Callable[[bool], None]:
    return lambda level: _drive(vcpu, level)


def _drive(vcpu: Vcpu, level: bool) -> None:
    vcpu.interrupt(KVM_INTERRUPT_SET if level else KVM_INTERRUPT_UNSET)

"""The devices that the VMM gives a guest, and what happens where there is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from trapline.dataclass import dataclass, field
from trapline.kvm.vcpu import Vcpu
from trapline.lang.state import Hart
from trapline.machine import memory_map as mm
from trapline.machine.devices.rtc import Rtc
from trapline.machine.devices.test_finisher import TestFinisher
from trapline.machine.devices.uart import Uart
from trapline.machine.virtio.bus import VirtioBus
from trapline.people import times
from trapline.session.regions import Device
from trapline.session.state.plain_types import U64
from trapline.vmm.interrupts import Controllers

MOST_UNASSIGNED = 64  # addresses that are named
NAMES = {
    mm.UART.base: "the serial port",
    mm.PLIC.base: "the PLIC",
    mm.APLIC_S.base: "the APLIC",
    mm.TEST_FINISHER.base: "the test finisher",
    mm.RTC.base: "the clock",
    mm.VIRTIO.base: "a virtio device",
}


@dataclass(slots=True)
class Unassigned:
    """Accesses to addresses without slot and device: reads give zero, writes vanish, as in other VMMs.

    Unlike there, the first addresses are remembered, so that the result can say so.
    """

    snapshot_types: ClassVar = {"accesses": dict[tuple[U64, U64, bool], U64]}
    accesses: dict[tuple[int, int, bool], int] = field(default_factory=dict)
    others: int = 0

    def note(self, gpa: int, size: int, *, write: bool) -> None:
        """Count one access."""
        key = (gpa, size, write)
        if key in self.accesses or len(self.accesses) < MOST_UNASSIGNED:
            self.accesses[key] = self.accesses.get(key, 0) + 1
        else:
            self.others += 1

    def since(self, earlier: Unassigned) -> Unassigned:
        """What has come after `earlier`, a copy of this."""
        moved = {key: count - earlier.accesses.get(key, 0) for key, count in self.accesses.items()}
        return Unassigned({key: count for key, count in moved.items() if count}, self.others - earlier.others)

    def copy(self) -> Unassigned:
        """As it is now."""
        return Unassigned(dict(self.accesses), self.others)

    def describe(self) -> list[str]:
        """One line for each address and width, and one for all others."""
        found = [
            f"{'write' if write else 'read'} of {size} bytes at {gpa:#x}, where no device is: {times(count)}"
            for (gpa, size, write), count in sorted(self.accesses.items())
        ]
        return (
            [*found, f"accesses to other addresses where no device is: {times(self.others)}"] if self.others else found
        )


class GuestDevices:
    """UART, interrupt controller, test finisher, clock and virtio windows at the addresses of QEMU's `virt`."""

    snapshot_skips = ("_in_kernel", "_ranges")

    def __init__(
        self,
        hart: Hart,
        controllers: Controllers,
        timebase: int,
        output: Callable[[bytes], None],
        finish: Callable[[Hart, int], None],
        reset: Callable[[Hart], None],
        virtio: VirtioBus,
    ) -> None:
        self.uart = Uart(hart, controllers.io, output)
        self.virtio = virtio
        self.unassigned = Unassigned()
        self._in_kernel = controllers.taken
        self._devices: list[tuple[mm.Window, Device]] = [
            (mm.UART, self.uart),
            *controllers.devices,
            (mm.TEST_FINISHER, TestFinisher(finish, reset)),
            (mm.RTC, Rtc(controllers.io, timebase)),
            (mm.VIRTIO, self.virtio),
        ]
        self._ranges = [(window.base, window.end, device) for window, device in self._devices]

    def add(self, window: mm.Window, device: Device) -> None:
        """Give the guest one more (then `Guest.tell_devices`)."""
        self._devices.append((window, device))
        self._ranges.append((window.base, window.end, device))

    def windows(self) -> list[mm.Window]:
        """Return where the devices are."""
        return [*(window for window, _ in self._devices), *self._in_kernel]

    def name_at(self, gpa: int) -> str | None:
        """Return what is at a guest physical address, in words; None if no device is."""
        for window, device in self._devices:
            if window.base <= gpa < window.end:
                return NAMES.get(window.base, type(device).__name__)
        return "an interrupt controller of KVM's" if any(w.base <= gpa < w.end for w in self._in_kernel) else None

    def access(self, vcpu: Vcpu) -> None:
        """Answer KVM_EXIT_MMIO."""
        mmio = vcpu.kvm_run.mmio
        answer = self.serve(vcpu, mmio.phys_addr, mmio.length, mmio.is_write, mmio.data)
        if not mmio.is_write:
            mmio.data = answer

    def serve(self, vcpu: Vcpu, gpa: int, size: int, write: bool, data: int) -> int:
        """Do an access of the guest; return what a load gives."""
        for base, end, device in self._ranges:
            if base <= gpa and gpa + size <= end:
                if not write:
                    return device.load(vcpu.hart, gpa - base, size)
                device.store(vcpu.hart, gpa - base, size, data)
                return 0
        self.unassigned.note(gpa, size, write=write)
        return 0

    def served(self) -> list[tuple[int, int, Device]]:
        """Return the addresses of the devices whose accesses never end a run."""
        return [(w.base, w.end, device) for w, device in self._devices if not isinstance(device, TestFinisher)]

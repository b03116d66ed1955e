"""Devices inside KVM (ioeventfd and the like): MMIO that never reaches the VMM."""

from __future__ import annotations

from trapline.session.regions import Device


class IoBus:
    """KVM_MMIO_BUS of a VM."""

    def __init__(self) -> None:
        self._devices: list[tuple[int, int, Device]] = []

    def register(self, gpa: int, size: int, device: Device) -> None:
        """Put a device at [gpa, gpa + size); ValueError if something is there."""
        for base, length, _ in self._devices:
            if gpa < base + length and base < gpa + size:
                raise ValueError(f"in-kernel device at {gpa:#x} overlaps the one at {base:#x}")
        self._devices.append((gpa, size, device))

    def __len__(self) -> int:
        """Return how many devices there are."""
        return len(self._devices)

    def find(self, gpa: int, length: int) -> tuple[int, Device] | None:
        """Return the base and the device that takes the whole access."""
        for base, size, device in self._devices:
            if base <= gpa and gpa + length <= base + size:
                return base, device
        return None

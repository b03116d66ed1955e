"""The guest's memory as a loader sees it: guest physical addresses, written through the VMM's mapping."""

from __future__ import annotations

from trapline.kvm.slots import SlotKind
from trapline.kvm.vm import Vm


class GuestMemory:
    """machine.image.Memory over the slots of a VM."""

    def __init__(self, vm: Vm) -> None:
        self._vm = vm

    def view(self, address: int, size: int) -> memoryview:
        """Return a copy of guest memory; ValueError if it is not all in one slot."""
        return memoryview(self._vm.read_memory(address, size))

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Copy bytes into the guest."""
        self._vm.write_memory(address, data)

    def ram_ranges(self) -> list[tuple[int, int]]:
        """Return the slots that hold memory."""
        return [(s.gpa, s.size) for s in self._vm.slots if s.kind is not SlotKind.HOLE]

"""The guest's memory as a loader sees it: guest physical addresses, written through the VMM's mapping."""

from __future__ import annotations

from collections.abc import Callable

from trapline.kvm.uapi.slots import SlotKind
from trapline.kvm.vm import Vm


class GuestMemory:
    """What loaders (machine.load.image.Memory) and devices (virtio's DmaMemory) need, over the slots of a VM."""

    def __init__(self, vm: Vm) -> None:
        self._vm = vm

    def view(self, address: int, size: int, *, write: bool = False) -> memoryview:
        """Return guest memory; ValueError if it is not all in one slot, or not writable for `write`."""
        if write and (slot := self._vm.slots.find(address)) is not None and not slot.writable:
            raise ValueError(f"{slot.describe()} is read only")
        return self._vm.memory_view(address, size, write=write)

    def written(self, address: int, size: int) -> None:
        """Someone wrote through a view: forget code decoded from there."""
        self._vm.memory_written(address, size)

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Copy bytes into the guest."""
        self._vm.write_memory(address, data)

    def write_by(self, address: int, size: int, fill: Callable[[memoryview], None]) -> None:
        """Let somebody else copy bytes in."""
        view = self._vm.memory_view(address, size, write=True)
        try:
            fill(view)
        finally:
            self._vm.memory_written(address, size)

    def ram_ranges(self) -> list[tuple[int, int]]:
        """Return the slots that hold memory."""
        return [(s.gpa, s.size) for s in self._vm.slots if s.kind not in (SlotKind.HOLE, SlotKind.NONE)]

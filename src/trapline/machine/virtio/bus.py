"""The eight windows of QEMU's `virt` board at which virtio devices sit, each with an interrupt line of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trapline.lang.state import Hart
from trapline.machine import memory_map as mm
from trapline.machine.virtio import numbers as n
from trapline.machine.virtio.device import VirtioDevice
from trapline.machine.virtio.memory import DmaMemory
from trapline.machine.virtio.mmio import VirtioMmio
from trapline.machine.virtio.turn import LENGTH

_BETWEEN_TURNS = 1000  # ticks of the harts between two turns of a device that has more to do
_EMPTY = {n.MAGIC_VALUE: n.MAGIC, n.VERSION: n.MMIO_VERSION, n.DEVICE_ID: n.ID_NONE, n.VENDOR_ID: n.VENDOR}


class VirtioBus:
    """All windows as one device region; `set_level(irq, level)` drives the interrupt controller.

    A device whose turn was too short for its queues has the next one at the tick `due`: whoever schedules the harts
    calls `tick` then, and not later. `on_pause` hears, with the hart whose access it was, that there is a new one, or
    that devices have done as much as a long turn (`tired`). `stopping` says that the run is to end, which ends a turn.
    """

    def __init__(
        self,
        memory: DmaMemory,
        set_level: Callable[[int, bool], None],
        *,
        now: Callable[[], int] = lambda: 0,
        on_pause: Callable[[Hart], None] = lambda hart: None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._memory, self._set_level = memory, set_level
        self._now, self._on_pause, self._stopping = now, on_pause, stopping
        self.slots: list[VirtioMmio] = []
        self.due: int | None = None
        self.tired = False
        self._spent = 0  # by devices since they were last tired

    def add(self, device: VirtioDevice) -> VirtioMmio:
        """Put a device into the next free window; ValueError if there is none."""
        if len(self.slots) >= mm.VIRTIO_SLOTS:
            raise ValueError(f"more than {mm.VIRTIO_SLOTS} virtio devices: no window is free for {device.name}")
        irq = mm.VIRTIO_IRQ + len(self.slots)
        slot = VirtioMmio(device, self._memory, lambda level: self._set_level(irq, level), self._later, self._count)
        device.turn.stopping = self._stopping
        self.slots.append(slot)
        return slot

    def load(self, hart: Hart, offset: int, size: int) -> int:
        """Read a register of the window that holds `offset`; an empty one says so."""
        index, register = divmod(offset, mm.VIRTIO_STRIDE)
        if index < len(self.slots):
            return self.slots[index].load(hart, register, size)
        return _EMPTY.get(register, 0) if size == 4 else 0

    def store(self, hart: Hart, offset: int, size: int, value: int) -> None:
        """Write a register of the window that holds `offset`."""
        index, register = divmod(offset, mm.VIRTIO_STRIDE)
        if index < len(self.slots):
            before = self.due
            self.slots[index].store(hart, register, size, value)
            if self.tired or self.due is not before:
                self._on_pause(hart)

    # --- turns ---
    def _later(self) -> None:
        if self.due is None:
            self.due = self._now() + _BETWEEN_TURNS

    def _count(self, spent: int) -> None:
        self._spent += spent
        if self._spent >= LENGTH:
            self._spent, self.tired = 0, True

    def tick(self, now: int) -> bool:
        """Give devices that wait for a turn the next, if it is due; return whether they have done much lately."""
        tired, self.tired = self.tired, False
        if self.due is None or now < self.due:
            return tired
        self.due = None
        for slot in self.slots:
            slot.resume()
        return True

    # --- the world outside ---
    @property
    def live(self) -> bool:
        """Whether a device waits for the world outside."""
        return any(slot.device.live for slot in self.slots)

    def descriptors(self) -> list[Any]:
        """Return what to wait on while the machine idles."""
        return [d for slot in self.slots for d in slot.device.descriptors()]

    def poll(self) -> None:
        """Let every device take what has arrived from outside."""
        for slot in self.slots:
            slot.device.poll()

    def failures(self) -> list[str]:
        """Return what drivers did wrong: why devices needed a reset, or still do."""
        return [f"{slot.failure} (the driver's mistake: NEEDS_RESET)" for slot in self.slots if slot.failure]

    def close(self) -> list[str]:
        """Give back files and sockets; return what of the devices' files on the host is not whole."""
        return [lost for slot in self.slots if (lost := slot.device.close())]

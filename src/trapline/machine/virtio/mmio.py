"""The MMIO transport, version 2 (Virtual I/O Device 1.2, 4.2): a device's registers, its status, its interrupt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar

from trapline.lang.state import Hart
from trapline.machine.virtio import numbers as n
from trapline.machine.virtio.device import VirtioDevice
from trapline.machine.virtio.memory import DmaMemory
from trapline.machine.virtio.queue import MalformedError, Queue
from trapline.session.state.plain_types import FIXED, U8, U32, Limits

_ADDRESSES = {
    base + 4 * half: (name, half)
    for base, name in ((n.QUEUE_DESC, "desc"), (n.QUEUE_DRIVER, "driver"), (n.QUEUE_DEVICE, "device"))
    for half in (0, 1)
}
_LOW = 0xFFFF_FFFF


class VirtioMmio:
    """One device's window. `interrupt(level)` follows its line; `later` hears of queues that wait for a turn, `spent`
    how long each turn was.
    """

    snapshot_types: ClassVar = {
        "offered": FIXED,
        "failure": str,
        "status": U8,
        "waiting": lambda window: set[Annotated[int, Limits(ge=0, lt=len(window.queues))]],
        **dict.fromkeys(("_device_sel", "_driver_sel", "_queue_sel", "interrupt_status"), U32),
    }

    def __init__(
        self,
        device: VirtioDevice,
        memory: DmaMemory,
        interrupt: Callable[[bool], None],
        later: Callable[[], None] = lambda: None,
        spent: Callable[[int], None] = lambda cost: None,
    ) -> None:
        self.device, self._memory, self._interrupt = device, memory, interrupt
        self._later, self._spent = later, spent
        self.offered = device.features | n.TRANSPORT_FEATURES
        self.queues = [Queue(index, size, device.turn) for index, size in enumerate(device.queue_sizes)]
        self.failure = ""  # why the device needs a reset
        self.waiting: set[int] = set()  # queues that go on in the device's next turn
        device.kick = self.serve
        self._clear()

    def _clear(self) -> None:
        self.status = self.interrupt_status = 0
        self.accepted = 0
        self.waiting.clear()
        self._device_sel = self._driver_sel = self._queue_sel = 0
        for queue in self.queues:
            queue.reset()

    def after_restore(self) -> None:
        """The rings of a snapshot lie elsewhere in this process."""
        for queue in self.queues:
            if queue.ready:
                queue.map(self._memory, queue.features)

    @property
    def negotiated(self) -> int:
        """The features that hold: none for a driver that never set FEATURES_OK."""
        return self.accepted if self.status & n.STATUS_FEATURES_OK else 0

    # --- registers ---
    def load(self, hart: Hart, offset: int, size: int) -> int:
        """Read a register, 32 bits wide; configuration has any width."""
        if offset >= n.CONFIG:
            at = offset - n.CONFIG
            return int.from_bytes(self.device.config()[at : at + size], "little")
        return self._load(offset) if size == 4 and offset % 4 == 0 else 0

    def store(self, hart: Hart, offset: int, size: int, value: int) -> None:
        """Write a register, 32 bits wide; configuration has any width."""
        if offset >= n.CONFIG:
            at = offset - n.CONFIG
            if at + size <= len(self.device.config()):
                self.device.write_config(at, (value & (1 << 8 * size) - 1).to_bytes(size, "little"))
        elif size == 4 and offset % 4 == 0:
            self._store(offset, value & _LOW)

    def _load(self, offset: int) -> int:
        queue = self.queues[self._queue_sel] if self._queue_sel < len(self.queues) else None
        match offset:
            case n.MAGIC_VALUE:
                return n.MAGIC
            case n.VERSION:
                return n.MMIO_VERSION
            case n.DEVICE_ID:
                return self.device.device_id
            case n.VENDOR_ID:
                return n.VENDOR
            case n.DEVICE_FEATURES:
                return self.offered >> 32 * self._device_sel & _LOW if self._device_sel < 2 else 0
            case n.QUEUE_SIZE_MAX:
                return queue.num_max if queue else 0
            case n.QUEUE_READY:
                return int(queue.ready) if queue else 0
            case n.INTERRUPT_STATUS:
                return self.interrupt_status
            case n.STATUS:
                return self.status
        # There is no shared memory: a region that does not exist has length and base of all ones.
        return _LOW if n.SHM_LEN <= offset < n.SHM_BASE + 8 else 0

    def _store(self, offset: int, value: int) -> None:
        match offset:
            case n.DEVICE_FEATURES_SEL:
                self._device_sel = value
            case n.DRIVER_FEATURES_SEL:
                self._driver_sel = value
            case n.DRIVER_FEATURES:
                self._accept(value)
            case n.QUEUE_SEL:
                self._queue_sel = value
            case n.QUEUE_NOTIFY:
                self.serve(value)
            case n.INTERRUPT_ACK:
                self.interrupt_status &= ~value
                self._interrupt(self.interrupt_status != 0)
            case n.STATUS:
                self._set_status(value)
            case _:
                self._store_queue(offset, value)

    def _accept(self, value: int) -> None:
        if self._driver_sel < 2 and not self.status & n.STATUS_FEATURES_OK:
            shift = 32 * self._driver_sel
            self.accepted = self.accepted & ~(_LOW << shift) | value << shift

    def _store_queue(self, offset: int, value: int) -> None:
        if self._queue_sel >= len(self.queues):
            return
        queue = self.queues[self._queue_sel]
        if offset == n.QUEUE_READY:
            self._set_ready(queue, ready=value & 1 != 0)
        elif queue.ready:
            return  # the driver must not change a queue in use
        elif offset == n.QUEUE_SIZE:
            queue.num = value
        elif offset in _ADDRESSES:
            name, half = _ADDRESSES[offset]
            old = getattr(queue, name)
            setattr(queue, name, old & ~(_LOW << 32 * half) | value << 32 * half)

    def _set_ready(self, queue: Queue, *, ready: bool) -> None:
        if not ready:
            queue.reset()
            return
        if queue.ready:
            return
        try:
            queue.map(self._memory, self.negotiated)
            queue.ready = True
        except MalformedError as error:
            self.fail(str(error))

    # --- life ---
    def _set_status(self, value: int) -> None:
        if value == 0:
            self.device.reset()
            self._clear()
            self._interrupt(False)
            return
        value |= self.status  # a driver must not clear a bit
        if value & n.STATUS_FEATURES_OK and not self.status & n.STATUS_FEATURES_OK:
            # Without VERSION_1, which a device may refuse (6.1), go on as QEMU does: with the legacy headers.
            if self.accepted & ~self.offered:
                value &= ~n.STATUS_FEATURES_OK
        started = value & n.STATUS_DRIVER_OK and not self.status & n.STATUS_DRIVER_OK
        self.status = value & 0xFF
        if started:
            self.device.start(self.negotiated)
            for queue in self.queues:
                self.serve(queue.index)

    def serve(self, index: int) -> None:
        """Let the device work off a queue for one turn, and interrupt the driver if it wants that."""
        running = self.status & (n.STATUS_DRIVER_OK | n.STATUS_NEEDS_RESET | n.STATUS_FAILED) == n.STATUS_DRIVER_OK
        if not running or index >= len(self.queues) or not self.queues[index].ready:
            return
        queue = self.queues[index]
        self.waiting.discard(index)
        queue.unfinished = False
        first = self.device.turn.begin()
        try:
            self.device.serve(queue)
        except MalformedError as error:
            self.fail(str(error))
            return
        finally:
            if first:
                self._spent(self.device.turn.end())
        if queue.unfinished:
            self.waiting.add(index)
            self._later()
        if queue.ready and queue.wants_interrupt():
            self._raise(n.INTERRUPT_USED)

    def resume(self) -> None:
        """The next turn: go on with the queues that wait for it."""
        waiting = sorted(self.waiting)
        self.waiting.clear()
        for index in waiting:
            self.serve(index)

    def fail(self, why: str) -> None:
        """The driver broke a rule: stop until it resets the device, and tell it so (2.1.2)."""
        self.failure = f"{self.device.name}: {why}"
        self.status |= n.STATUS_NEEDS_RESET
        if self.status & n.STATUS_DRIVER_OK:
            self._raise(n.INTERRUPT_CONFIG)

    def _raise(self, bits: int) -> None:
        self.interrupt_status |= bits
        self._interrupt(True)

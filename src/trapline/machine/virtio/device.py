"""What every virtio device offers to the transport in front of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from trapline.machine.virtio.queue import Queue
from trapline.machine.virtio.turn import Turn


class VirtioDevice:
    """A device without its registers. Subclasses fill in the type, the features and `serve`."""

    device_id = 0
    name = "device"
    features = 0  # those of the device type
    queue_sizes: Sequence[int] = ()

    def __init__(self) -> None:
        # Set by the transport: serve a queue now, if the driver has set it up.
        self.kick: Callable[[int], None] = lambda index: None
        self.turn = Turn()

    def config(self) -> bytes:
        """Return the device-specific configuration."""
        return b""

    def write_config(self, offset: int, data: bytes) -> None:
        """The driver writes configuration; most devices have none to write."""

    def start(self, features: int) -> None:
        """The driver is ready, with these features."""

    def reset(self) -> None:
        """Forget everything that the driver set up."""

    def serve(self, queue: Queue) -> None:
        """Work off a queue, until `pop` gives nothing: none is left, or the turn is over."""

    # --- the world outside ---
    @property
    def live(self) -> bool:
        """Whether something from outside may arrive at any time, so that an idle machine waits in real time."""
        return False

    def descriptors(self) -> list[Any]:
        """Return what to wait on (select) while the machine idles."""
        return []

    def poll(self) -> None:
        """Take what has arrived from outside by now."""

    def close(self) -> str:
        """Give back files and sockets; return which file is not whole, and why."""
        return ""

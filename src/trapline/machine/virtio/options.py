"""The devices that a user asked for, as written on the command line, and making them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from trapline.dataclass import dataclass

if TYPE_CHECKING:
    from trapline.machine.virtio.bus import VirtioBus
    from trapline.machine.virtio.console import ConsoleDevice

CONSOLES = ("serial", "virtio")


@dataclass(frozen=True, slots=True)
class VirtioOptions:
    """`--drive --net --rng --share --console`, in the order in which they get their windows."""

    drive: tuple[str, ...] = ()
    net: str = "none"
    rng: bool = False
    share: tuple[str, ...] = ()
    console: str = "serial"

    @property
    def changes_files(self) -> bool:
        """Whether a run may change files that the next run reads."""
        from trapline.machine.virtio.drive import parse_drive
        from trapline.machine.virtio.share import parse_share

        drives = [parse_drive(text) for text in self.drive]
        shares = [parse_share(text) for text in self.share]
        return any(not d.read_only and not d.snapshot for d in drives) or any(not s.read_only for s in shares)

    def cannot_go_back(self) -> str:
        """What of this leaves the machine, so that no checkpoint undoes it; "" if nothing does."""
        from trapline.machine.virtio.drive import parse_drive

        for text in self.drive:
            drive = parse_drive(text)
            if not drive.read_only and not drive.snapshot:
                return f"the drive {str(drive.file)!r}, whose image is written (give it ,snapshot or ,ro)"
        return "a network" if self.net != "none" else "a share" if self.share else ""

    def check(self) -> None:
        """Read every text, open no file; ValueError says what is wrong."""
        from trapline.machine.virtio.drive import parse_drive
        from trapline.machine.virtio.network import parse_net
        from trapline.machine.virtio.share import parse_share

        for text in self.drive:
            parse_drive(text)
        for number, text in enumerate(self.share):
            parse_share(text, number)
        parse_net(self.net)


NO_VIRTIO = VirtioOptions()


def add_devices(
    bus: VirtioBus, options: VirtioOptions, output: Callable[[bytes], None], now: Callable[[], int]
) -> ConsoleDevice | None:
    """Make the devices; return the console if there is one. ValueError says what is wrong.

    `output` gets what the guest writes to the console; `now` is the machine's time in nanoseconds.
    """
    if options == NO_VIRTIO:
        return None  # the commonest machine loads none of what follows
    if options.console not in CONSOLES:
        raise ValueError(f"console {options.console!r}: serial or virtio")
    return _add_devices(bus, options, output, now)


def _add_devices(
    bus: VirtioBus, options: VirtioOptions, output: Callable[[bytes], None], now: Callable[[], int]
) -> ConsoleDevice | None:
    from trapline.machine.virtio.blk import BlockDevice
    from trapline.machine.virtio.console import ConsoleDevice
    from trapline.machine.virtio.descriptors import allotment
    from trapline.machine.virtio.drive import open_drive, parse_drive
    from trapline.machine.virtio.network import open_net, parse_net
    from trapline.machine.virtio.rng import RngDevice
    from trapline.machine.virtio.share import open_share, parse_share

    for number, text in enumerate(options.drive):
        argument = parse_drive(text)
        bus.add(BlockDevice(open_drive(argument), argument.serial, f"drive {number}"))
    net = parse_net(options.net)
    descriptors = allotment(len(options.share) + (net is not None)) if options.share or net else 0
    if net is not None:
        bus.add(open_net(net, now, descriptors))
    if options.rng:
        bus.add(RngDevice())
    shares = [parse_share(text, number) for number, text in enumerate(options.share)]
    for number, share in enumerate(shares):
        if share.tag in [other.tag for other in shares[:number]]:
            raise ValueError(f"share {options.share[number]!r}: another folder has the tag {share.tag!r}")
        bus.add(open_share(share, descriptors))
    if options.console != "virtio":
        return None
    console = ConsoleDevice(output)
    bus.add(console)
    return console

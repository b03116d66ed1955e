"""Options that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from trapline.cli.numbers import Count, Harts, Hertz, Isa, Seconds
from trapline.cli.parameter import Parameter
from trapline.dataclass import dataclass
from trapline.defaults import FIRMWARE, MEMORY, TIMEBASE

if TYPE_CHECKING:
    from trapline.machine.virtio.options import VirtioOptions

OnOff = Literal["on", "off"]
Misaligned = Literal["hardware", "trap"]
Tinst = Literal["zero", "transformed"]
EngineName = Literal["native", "reference"]  # engine.api.ENGINES, which help is not to import
Backing = Literal["auto", "4K", "2M", "1G"]
Several = Annotated[tuple[str, ...], Parameter(negative="", show_default=False)]
Flag = Annotated[bool, Parameter(negative="")]
_JUNIT_HELP = "Write the result as JUnit XML to a file, for a CI server."
Junit = Annotated[str | None, Parameter(help=_JUNIT_HELP)]
_EVENT_HELP = "Only this cause (number or name), or events whose name fits a regular expression."
EventPattern = Annotated[str | None, Parameter(help=_EVENT_HELP)]
_JSON_HELP = "Write the result as JSON to a file, or - for standard output."
Json = Annotated[str | None, Parameter(name="--json", allow_leading_hyphen=True, help=_JSON_HELP)]

EXIT_FAILED, EXIT_USAGE, EXIT_LIMIT, EXIT_INTERRUPTED = 1, 2, 3, 130


@Parameter(name="*")
@dataclass(frozen=True)
class Under:
    """What every result is headed by.

    Attributes
    ----------
    policy
        A preset (`trapline policies`) or a TOML file.
    firmware
        The M-mode model underneath.
    host_fwft
        Whether the host kernel asked the firmware to delegate misaligned accesses.
    misaligned
        Whether the hart does misaligned accesses itself or traps.
    """

    policy: str = "linux-7.2"
    firmware: str = FIRMWARE
    host_fwft: OnOff = "off"
    misaligned: Misaligned = "trap"


@Parameter(name="*")
@dataclass(frozen=True)
class Machine:
    """The machine around a guest or a board.

    Attributes
    ----------
    memory
        RAM, for example 256M.
    smp
        vCPUs or harts.
    append
        The kernel's command line.
    initrd
        An initial ramdisk.
    max_instructions
        Stop after so many instructions, for example 500M (exit code 3).
    max_seconds
        Stop after so many seconds (exit code 3).
    timebase
        Frequency of the time CSR in Hz.
    isa
        ISA string of the harts.
    engine
        native, or reference (CPython).
    tinst
        What explicit accesses that trap write to mtinst and htinst: zero, or the transformed instruction.
    aia
        Advanced interrupt architecture: none, aplic, or aplic-imsic,guests=N (N guest interrupt files a hart).
    drive
        A virtio disk: FILE, and behind it any of ,ro ,snapshot ,format=raw|qcow2 ,serial=TEXT; may be given several
        times.
    net
        A virtio network card: user, and behind it any of ,restrict=on ,allow=tcp:PORT
        ,hostfwd=tcp:127.0.0.1:PORT-:PORT ,pcap=FILE; or none.
    rng
        A virtio entropy device (the same bytes in every run).
    share
        A folder for the guest, over virtio 9p: DIR[:TAG][,ro]; may be given several times.
    console
        Where typed text goes: serial (ttyS0), or virtio (hvc0).
    """

    memory: str = f"{MEMORY >> 20}M"
    smp: Harts = 1
    append: str = ""
    initrd: str | None = None
    max_instructions: Count | None = None
    max_seconds: Seconds | None = None
    timebase: Hertz = TIMEBASE
    isa: Isa | None = None
    engine: EngineName = "native"
    tinst: Tinst = "zero"
    aia: str = "none"
    drive: Several = ()
    net: str = "none"
    rng: Annotated[bool, Parameter(negative="", show_default=False)] = False
    share: Several = ()
    console: Literal["serial", "virtio"] = "serial"

    def isa_or_default(self) -> str:
        """Return the ISA string."""
        from trapline.privilege.isa_string import DEFAULT_ISA

        return self.isa or DEFAULT_ISA

    def virtio(self) -> VirtioOptions:
        """Return the virtio devices that were asked for."""
        from trapline.machine.virtio.options import VirtioOptions

        return VirtioOptions(self.drive, self.net, self.rng, self.share, self.console)


UNDER = Under()
MACHINE = Machine()

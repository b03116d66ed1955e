"""Options that several commands share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Parameter

OnOff = Literal["on", "off"]
Misaligned = Literal["hardware", "trap"]
Engine = Literal["native", "reference"]
Tinst = Literal["zero", "transformed"]
Several = Annotated[tuple[str, ...], Parameter(negative="")]
Json = Annotated[str | None, Parameter(name="--json", allow_leading_hyphen=True)]

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


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
    firmware: str = "opensbi-1.6"
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
        Stop after so many instructions (exit code 3).
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
    """

    memory: str = "256M"
    smp: int = 1
    append: str = ""
    initrd: str | None = None
    max_instructions: int | None = None
    max_seconds: float | None = None
    timebase: int = 10_000_000
    isa: str | None = None
    engine: Engine = "native"
    tinst: Tinst = "zero"
    aia: str = "none"

    def isa_or_default(self) -> str:
        """Return the ISA string."""
        from trapline.privilege.isa_string import DEFAULT_ISA

        return self.isa or DEFAULT_ISA


UNDER = Under()
MACHINE = Machine()

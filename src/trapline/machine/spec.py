"""What a machine is made of: every default once, checked once, kept in snapshots."""

from __future__ import annotations

from typing import TypedDict

from trapline.dataclass import dataclass
from trapline.machine import memory_map as mm
from trapline.machine.aia import Aia, parse_aia
from trapline.machine.virtio.options import NO_VIRTIO, VirtioOptions
from trapline.privilege.isa_string import DEFAULT_ISA

MISALIGNED = ("hardware", "trap")
TINST = ("zero", "transformed")
MOST_HARTS = 64


class HartOptions(TypedDict, total=False):
    """The fields of HartSpec, as keyword arguments."""

    isa: str
    timebase: int
    ratio: int
    misaligned: str
    tinst: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HartSpec:
    """The harts of a board, or those that a VM runs on.

    `timebase`: Hz of the time CSR; `ratio`: instructions of a tick; `misaligned`: trap, or hardware, which performs
    such accesses; `tinst`: what a trap writes to mtinst and htinst, zero or transformed (Hypervisor chapter, 22.6).
    """

    isa: str = DEFAULT_ISA
    timebase: int = mm.DEFAULT_TIMEBASE
    ratio: int = mm.DEFAULT_RATIO
    misaligned: str = "trap"
    tinst: str = "zero"

    def __post_init__(self) -> None:
        if not 0 < self.timebase < 1 << 32:
            raise ValueError(f"timebase: {self.timebase} Hz is not in 1..{(1 << 32) - 1}")
        if self.ratio <= 0:
            raise ValueError(f"ratio: {self.ratio} is not a positive number of instructions")
        require_one_of("misaligned", self.misaligned, MISALIGNED)
        require_one_of("tinst", self.tinst, TINST)
        if not self.isa:
            raise ValueError("isa: the ISA string is empty")


class MachineOptions(HartOptions, total=False):
    """The fields of MachineSpec, as keyword arguments."""

    memory: int
    harts: int
    aia: str | Aia
    virtio: VirtioOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSpec(HartSpec):
    """A board: `memory` in bytes, `aia` as parse_aia reads it. ValueError names what cannot be."""

    memory: int = mm.DEFAULT_MEMORY
    harts: int = 1
    aia: str | Aia = "none"
    virtio: VirtioOptions = NO_VIRTIO

    def __post_init__(self) -> None:
        HartSpec.__post_init__(self)
        require_count("harts", self.harts)
        require_bytes(self.memory)

    def interrupt_controllers(self) -> Aia:
        """Return `aia` as an object; ValueError if the text means none."""
        return parse_aia(self.aia) if isinstance(self.aia, str) else self.aia


def require_one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    """ValueError if a word is not known."""
    if value not in known:
        raise ValueError(f"{name}: {value!r} is not one of {', '.join(known)}")


def require_count(name: str, count: int) -> None:
    """ValueError if a machine cannot have so many harts or vCPUs."""
    if not 1 <= count <= MOST_HARTS:
        raise ValueError(f"{name}: {count} is not in 1..{MOST_HARTS}")


def require_bytes(memory: object) -> None:
    """ValueError if a machine's memory is no number of bytes."""
    if not isinstance(memory, int) or memory <= 0:
        raise ValueError(f"memory: {memory!r} is no number of bytes (16 << 20 is 16 MiB)")

"""What a machine is made of: every default once, checked once, kept in snapshots."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import Any, TypedDict, TypeVar

from trapline.dataclass import dataclass, fields, replace
from trapline.lang.given import near, require_kind, whole
from trapline.lang.state.words import MOST_TIME
from trapline.machine import memory_map as mm
from trapline.machine.aia import Aia, parse_aia
from trapline.machine.virtio.options import NO_VIRTIO, VirtioOptions
from trapline.privilege.isa_string import DEFAULT_ISA

MISALIGNED = ("hardware", "trap")
TINST = ("zero", "transformed")
MOST_HARTS = 64
Spec = TypeVar("Spec", bound="HartSpec")


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
        require_kind("timebase", self.timebase, int)
        if not 0 < self.timebase < 1 << 32:
            raise ValueError(f"timebase: {self.timebase} Hz is not in 1..{(1 << 32) - 1}")
        if isinstance(self.ratio, int) and self.ratio <= 0:
            raise ValueError(f"ratio: {self.ratio} is not a positive number of instructions")
        whole("ratio", self.ratio, 1, MOST_TIME)
        require_one_of("misaligned", self.misaligned, MISALIGNED)
        require_one_of("tinst", self.tinst, TINST)
        require_kind("isa", self.isa, str)
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
        require_kind("aia", self.aia, str, Aia)
        require_kind("virtio", self.virtio, VirtioOptions)

    def interrupt_controllers(self) -> Aia:
        """Return `aia` as an object; ValueError if the text means none."""
        return parse_aia(self.aia) if isinstance(self.aia, str) else self.aia


def chosen(spec: Spec | None, kind: type[Spec], options: Mapping[str, Any]) -> Spec:
    """Return a spec, or the one of defaults, with other options; TypeError for an option that it does not have."""
    require_kind("spec", spec, kind, NoneType)
    known = [f.name for f in fields(kind)]
    for name in options:
        if name not in known:
            hint = near(name, known) or f": there are {', '.join(known)}"
            raise TypeError(f"no option is called {name!r}{hint}")
    return replace(spec or kind(), **options)


def require_one_of(name: str, value: object, known: tuple[str, ...]) -> None:
    """ValueError if a word is not known."""
    if value not in known:
        raise ValueError(f"{name}: {value!r} is not one of {', '.join(known)}")


def require_count(name: str, count: int) -> None:
    """ValueError if a machine cannot have so many harts or vCPUs."""
    require_kind(name, count, int)
    if not 1 <= count <= MOST_HARTS:
        raise ValueError(f"{name}: {count} is not in 1..{MOST_HARTS}")


def require_bytes(memory: object) -> None:
    """ValueError if a machine's memory is no number of bytes."""
    if not isinstance(memory, int) or memory <= 0:
        wrong = ValueError if isinstance(memory, int) and not isinstance(memory, bool) else TypeError
        raise wrong(f"memory: {memory!r} is no number of bytes (16 << 20 is 16 MiB)")

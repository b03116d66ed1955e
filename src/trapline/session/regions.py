"""Physical memory of a board: RAM, ROM, devices and holes, shared by its harts."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from trapline.dataclass import dataclass, field
from trapline.lang.given import Named, require_kind
from trapline.lang.host_pages import anonymous
from trapline.lang.state import Hart
from trapline.lang.state.words import REGIONS, WATCHER
from trapline.privilege.protection import KIND_DEVICE, KIND_HOLE, KIND_NONE, KIND_RAM, KIND_ROM

KIND_NAMES = ("none", "ram", "rom", "device", "hole")

_PAGE = 4096


class Device(Protocol):
    """What answers accesses to a device region; `offset` counts from the region's base."""

    def load(self, hart: Hart, offset: int, size: int) -> int:
        """Return `size` bytes, zero-extended."""

    def store(self, hart: Hart, offset: int, size: int, value: int) -> None:
        """Take the low `size` bytes of `value`."""


class Backing:
    """Host memory behind RAM or ROM: anonymous, zero until touched; or a copy of a file's first bytes.

    A file is not mapped: who makes it shorter would end the process (SIGBUS), who changes it the guest's run.
    """

    def __init__(self, size: int, file: Any = None) -> None:
        self.size = size
        self.block = anonymous(size)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.block))
        self.view = memoryview(self.block)
        for first, end in () if file is None else _filled(file.fileno(), size):
            file.seek(first)
            if file.readinto(self.view[first:end]) < end - first:
                raise ValueError(f"the file has less than {size:#x} bytes")
        self.keep: Callable[[int, int], None] | None = None  # a checkpoint's: told of host address and size


def _filled(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield the first and end bytes of what a file holds: its holes shall take no memory either."""
    at = 0
    while at < size:
        try:
            first = os.lseek(descriptor, at, os.SEEK_DATA)
            at = min(os.lseek(descriptor, first, os.SEEK_HOLE), size)
        except OSError as error:
            if error.errno != errno.ENXIO:  # the file system does not tell them apart
                yield at, size
            return
        if first < at:
            yield first, at


@dataclass(slots=True)
class Region:
    """One range of physical addresses with one memory attribute (PMA)."""

    name: str
    base: int
    size: int
    kind: int
    no_execute: bool = False
    device: Device | None = None
    backing: Backing | None = field(default=None, repr=False)

    @property
    def end(self) -> int:
        """The first address behind the region."""
        return self.base + self.size

    @property
    def host(self) -> int:
        """The host address of the first byte; 0 for a device or a hole."""
        return self.backing.address if self.backing else 0

    def will_write(self, address: int, size: int) -> None:
        """Bytes at a physical address are about to be written by somebody else than a hart: a checkpoint keeps them."""
        if self.backing is not None and self.backing.keep is not None and size:
            self.backing.keep(self.host + address - self.base, size)

    def describe(self) -> str:
        """Name and range for messages."""
        return f"{self.name} [{self.base:#x}..{self.end - 1:#x}]"


class Regions(Named):
    """The regions of a board, sorted by address, without overlap."""

    def __init__(self) -> None:
        self._regions: list[Region] = []
        self.changes = 0  # how often a region was added or taken out
        self.written: Callable[[int, int], None] = lambda host, size: None  # told of what `write` writes
        self._complete = True

    def __iter__(self) -> Iterator[Region]:
        return iter(self._regions)

    def __len__(self) -> int:
        return len(self._regions)

    def add(self, region: Region) -> Region:
        """Add a region; ValueError if it is empty, beyond 56 bits, or overlaps another."""
        require_kind("base", region.base, int)
        require_kind("size", region.size, int)
        if region.size <= 0 or region.base < 0 or region.end > 1 << 56:
            raise ValueError(f"region {region.name} at {region.base:#x} has an impossible size {region.size:#x}")
        for other in self._regions:
            if region.base < other.end and other.base < region.end:
                raise ValueError(f"{region.describe()} overlaps {other.describe()}")
        if len(self._regions) >= REGIONS:
            raise ValueError(f"more than {REGIONS} memory regions: no room for {region.describe()}")
        self._regions.append(region)
        self.changes += 1
        self._regions.sort(key=lambda r: r.base)
        return region

    def ram(self, name: str, base: int, size: int, *, no_execute: bool = False, file: Any = None) -> Region:
        """Add RAM: zeros, or the contents of `file` (writes stay private)."""
        return self._memory(name, base, size, KIND_RAM, no_execute, file)

    def rom(self, name: str, base: int, size: int, *, no_execute: bool = False, file: Any = None) -> Region:
        """Add ROM: harts read and fetch, stores take an access fault; `write` fills it."""
        return self._memory(name, base, size, KIND_ROM, no_execute, file)

    def _memory(self, name: str, base: int, size: int, kind: int, no_execute: bool, file: Any) -> Region:
        if base % _PAGE or size % _PAGE:
            raise ValueError(f"{name} at {base:#x}, size {size:#x}: not a multiple of the page size {_PAGE:#x}")
        region = self.add(Region(name, base, size, kind, no_execute))
        try:
            region.backing = Backing(size, file)
        except (OSError, OverflowError, ValueError) as error:
            self._regions.remove(region)
            raise ValueError(
                f"{name}: the host cannot provide {size:#x} bytes: {getattr(error, 'strerror', None) or error}"
            ) from error
        return region

    def device(self, name: str, base: int, size: int, device: Device) -> Region:
        """Add a device."""
        return self.add(Region(name, base, size, KIND_DEVICE, True, device))

    def hole(self, name: str, base: int, size: int) -> Region:
        """Add a range whose every access is an access fault, as between regions, but with a name."""
        return self.add(Region(name, base, size, KIND_HOLE, True))

    def remove(self, region: Region) -> None:
        """Take a region out."""
        self.changes += 1
        self._regions.remove(region)

    def find(self, address: int) -> Region | None:
        """Return the region that holds `address`."""
        for region in self._regions:
            if region.base <= address < region.end:
                return region
        return None

    def install(self, hart: Hart) -> None:
        """Write the regions into a hart's state and let it forget what it knew of the old ones."""
        hart.region_count = len(self._regions)
        hart.backings = [region.backing for region in self._regions]
        for number in [n for n in hart.devices if n != WATCHER]:
            del hart.devices[number]
        for index in range(REGIONS):
            region = self._regions[index] if index < len(self._regions) else None
            hart.region_base[index] = region.base if region else 0
            hart.region_size[index] = region.size if region else 0
            hart.region_kind[index] = region.kind if region else KIND_NONE
            hart.region_host[index] = region.host if region else 0
            hart.region_noexec[index] = int(region.no_execute) if region else 0
            if region and region.device is not None:
                hart.devices[index] = region.device
        hart.on_flush_translations()

    def view(self, address: int, size: int, *, write: bool = False) -> memoryview:
        """Return the host memory behind [address, address+size), which must lie in one region; `write` to change it."""
        region = self.find(address)
        if region is None or region.backing is None:
            raise ValueError(f"no memory at {address:#x}")
        start = address - region.base
        if start + size > region.size:
            raise ValueError(f"[{address:#x}..{address + size - 1:#x}] does not lie in memory ({region.describe()})")
        if write:
            region.will_write(address, size)
        return region.backing.view[start : start + size]

    def read(self, address: int, size: int) -> bytes:
        """Copy bytes out of RAM or ROM."""
        return bytes(self.view(address, size))

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Copy bytes into RAM or ROM, as a loader does: attributes do not matter."""
        if len(data):
            self.write_by(address, len(data), lambda view: view.__setitem__(slice(None), data))

    def write_by(self, address: int, size: int, fill: Callable[[memoryview], None]) -> None:
        """Let somebody else copy bytes in."""
        view = self.view(address, size, write=True)
        try:
            fill(view)
        finally:
            self.written(ctypes.addressof(ctypes.c_char.from_buffer(view)), size)

    def ram_ranges(self) -> list[tuple[int, int]]:
        """Return (base, size) of each stretch of RAM."""
        ranges: list[tuple[int, int]] = []
        for region in self._regions:
            if region.kind != KIND_RAM:
                continue
            if ranges and sum(ranges[-1]) == region.base:
                ranges[-1] = (ranges[-1][0], ranges[-1][1] + region.size)
            else:
                ranges.append((region.base, region.size))
        return ranges

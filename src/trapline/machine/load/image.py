"""Loading programs into memory: ELF, a Linux Image (plain, compressed, EFI zboot), or flat bytes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from trapline.dataclass import dataclass, replace
from trapline.lang.given import require_kind
from trapline.machine.load.content import MOST, Content, ImageError, Memory, OpenFile, place
from trapline.machine.load.elf import Elf, Segment, is_elf, parse
from trapline.machine.load.kernel_image import LINUX_HEADER, linux_header, require_kernel, unpacked
from trapline.named_files import open_input

_FLAG_BIG_ENDIAN = 1
_ZEROS = bytes(1 << 20)
_HEADER_PAGE = 0x1000  # the page size that linkers use for RISC-V


@dataclass(frozen=True, slots=True)
class Loaded:
    """Where a program lies: entry point and the range of memory that it occupies, BSS included."""

    entry: int
    low: int
    high: int
    kind: str
    elf: Elf | None = None


@dataclass(frozen=True, slots=True)
class MostBytes:
    """How much of a program file is taken into memory."""

    elf: int = MOST  # may hold more than it loads
    flat: int = MOST  # lies in RAM as it is

    def of(self, head: bytes) -> int:
        """Return the bound for a file that begins so."""
        return self.elf if is_elf(head) else self.flat


def most_of_program(memory: Memory) -> MostBytes:
    """Return how many bytes a program for this memory may have."""
    ram = sum(size for _, size in memory.ram_ranges())
    return MostBytes(2 * ram + (64 << 20), ram)


UNBOUND = MostBytes()


def read_program(path: str | Path, bound: MostBytes = UNBOUND) -> Content:
    """Read a program file and unpack what is a compressed kernel; ImageError names the trouble.

    No more bytes than `bound` says are read, or come out of a compressed kernel. A Linux Image, which is copied once,
    and a larger file are read when they are loaded.
    """
    most = bound.elf
    require_kind("path", path, str, Path)
    try:
        with open_input(path) as file:
            data = file.read(LINUX_HEADER.size)
            status = os.fstat(file.fileno())
            known = stat.S_ISREG(status.st_mode) and status.st_size > len(data)  # of what is none, no size is
            large = known and status.st_size > most
            if large or (known and linux_header(data) is not None and data[4:8] != b"zimg"):
                content = OpenFile(file, str(path))
                return unpacked(content, str(path), bound.of) if large else content
            data += file.read(most + 1 - len(data))
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror or error}") from error
    if not data:
        raise ImageError(f"{path}: the file is empty")
    if len(data) > most:
        raise ImageError(f"{path}: more than {most} bytes: give more --memory")
    return unpacked(data, str(path), bound.of)


def read_initrd(path: str | Path, memory: int) -> Content:
    """Open a file that is not unpacked and must fit into so many bytes; ImageError names the trouble."""
    try:
        with open_input(path) as file:
            status = os.fstat(file.fileno())
            size = status.st_size
            if stat.S_ISREG(status.st_mode) and 0 < size <= memory:
                return OpenFile(file, str(path))
            data = file.read(memory + 1) if size <= memory else b""
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror or error}") from error
    if size > memory or len(data) > memory:
        raise ImageError(f"{path}: the initrd (over {memory:#x} bytes) does not fit into memory: give more --memory")
    return data


def load_program(memory: Memory, data: Content, name: str, base: int) -> Loaded:
    """Load an ELF where its segments say; a Linux Image or flat bytes at `base`.

    `base` is the address for the first byte, which for an Image is already 2 MiB aligned RAM
    (`text_offset` is relative to the start of RAM, which the caller has taken into account).
    """
    if is_elf(data):
        return load_elf(memory, parse(data, name))
    require_kernel(data, name)
    header = linux_header(data)
    size = len(data)
    if header is not None:
        if header[2] & _FLAG_BIG_ENDIAN:
            raise ImageError(f"{name}: big-endian Linux Image")
        size = max(size, header[1])
    _require_memory(memory, base, size, name)
    place(memory, base, data, 0, len(data))
    return Loaded(base, base, base + size, "linux" if header else "flat")


def initrd_address(kernel: int, memory: int) -> int:
    """Where QEMU (since 9.0; 128 MiB before) puts the initrd of a kernel at `kernel`: half of memory or 512 MiB on."""
    return kernel + min(memory // 2, 512 << 20)


def place_initrd(memory: Memory, name: str | Path, data: Content, start: int) -> tuple[int, int]:
    """Copy an initrd to `start`; return its first byte and the first one behind it."""
    try:
        place(memory, start, data, 0, len(data))
    except ImageError:
        raise
    except ValueError as error:
        raise ImageError(
            f"{name}: the initrd ({len(data):#x} bytes at {start:#x}) does not fit into memory: give more --memory"
        ) from error
    return start, start + len(data)


def load_elf(memory: Memory, elf: Elf) -> Loaded:
    """Copy the segments into memory and clear what they declare beyond their file bytes."""
    elf = replace(elf, segments=tuple(_without_headers(memory, segment) for segment in elf.segments))
    for segment in elf.segments:
        _require_memory(memory, segment.address, segment.size, f"{elf.name}: segment")
    _require_entry(elf)
    for segment in elf.segments:
        place(memory, segment.address, segment.content, segment.start, segment.filled)
        _clear(memory, segment.address + segment.filled, segment.size - segment.filled)
    return Loaded(elf.entry, elf.low, elf.high, "elf", elf)


def _require_entry(elf: Elf) -> None:
    """The entry is even and in a segment: Spike and QEMU jump anywhere, and the run ends in nothing but traps."""
    if elf.entry & 1:
        raise ImageError(f"{elf.name}: the ELF's entry {elf.entry:#x} is odd: instructions lie at even addresses")
    if not any(segment.address <= elf.entry < segment.end for segment in elf.segments):
        where = ", ".join(f"[{s.address:#x}..{s.end - 1:#x}]" for s in elf.segments[:3])
        more = f" and {len(elf.segments) - 3} more" if len(elf.segments) > 3 else ""
        raise ImageError(
            f"{elf.name}: the ELF's entry {elf.entry:#x} lies in none of its segments, {where}{more}: "
            "link it with --entry SYMBOL"
        )


def _without_headers(memory: Memory, segment: Segment) -> Segment:
    """Drop the page below RAM where the linker put the file's own headers (-Ttext=0x80000000); no program reads it."""
    if not is_elf(segment.content[segment.start : segment.start + min(segment.filled, 4)]):
        return segment
    for base, _ in memory.ram_ranges():
        below = base - segment.address
        if 0 < below <= _HEADER_PAGE and below < segment.size:
            return replace(
                segment,
                address=base,
                virtual=segment.virtual + below,
                size=segment.size - below,
                start=segment.start + below,
                filled=max(segment.filled - below, 0),
            )
    return segment


def _clear(memory: Memory, address: int, size: int) -> None:
    """Make memory zero; what is so already is not touched."""
    while size:
        part = min(size, len(_ZEROS))
        if bytes(memory.view(address, part)) != _ZEROS[:part]:
            memory.write(address, _ZEROS[:part])
        address, size = address + part, size - part


def _require_memory(memory: Memory, base: int, size: int, what: str) -> None:
    try:
        memory.view(base, size)
    except ValueError:
        ranges = ", ".join(f"[{b:#x}..{b + s - 1:#x}]" for b, s in memory.ram_ranges()) or "none"
        raise ImageError(f"{what} [{base:#x}..{base + size - 1:#x}] does not fit into memory (RAM: {ranges})") from None

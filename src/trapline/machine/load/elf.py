"""Reading an ELF64 RISC-V executable: segments, entry, symbols; every defect gets its own message."""

from __future__ import annotations

import itertools

from trapline.dataclass import dataclass, field
from trapline.lang.elf_format import EM_RISCV, HEADER, MAGIC, PROGRAM, PT_LOAD, SECTION, SHT_SYMTAB, SYMBOL
from trapline.machine.load.content import Content, ImageError

_PF_X, _PF_W = 1, 2
_NO_PLACES = (3, 4)  # STT_SECTION, STT_FILE: a file's name has the value 0, and would name all low addresses
_STB_GLOBAL = 1
_MOST_SYMBOLS, _LONGEST_NAME, _MOST_NAMES = 1 << 20, 4096, 64 << 20  # a table of more is damaged
_MACHINES = {3: "x86", 40: "ARM", 62: "x86-64", 183: "AArch64", 8: "MIPS", 21: "PowerPC64", 258: "LoongArch"}


@dataclass(frozen=True, slots=True)
class Segment:
    """A PT_LOAD segment: `filled` bytes of the file, from `start` on, at `address`; zeros up to `size`."""

    address: int
    virtual: int
    size: int
    content: Content = field(repr=False)
    start: int
    filled: int
    executable: bool = False
    writable: bool = False

    @property
    def end(self) -> int:
        """The first address behind the segment."""
        return self.address + self.size

    @property
    def data(self) -> bytes:
        """The bytes of the file."""
        return self.content[self.start : self.start + self.filled]


@dataclass(frozen=True, slots=True)
class Elf:
    """A parsed executable; `entry` is the physical address that corresponds to e_entry."""

    name: str
    entry: int
    segments: tuple[Segment, ...]
    symbols: dict[str, int] = field(repr=False)

    @property
    def low(self) -> int:
        """The lowest address that a segment fills."""
        return min(s.address for s in self.segments)

    @property
    def high(self) -> int:
        """The first address behind all segments."""
        return max(s.end for s in self.segments)


def is_elf(data: Content) -> bool:
    """Return whether the bytes start as any ELF file does."""
    return data[:4] == MAGIC


def parse(data: Content, name: str) -> Elf:
    """Parse an ELF64 little-endian RISC-V executable; ImageError otherwise."""
    if not is_elf(data):
        raise ImageError(f"{name}: not an ELF file")
    if len(data) < 20:
        raise ImageError(f"{name}: truncated ELF: {len(data)} bytes")
    _check_ident(data, name)
    if len(data) < HEADER.size:
        raise ImageError(f"{name}: truncated ELF header: {len(data)} bytes of {HEADER.size}")
    head = HEADER.unpack(data[: HEADER.size])
    _, kind, _, _, entry, phoff, shoff, _, _, phentsize, phnum, shentsize, shnum, _ = head
    if kind not in (2, 3):
        what = {1: "a relocatable object", 4: "a core dump"}.get(kind, f"of type {kind}")
        raise ImageError(f"{name}: ELF is {what}, not an executable: link it first")
    segments = _segments(data, name, phoff, phentsize, phnum)
    symbols = _symbols(data, shoff, shentsize, shnum)
    return Elf(name, _physical_entry(entry, segments), segments, symbols)


def _check_ident(data: Content, name: str) -> None:
    bits, order = data[4:6]
    endian = "big" if order == 2 else "little"
    machine = int.from_bytes(data[18:20], "big" if order == 2 else "little")
    if order != 1:
        raise ImageError(f"{name}: {endian}-endian ELF: only little-endian RV64 runs here")
    if machine != EM_RISCV:
        shown = _MACHINES.get(machine, "another machine")
        raise ImageError(f"{name}: ELF for {shown} (e_machine {machine}), not RISC-V ({EM_RISCV})")
    if bits != 2:
        raise ImageError(f"{name}: 32-bit ELF: only RV64 runs here")


def _segments(data: Content, name: str, offset: int, entry_size: int, count: int) -> tuple[Segment, ...]:
    if entry_size < PROGRAM.size or offset + count * entry_size > len(data):
        raise ImageError(f"{name}: truncated ELF: program headers end at {offset + count * entry_size:#x}, "
                         f"the file at {len(data):#x}")  # fmt: skip
    found: list[Segment] = []
    for index in range(count):
        at = offset + index * entry_size
        kind, flags, start, virtual, physical, filled, size, _ = PROGRAM.unpack(data[at : at + PROGRAM.size])
        if kind != PT_LOAD or size == 0:
            continue
        if start + filled > len(data):
            raise ImageError(
                f"{name}: truncated ELF: segment {index} ends at {start + filled:#x}, the file at {len(data):#x}"
            )
        if filled > size:
            raise ImageError(f"{name}: ELF segment {index} has more file bytes ({filled:#x}) than memory ({size:#x})")
        segment = Segment(physical, virtual, size, data, start, filled, bool(flags & _PF_X), bool(flags & _PF_W))
        if found:
            _require_apart(
                name, found[-1], segment
            )  # so that a file of thousands of equal ones is refused at its second
        found.append(segment)
    if not found:
        raise ImageError(f"{name}: ELF has no segment to load")
    ordered = sorted(found, key=lambda s: s.address)
    for below, above in itertools.pairwise(ordered):
        _require_apart(name, below, above)
    return tuple(found)


def _require_apart(name: str, one: Segment, other: Segment) -> None:
    if one.address < other.end and other.address < one.end:
        below, above = sorted((one, other), key=lambda s: s.address)
        raise ImageError(
            f"{name}: ELF segments overlap: [{below.address:#x}..{below.end - 1:#x}] and "
            f"[{above.address:#x}..{above.end - 1:#x}]"
        )


def _physical_entry(entry: int, segments: tuple[Segment, ...]) -> int:
    for s in segments:
        if s.virtual <= entry < s.virtual + s.size:
            return entry - s.virtual + s.address
    return entry


def _symbols(data: Content, offset: int, entry_size: int, count: int) -> dict[str, int]:
    """Return the named symbols; a stripped or damaged table gives none, it is not needed to run."""
    if entry_size < SECTION.size or offset + count * entry_size > len(data):
        return {}
    places = range(offset, offset + count * entry_size, entry_size)
    sections = [SECTION.unpack(data[at : at + SECTION.size]) for at in places]
    found = next((s for s in sections if s[1] == SHT_SYMTAB), None)  # a file has one at most
    if found is None:
        return {}
    _, _, _, _, start, size, link, _, _, each = found
    if link >= count or each < SYMBOL.size or start + size > len(data) or size > _MOST_SYMBOLS * SYMBOL.size:
        return {}
    names_at, names_size = sections[link][4:6]
    if names_size > _MOST_NAMES:
        return {}
    names, left = data[names_at : names_at + names_size], _MOST_NAMES
    table = data[start : start + size]
    symbols: dict[str, int] = {}
    for at in range(0, size - each + 1, each):
        name_at, info, _, section, value, _ = SYMBOL.unpack_from(table, at)
        end = names.find(b"\0", name_at, name_at + _LONGEST_NAME)
        if name_at and section and end > name_at and info & 0xF not in _NO_PLACES:
            name = names[name_at:end].decode("latin-1")
            left -= len(name)
            if left < 0:
                return {}
            if info >> 4 == _STB_GLOBAL or name not in symbols:
                symbols[name] = value
    return symbols

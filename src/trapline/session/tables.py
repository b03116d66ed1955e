"""Page tables for people: which addresses they map, and where to. They are read as they are and nothing is changed.

The hart's own walker (privilege.translation) decides what happens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from trapline.dataclass import dataclass
from trapline.privilege.pte import PPN_MASK, PPN_SHIFT, PTE_LEAF, PTE_V

PAGE_SHIFT = 12
MODES = {8: ("sv39", 3), 9: ("sv48", 4), 10: ("sv57", 5)}
_PAGES = ("4K", "2M", "1G", "512G", "256T")
_FLAGS = "VRWXUGAD"
Read = Callable[[int], int]  # eight bytes at a physical address; ValueError if nothing is there


@dataclass(frozen=True, slots=True)
class Range:
    """Consecutive addresses that are mapped one way."""

    start: int
    size: int
    to: int
    flags: int

    def describe(self) -> str:
        """One line, with the flags by letter."""
        end, flags = self.start + self.size - 1, letters(self.flags)
        return f"{self.start:016x}-{end:016x} -> {self.to:014x} {self.size:>12x} {flags}"


@dataclass(frozen=True, slots=True)
class WalkStep:
    """One table entry: where it is, what it holds."""

    level: int
    address: int
    entry: int
    leaf: bool

    @property
    def flags(self) -> str:
        """The entry's flag bits by letter, a dash for each that is clear."""
        return letters(self.entry)

    @property
    def page(self) -> int:
        """The address that the entry holds."""
        return (self.entry >> PPN_SHIFT & PPN_MASK) << PAGE_SHIFT

    def result(self, address: int) -> int:
        """Where a leaf maps an address to."""
        inside = (1 << PAGE_SHIFT + 9 * self.level) - 1
        return self.page & ~inside | address & inside


class NoTable(ValueError):
    """Nothing can be read where the next entry is."""

    def __init__(self, address: int) -> None:
        super().__init__(f"nothing at {address:#x}")
        self.address = address


def walk(read: Read, table: int, levels: int, address: int, *, stage2: bool = False) -> Iterator[WalkStep]:
    """Yield the entries on the way of an address: the last is a leaf, is not valid, or is no leaf in the last level."""
    for level in range(levels - 1, -1, -1):
        width = 0x7FF if stage2 and level == levels - 1 else 0x1FF
        at = table + 8 * (address >> PAGE_SHIFT + 9 * level & width)
        try:
            entry = read(at)
        except ValueError as error:
            raise NoTable(at) from error
        step = WalkStep(level, at, entry, bool(entry & PTE_V and entry & PTE_LEAF))
        yield step
        if step.leaf or not entry & PTE_V:
            return
        table = step.page


def letters(flags: int) -> str:
    """The flag bits of an entry by letter, a dash for each that is clear."""
    return "".join(c if flags >> n & 1 else "-" for n, c in enumerate(_FLAGS))


def pages(address: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield the pieces of a range that lie in one page each: address and size."""
    end = address + size
    while address < end:
        some = min(end - address, 4096 - address % 4096)
        yield address, some
        address += some


def translate(read: Read, atp: int, address: int, *, stage2: bool = False) -> int:
    """Return where an address is mapped to by satp, vsatp or (stage2) hgatp; ValueError if it is not mapped."""
    return _walk(read, atp, address, stage2=stage2)[0]


def stage(name: str, read: Read, atp: int, address: int, *, stage2: bool = False) -> tuple[str, int]:
    """Say how the table in the register `name` maps an address, with the PTE's flags, and return where to."""
    mode = MODES.get(atp >> 60)
    if mode is None:
        return f"{name:5} Bare     {address:#018x}", address
    found, flags, size = _walk(read, atp, address, stage2=stage2)
    way = f"{address:#018x} -> {found:#018x}"
    return f"{name:5} {mode[0] + ('x4' if stage2 else ''):8} {way} {_PAGES[size]:>4} {letters(flags)}", found


def _walk(read: Read, atp: int, address: int, *, stage2: bool) -> tuple[int, int, int]:
    """Return where an address is mapped to, the flags of its leaf, and the level of that."""
    mode = MODES.get(atp >> 60)
    if mode is None:
        return address, 0, 0
    name, levels = mode
    for step in walk(read, (atp & PPN_MASK) << PAGE_SHIFT, levels, address, stage2=stage2):
        if step.leaf:
            return step.result(address), step.entry & 0xFF, step.level
    raise ValueError(f"{address:#x} is not mapped ({name}{'x4' if stage2 else ''})")


def ranges(read: Read, atp: int) -> Iterator[Range]:
    """Yield what satp or vsatp maps, neighbours joined."""
    mode = MODES.get(atp >> 60)
    if mode is None:
        return
    held: Range | None = None
    for found in _leaves(read, (atp & PPN_MASK) << PAGE_SHIFT, mode[1] - 1, 0, 12 + 9 * mode[1]):
        if (
            held is not None
            and held.start + held.size == found.start
            and held.to + held.size == found.to
            and held.flags == found.flags
        ):
            held = Range(held.start, held.size + found.size, held.to, held.flags)
            continue
        if held is not None:
            yield held
        held = found
    if held is not None:
        yield held


def _leaves(read: Read, table: int, level: int, base: int, bits: int) -> Iterator[Range]:
    size = 1 << 12 + 9 * level
    for index in range(512):
        try:
            entry = read(table + 8 * index)
        except ValueError:
            return
        if not entry & PTE_V:
            continue
        start, to = base + index * size, (entry >> PPN_SHIFT & PPN_MASK) << PAGE_SHIFT
        if entry & PTE_LEAF:
            if start >> bits - 1 & 1:
                start |= (1 << 64) - (1 << bits)  # sign-extended
            # A and D change all the time: they part nothing.
            yield Range(start, size, to, entry & 0x3F)
        elif level:
            yield from _leaves(read, to, level - 1, start, bits)

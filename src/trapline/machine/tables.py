"""Page tables for people: which addresses they map, and where to. They are read as they are and nothing is changed.

The hart's own walker (privilege.translation) decides what happens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

MODES = {8: ("sv39", 3), 9: ("sv48", 4), 10: ("sv57", 5)}
_PPN = (1 << 44) - 1
_PAGES = ("4K", "2M", "1G", "512G", "256T")
_V, _LEAF, _FLAGS = 1, 0b1110, "VRWXUGAD"
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
        letters = "".join(c if self.flags >> n & 1 else "-" for n, c in enumerate(_FLAGS))
        return f"{self.start:016x}-{self.start + self.size - 1:016x} -> {self.to:014x} {self.size:>12x} {letters}"


def translate(read: Read, atp: int, address: int, *, stage2: bool = False) -> int:
    """Return where an address is mapped to by satp, vsatp or (stage2) hgatp; ValueError if it is not mapped."""
    return _walk(read, atp, address, stage2=stage2)[0]


def stage(name: str, read: Read, atp: int, address: int, *, stage2: bool = False) -> tuple[str, int]:
    """Say how the table in the register `name` maps an address, with the PTE's flags, and return where to."""
    mode = MODES.get(atp >> 60)
    if mode is None:
        return f"{name:5} Bare     {address:#018x}", address
    found, flags, size = _walk(read, atp, address, stage2=stage2)
    letters = "".join(c if flags >> n & 1 else "-" for n, c in enumerate(_FLAGS))
    way = f"{address:#018x} -> {found:#018x}"
    return f"{name:5} {mode[0] + ('x4' if stage2 else ''):8} {way} {_PAGES[size]:>4} {letters}", found


def _walk(read: Read, atp: int, address: int, *, stage2: bool) -> tuple[int, int, int]:
    """Return where an address is mapped to, the flags of its leaf, and the level of that."""
    mode = MODES.get(atp >> 60)
    if mode is None:
        return address, 0, 0
    name, levels = mode
    table = (atp & _PPN) << 12
    for level in range(levels - 1, -1, -1):
        width = 0x7FF if stage2 and level == levels - 1 else 0x1FF
        entry = read(table + 8 * (address >> 12 + 9 * level & width))
        if not entry & _V:
            break
        table = (entry >> 10 & _PPN) << 12
        if entry & _LEAF:
            inside = (1 << 12 + 9 * level) - 1
            return table & ~inside | address & inside, entry & 0xFF, level
    raise ValueError(f"{address:#x} is not mapped ({name}{'x4' if stage2 else ''})")


def ranges(read: Read, atp: int) -> Iterator[Range]:
    """Yield what satp or vsatp maps, neighbours joined."""
    mode = MODES.get(atp >> 60)
    if mode is None:
        return
    held: Range | None = None
    for found in _leaves(read, (atp & _PPN) << 12, mode[1] - 1, 0, 12 + 9 * mode[1]):
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
        if not entry & _V:
            continue
        start, to = base + index * size, (entry >> 10 & _PPN) << 12
        if entry & _LEAF:
            if start >> bits - 1 & 1:
                start |= (1 << 64) - (1 << bits)  # sign-extended
            # A and D change all the time: they part nothing.
            yield Range(start, size, to, entry & 0x3F)
        elif level:
            yield from _leaves(read, to, level - 1, start, bits)

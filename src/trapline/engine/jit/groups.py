"""Accesses of a block through one register, constants apart: fields of a structure, a stack frame, an unrolled copy.

Where all of them lie in the page that the region keeps for that register (jit.access), one comparison at the block's
beginning stands for those of each: the block has a second text then, in which they use the page's distance at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trapline.engine import records
from trapline.engine.jit.bases import is_access
from trapline.isa.lookup import scalar_access, written_x

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trapline.engine.jit.bases import Base
    from trapline.engine.jit.region import Block
    from trapline.isa.decode import Decoded

MOST_SPAN = 1024  # bytes: wider groups would often lie in two pages


@dataclass(frozen=True, slots=True)
class Group:
    """Accesses through a register: the first byte as an offset from its value at the block's beginning, how many bytes,
    the alignment that all of them have if the first byte has it, the slot of the kept page, and where they are.
    """

    base: int
    low: int
    span: int
    size: int
    slot: str
    places: tuple[int, ...]


def groups_of(block: Block, bases: Mapping[int, Base]) -> list[Group]:
    """The groups of two accesses and more whose register keeps its page."""
    moved: dict[int, int | None] = {}  # what was added to a register; None: it holds something else
    found: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
    for place, decoded in block.code:
        access = scalar_access(decoded.instruction) if is_access(decoded) else None
        if access is not None and access.size and place in bases and bases[place].steady and bases[place].table is None:
            base = decoded.operands["rs1"]
            by = moved.get(base, 0)
            if by is not None:
                area = records.STORE_AREA if access.is_store else records.LOAD_AREA
                found.setdefault((area, base), []).append((place, by + signed(decoded.operands["imm"]), access.size))
        target = written_x(decoded)
        if target is not None:
            moved[target] = step(decoded, target, moved.get(target, 0))
    made = [group(base, f"{area}.{base}", members) for (area, base), members in found.items()]
    return [g for g in made if g is not None]


def signed(value: int) -> int:
    """An immediate as a number with a sign."""
    return value - (1 << 64) if value >> 63 else value


def step(decoded: Decoded, register: int, before: int | None) -> int | None:
    """What was added to a register after an instruction that writes it."""
    if decoded.instruction.name != "addi" or decoded.operands.get("rs1") != register or before is None:
        return None
    return before + signed(decoded.operands["imm"])


def group(base: int, slot: str, members: list[tuple[int, int, int]]) -> Group | None:
    """The group of some accesses (place, offset, size); without those that are aligned otherwise than the widest."""
    size = max(size for _, _, size in members)
    anchor = next(offset for _, offset, width in members if width == size)
    fit = [m for m in members if (m[1] - anchor) % m[2] == 0]
    low = min(offset for _, offset, _ in fit)
    low = anchor - (anchor - low + size - 1) // size * size
    span = max(offset + width for _, offset, width in fit) - low
    if len(fit) < 2 or span > MOST_SPAN:
        return None
    return Group(base, low, span, size, slot, tuple(place for place, _, _ in fit))

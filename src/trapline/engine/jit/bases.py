"""What is known of the base registers of accesses: how an address changes from one execution to the next.

Looked at is the innermost loop around an instruction, or its block alone. A register is *steady* there if only
linear instructions of steady registers write it (an invariant, a pointer that walks through an array); it is
*chased* if it holds what was loaded, or something near it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trapline.engine.jit.look_ups import tables
from trapline.isa.lookup import plain_access, written_x
from trapline.lang.facts import Flow

if TYPE_CHECKING:
    from trapline.engine.jit.region import Region
    from trapline.isa.decode import Decoded

NEAR = frozenset({"addi", "add"})
LINEAR = frozenset("addi add sub slli addiw addw subw lui auipc sh1add sh2add sh3add add.uw slli.uw".split())
DENSITY = 10  # instructions for each access, at most, in loops that keep pages


@dataclass(frozen=True, slots=True)
class Base:
    """Of one access: whether it is probably in the page of the one before through the same register, and whether its
    address was just loaded; the register with the address of its table, if it has one."""

    steady: bool
    chased: bool
    table: int | None = None


def bases(region: Region) -> dict[int, Base]:
    """By place, what is known of the base of each access."""
    loops = natural_loops(region)
    known: dict[int, Base] = {}
    for block in region.blocks.values():
        around = [loop for loop in loops if block.start in loop]
        scope = min(around, key=len) if around else {block.start}
        steady, chased = kinds(region, scope)
        written = {written_x(found) for start in scope for _, found in region.blocks[start].code}
        look_ups = tables(block, set(range(32)) - written) if around else {}
        if not around or not is_dense(region, scope):
            steady = set()
        for place, found in block.code:
            if is_access(found):
                base = found.operands["rs1"]
                if place in look_ups and base not in steady:
                    known[place] = Base(steady=True, chased=False, table=look_ups[place])
                else:
                    known[place] = Base(base in steady, base in chased and base not in steady)
    return known


def is_dense(region: Region, scope: set[int]) -> bool:
    """Whether many of a loop's instructions are accesses: what is kept takes registers of the host."""
    code = [found for start in scope for _, found in region.blocks[start].code]
    return sum(is_access(found) for found in code) * DENSITY >= len(code)


def is_access(found: Decoded) -> bool:
    """Whether an instruction looks a page up."""
    return found.instruction.access is not None


def loads_pointer(found: Decoded) -> bool:
    """Whether an instruction loads what may be an address: an integer of 32 or 64 bits."""
    access = plain_access(found.instruction)
    return access is not None and not access.is_store and access.size >= 4


def kinds(region: Region, scope: set[int]) -> tuple[set[int], set[int]]:
    """The steady registers of some blocks, and the chased ones."""
    writes = [
        (target, found)
        for start in scope
        for _, found in region.blocks[start].code
        if (target := written_x(found)) is not None
    ]
    steady = set(range(32))
    chased = {rd for rd, found in writes if loads_pointer(found)}
    while True:
        lost = {rd for rd, found in writes if rd in steady and not stays(found, steady)}
        more = {
            rd for rd, found in writes if rd not in chased and found.instruction.name in NEAR and reads(found) & chased
        }
        if not lost and not more:
            return steady, chased
        steady -= lost
        chased |= more


def reads(found: Decoded) -> set[int]:
    """The integer registers that an instruction of LINEAR or NEAR reads."""
    return {found.operands[name] for name in ("rs1", "rs2") if name in found.operands}


def stays(found: Decoded, steady: set[int]) -> bool:
    """Whether an instruction makes a steady value of steady ones."""
    return found.instruction.name in LINEAR and reads(found) <= steady


def natural_loops(region: Region) -> list[set[int]]:
    """The blocks of each loop: those that reach a backward jump without passing its target.

    A loop that is entered in its middle would be all that leads there; it is what stands between the two.
    """
    successors = {start: region.successors(block) for start, block in region.blocks.items()}
    before: dict[int, list[int]] = {start: [] for start in region.blocks}
    for start, targets in successors.items():
        for target in targets:
            before[target].append(start)
    loops = []
    for latch, targets in successors.items():
        for head in (t for t in targets if t <= latch):
            loop = reaching(latch, head, before)
            between = {start for start in region.blocks if head <= start <= latch}
            entered = any(entry in loop for entry in region.entries() if entry != head)
            if entered and not any(calls(region.blocks[start].last) for start in between):
                loop &= between
            loops.append(loop)
    return loops


def reaching(latch: int, head: int, before: dict[int, list[int]]) -> set[int]:
    """The blocks from which control gets to one without passing another; both are among them."""
    loop, work = {head, latch}, [latch]
    while work:
        block = work.pop()
        if block == head:
            continue
        for previous in before[block]:
            if previous not in loop:
                loop.add(previous)
                work.append(previous)
    return loop


def calls(last: Decoded) -> bool:
    """Whether a block's last instruction is a jump that comes back behind it."""
    return last.instruction.flow is Flow.JUMP and written_x(last) is not None

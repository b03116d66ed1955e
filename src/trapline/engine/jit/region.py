"""Which instructions a region has: the decoded code around a hot place, inside one page.

A region is formed from decoded records' bytes (CodePage.snapshot), never from memory: it and the interpreter see
a store to code at the same fence.i.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trapline.engine.code import CodePage
    from trapline.isa.decode import Decoded

PAGE = 4096
LIMIT = 300  # instructions
RETURN_REGISTERS = (1, 5)  # ra and t0, the link registers of the calling convention


@dataclass(slots=True)
class Block:
    """Instructions that follow each other, with their page offsets; nothing jumps into their middle."""

    start: int
    code: list[tuple[int, Decoded]] = field(default_factory=list)

    @property
    def end(self) -> int:
        """The page offset behind the last instruction."""
        offset, last = self.code[-1]
        return offset + last.length

    @property
    def last(self) -> Decoded:
        """The last instruction."""
        return self.code[-1][1]


@dataclass(slots=True)
class Region:
    """Blocks by their page offsets, the one that is entered, and where calls inside come back to."""

    head: int
    blocks: dict[int, Block]
    returns: list[int]

    @property
    def size(self) -> int:
        """Instructions."""
        return sum(len(block.code) for block in self.blocks.values())

    def covered(self) -> list[tuple[int, int]]:
        """First and end offsets of the bytes that the region was made from."""
        return [(block.start, block.end) for block in self.blocks.values()]


def template_name(found: Decoded, usable: Container[str]) -> str | None:
    """Which template an instruction has, if it has one."""
    name = found.instruction.name
    if "csr" in found.operands:
        special = f"{name}@{found.operands['csr']:x}"
        if f"{special}r" in usable:
            return f"{special}r" if found.operands.get("rs1") == 0 else None
        name = special
    return name if name in usable else None


def target_of(offset: int, found: Decoded) -> int | None:
    """The offset that a branch or jal goes to, if that is in the page."""
    target = offset + found.operands["imm"]
    return target if 0 <= target < PAGE else None


def is_branch(found: Decoded) -> bool:
    """Whether this is a conditional branch."""
    return "target" in found.instruction.text and found.instruction.name != "jal"


def ends_block(found: Decoded) -> bool:
    """Whether nothing follows directly."""
    return found.instruction.name in ("jal", "jalr")


class Former:
    """Forms regions in one page."""

    def __init__(self, page: CodePage, search: Callable[[int], Decoded | None], usable: Container[str]) -> None:
        self.page, self.search, self.usable = page, search, usable
        self.found: dict[int, Decoded] = {}

    def decoded(self, offset: int) -> Decoded | None:
        """The instruction of a decoded record that a region can hold."""
        if not 0 <= offset < PAGE or not self.page.used[offset]:
            return None
        snapshot = self.page.snapshot
        bits = snapshot[offset] | snapshot[offset + 1] << 8
        if bits & 3 == 3:
            if offset + 4 > PAGE or not self.page.used[offset + 2]:
                return None
            bits |= snapshot[offset + 2] << 16 | snapshot[offset + 3] << 24
        found = self.search(bits)
        return found if found is not None and template_name(found, self.usable) is not None else None

    def form(self, head: int, limit: int = LIMIT) -> Region | None:
        """The region that is entered at an offset, or None where there is nothing to compile."""
        leaders, returns = self.explore(head, limit)
        if head not in self.found:
            return None
        blocks = {}
        for start in sorted(leaders & self.found.keys()):
            block = blocks[start] = Block(start)
            offset = start
            while offset in self.found and (offset == start or offset not in leaders):
                found = self.found[offset]
                block.code.append((offset, found))
                offset += found.length
                if ends_block(found) or is_branch(found):
                    break
        return Region(head, blocks, sorted(r for r in returns if r in blocks))

    def explore(self, head: int, limit: int) -> tuple[set[int], set[int]]:
        """Collect instructions breadth first; return where blocks begin and where calls come back to."""
        leaders, returns, work = {head}, set(), [head]
        while work:
            offset = work.pop(0)
            while offset not in self.found and len(self.found) < limit:
                found = self.decoded(offset)
                if found is None:
                    break
                self.found[offset] = found
                following = offset + found.length
                if is_branch(found) or found.instruction.name == "jal":
                    target = target_of(offset, found)
                    if target is not None:
                        leaders.add(target)
                        work.append(target)
                        if found.operands.get("rd", 0) in RETURN_REGISTERS and not is_branch(found):
                            returns.add(following)
                            leaders.add(following)
                            work.append(following)
                    if is_branch(found):
                        leaders.add(following)
                if ends_block(found):
                    break
                offset = following
        return leaders, returns

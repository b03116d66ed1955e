"""Which instructions a region has: the decoded code around a hot place, in its page and in others that it goes to.

A region is formed from what its pages held when they were found (Pages.data), where records are decoded; it is put in
only while memory still holds that. Where other pages lie is a guess at the time of compilation: each time the code
goes over to one, it looks whether the page is there (jit.ways).

A *place* is a number: the page's position in the region's list << 12, and the offset in the page.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from trapline.engine.jit import jump_table
from trapline.engine.jit.heat import PART, WHOLE, Size
from trapline.engine.jit.source import ANY, HOSTED_BIT, PAGE, SMALL_BIT, Source
from trapline.isa.lookup import changes_mode, is_branch
from trapline.lang.facts import Flow

if TYPE_CHECKING:
    from trapline.engine.jit.source import Pages
    from trapline.engine.jit.template import Template
    from trapline.isa.decode import Decoded

CALLED = 4  # places that calls through registers are compared with, at most
SWITCHED = 32  # hot places that a jump through a register is compared with, at most, where its table is not found
RETURN_REGISTERS = (1, 5)  # ra and t0, the link registers of the calling convention


@dataclass(slots=True)
class Block:
    """Instructions that follow each other, with their places; nothing jumps into their middle."""

    start: int
    code: list[tuple[int, Decoded]] = field(default_factory=list)

    @property
    def end(self) -> int:
        """The place behind the last instruction, the page's end included."""
        place, last = self.code[-1]
        return place + last.length

    @property
    def last(self) -> Decoded:
        """The last instruction."""
        return self.code[-1][1]

    @property
    def jumps(self) -> bool:
        """Whether the last instruction may go elsewhere than on."""
        return ends_block(self.last) or is_branch(self.last)


@dataclass(slots=True)
class Region:
    """Blocks by their places, the one that was sampled, and where traps and returns lead."""

    head: int
    blocks: dict[int, Block]
    returns: list[int]  # behind calls
    pages: Pages
    resumes: list[int] = field(default_factory=list)  # behind ecalls
    handlers: dict[int, int] = field(default_factory=dict)  # where ecalls go, by their places
    hosted: dict[int, int] = field(default_factory=dict)  # ecalls that a hosted level handles, and which
    entered: list[int] = field(default_factory=list)  # where returns may go, beside that
    by_mode: bool = False  # whether the code presumes the mode of the head
    called: list[int] = field(default_factory=list)  # where calls through registers may go
    switched: dict[int, list[int]] = field(default_factory=dict)  # and jumps, by their places
    small: bool = False  # whether its place is one of many

    @property
    def size(self) -> int:
        """Instructions."""
        return sum(len(block.code) for block in self.blocks.values())

    @property
    def used_pages(self) -> list[int]:
        """The positions of the pages that blocks lie in."""
        return sorted({place >> 12 for place in self.blocks})

    @property
    def page_count(self) -> int:
        """Pages up to the last one that blocks lie in."""
        return self.used_pages[-1] + 1

    @property
    def changes_mode(self) -> bool:
        """Whether there is an instruction in it after which another translation set may hold."""
        return any(changes_mode(block.last.instruction) for block in self.blocks.values())

    def source(self) -> Source:
        """The bytes that the region was made from."""
        covered = [(block.start, block.end) for block in self.blocks.values()]
        mode = self.pages.mode(0) if self.by_mode else None
        mode = ANY if mode is None else mode | HOSTED_BIT if self.hosted else mode
        return self.pages.source(self.page_count, mode | SMALL_BIT * self.small, self.entries(), covered)

    def entries(self) -> tuple[int, ...]:
        """Offsets in the first page at which the region is entered: its head, and where calls and traps come back to.

        A run ends inside a region only where an instruction leaves for code that is not in it, so
        these are the places at which the dispatcher finds itself there again. Every further entry
        makes a block begin with all registers in their places, which costs loops what they gain.
        """
        return tuple(sorted(place for place in {self.head, *self.returns, *self.resumes} if place < PAGE))

    def target(self, block: Block) -> int | None:
        """Where the block's last instruction jumps to, if that is known and in the region."""
        place, last = block.code[-1]
        target = None
        if last.instruction.name == "jalr":
            if len(block.code) > 1:
                target = far_target(self.pages, block.code[-2], block.code[-1])
        elif last.instruction.name == "ecall":
            target = self.handlers.get(place)
        elif block.jumps and not changes_mode(last.instruction):
            target = self.pages.place(place, last.operands["imm"])
        return target if target in self.blocks else None

    def may_return(self, last: Decoded) -> bool:
        """Whether a jalr can be the return of a call inside the region."""
        return bool(self.returns) and last.operands["rd"] == 0 and last.operands["rs1"] in RETURN_REGISTERS

    def may_go(self, block: Block) -> list[int]:
        """Where a jalr to an unknown place may go inside: back behind a call, to a case, to what is called."""
        place, last = block.code[-1]
        if place in self.switched:
            return self.switched[place]
        if self.may_return(last):
            return self.returns
        return self.called if last.operands["rd"] in RETURN_REGISTERS else []

    def resumed_by(self, block: Block) -> list[int]:
        """Where a return may go on: in other modes."""
        own = self.pages.family(block.start)
        return [place for place in sorted({*self.resumes, *self.entered}) if self.pages.family(place) != own]

    def mode(self, place: int) -> int | None:
        """The mode in which the code takes a place to be executed."""
        family = self.pages.family(place)
        return self.pages.mode(family) if family or self.by_mode else None

    def successors(self, block: Block) -> list[int]:
        """The blocks that control may go to."""
        last, out = block.last, []
        target = self.target(block)
        if target is not None:
            out.append(target)
        elif last.instruction.name == "jalr":
            out += self.may_go(block)
        elif last.instruction.flow is Flow.RETURN:
            out += self.resumed_by(block)
        if not ends_block(last):
            following = self.following(block)
            if following is not None:
                out.append(following)
        return [t for t in out if t in self.blocks]

    def following(self, block: Block) -> int | None:
        """The place behind a block, if its page is known."""
        place, last = block.code[-1]
        return self.pages.place(place, last.length)


def template_name(found: Decoded, usable: Container[str]) -> str | None:
    """Which template an instruction has, if it has one."""
    name = found.instruction.name
    if "csr" in found.operands:
        special = f"{name}@{found.operands['csr']:x}"
        if f"{special}r" in usable:
            return f"{special}r" if found.operands.get("rs1") == 0 else None
        name = special
    return name if name in usable else None


def far_target(pages: Pages, first: tuple[int, Decoded], second: tuple[int, Decoded]) -> int | None:
    """Where auipc and jalr through the same register go, if these are what they are."""
    (place, upper), (_, jump) = first, second
    if upper.instruction.name != "auipc" or jump.instruction.name != "jalr" or upper.operands["rd"] == 0:
        return None
    if upper.operands["rd"] != jump.operands["rs1"]:
        return None
    target = pages.place(place, upper.operands["imm"] + jump.operands["imm"])
    return None if target is None else target & ~1


def ends_block(found: Decoded) -> bool:
    """Whether nothing follows directly."""
    return found.instruction.flow is Flow.JUMP or changes_mode(found.instruction)


class Former:
    """Forms a region."""

    def __init__(self, pages: Pages, search: Callable[[int], Decoded | None], usable: Mapping[str, Template]) -> None:
        self.pages, self.search, self.usable = pages, search, usable
        self.found: dict[int, Decoded] = {}
        self.leaders: set[int] = set()
        self.returns: set[int] = set()
        self.resumes: set[int] = set()
        self.handlers: dict[int, int] = {}
        self.hosted: dict[int, int] = {}
        self.entered: set[int] = set()
        self.unknown: list[tuple[int, int]] = []  # calls through registers, and the places behind them
        self.jumps: dict[int, list[Decoded]] = {}  # jumps through registers, and what stands in front of them
        self.near: deque[int] = deque()
        self.far: deque[int] = deque()
        self.size = WHOLE

    def decoded(self, place: int) -> Decoded | None:
        """The instruction of a decoded record that a region can hold."""
        page, offset = self.pages.found[place >> 12], place & PAGE - 1
        if not page.used[offset]:
            return None
        data = self.pages.data[place >> 12]
        bits = data[offset] | data[offset + 1] << 8
        if bits & 3 == 3:
            if offset + 4 > PAGE or not page.used[offset + 2]:
                return None
            bits |= data[offset + 2] << 16 | data[offset + 3] << 24
        found = self.search(bits)
        return found if found is not None and template_name(found, self.usable) is not None else None

    def first(self, head: int) -> int:
        """The head, or the place behind an instruction there that no region can hold: the interpreter falls into it."""
        page = self.pages.found[0]
        if self.decoded(head) is None and head + 4 < PAGE and page.used[head]:
            bits = int.from_bytes(self.pages.data[0][head : head + 4], "little")
            found = self.search(bits if bits & 3 == 3 else bits & 0xFFFF)
            if found is not None and not ends_block(found):
                return head + found.length
        return head

    def form(self, head: int, size: Size = WHOLE, hot: Sequence[int] = ()) -> Region | None:
        """The region that is entered at an offset of the first page, or None where there is nothing to compile.

        `hot`: how far from there other places lie where code began that ran. Those that nothing leads to are taken
        for what is called through registers, if something is.
        """
        distances = [distance + head for distance in hot]
        head = self.first(head)
        self.leaders.add(head)
        self.near.append(head)
        self.size = size
        self.explore_all(size.usual)
        switched = self.switch(distances, size.switch) if self.jumps else {}
        called = self.call(distances, size.usual) if self.unknown else set()
        self.pages.frozen = True
        if head not in self.found:
            return None
        blocks = {start: self.block(start) for start in sorted(self.leaders & self.found.keys())}
        resumes = sorted(self.resumes & blocks.keys())
        returns = sorted(self.returns & blocks.keys())
        handlers = {place: to for place, to in self.handlers.items() if to in blocks}
        entered = sorted(self.entered & blocks.keys())
        by_mode = bool(handlers or self.hosted or entered) or self.depends_on_mode()
        inner = {place: kept for place, to in switched.items() if (kept := sorted(blocks.keys() & set(to)))}
        called &= blocks.keys()
        return Region(
            head, blocks, returns, self.pages, resumes, handlers, self.hosted, entered, by_mode, sorted(called), inner,
            size is PART,
        )  # fmt: skip

    def explore_all(self, limit: int) -> None:
        """Collect what is reached. What other pages hold comes last: the loop around the head must not lack a part."""
        while self.near or self.far:
            self.explore(self.near.popleft() if self.near else self.far.popleft(), limit)

    def switch(self, distances: list[int], limit: int) -> dict[int, list[int]]:
        """Take where jumps through registers may go: the cases of their tables, else hot places nothing leads to."""
        switched: dict[int, list[int]] = {}
        hot: list[int] = []
        while (place := next((place for place in self.jumps if place not in switched), None)) is not None:
            to = jump_table.targets(self.pages, self.jumps[place], (place, self.found[place]), self.search)
            if not to:
                hot = hot or [p for d in distances if (p := self.pages.place(0, d)) is not None and p not in self.found]
                to = hot[:SWITCHED]
            switched[place] = to
            for target in to:
                self.lead(place, target)
            self.explore_all(limit)
        return switched

    def call(self, distances: list[int], limit: int) -> set[int]:
        """Take places that nothing leads to, so far from the first page's beginning, for what is called."""
        places = [place for distance in distances if (place := self.pages.place(0, distance)) is not None]
        if self.found.keys() >= set(places):
            return set()
        for call, following in self.unknown:  # which grows meanwhile
            self.returns.add(following)
            self.lead(call, following)
            self.explore_all(limit)
        called = [place for place in places if place not in self.found][:CALLED]
        for place in called:
            self.lead(0, place)
        self.explore_all(limit)
        return set(called)

    def depends_on_mode(self) -> bool:
        """Whether there is code that depends on the head's mode, which is known."""
        return self.pages.mode(0) is not None and any(self.template(found).reads_mode for found in self.found.values())

    def template(self, found: Decoded) -> Template:
        """The template of an instruction that has one."""
        name = template_name(found, self.usable)
        assert name is not None
        return self.usable[name]

    def block(self, start: int) -> Block:
        """The instructions from a leader on."""
        block, place = Block(start), start
        while place in self.found and (place == start or place not in self.leaders):
            found = self.found[place]
            block.code.append((place, found))
            place += found.length
            if block.jumps or place & PAGE - 1 == 0:
                break
        return block

    def lead(self, source: int, target: int | None) -> None:
        """Blocks begin there; look on from there later."""
        if target is None:
            return
        self.leaders.add(target)
        (self.near if target >> 12 == source >> 12 else self.far).append(target)

    def explore(self, place: int, limit: int) -> None:
        """Collect instructions from a place on."""
        before: tuple[int, Decoded] | None = None
        straight: list[Decoded] = []
        while len(self.found) < (self.size.straight if before else limit):
            if place in self.found:
                # Two ways of reading overlapping bytes may meet again: an instruction is in one block only.
                self.leaders.add(place)
                return
            found = self.decoded(place)
            if found is None:
                return
            self.found[place] = found
            following = self.pages.place(place, found.length) if place & PAGE - 1 == PAGE - found.length else None
            following = place + found.length if place & PAGE - 1 < PAGE - found.length else following
            self.jump(place, found, before, following)
            if self.is_switch(found, before):
                self.jumps[place] = straight
            straight.append(found)
            if ends_block(found) or following is None:
                return
            if following >> 12 != place >> 12:
                self.lead(place, following)
                return
            before = place, found
            place = following

    def is_switch(self, found: Decoded, before: tuple[int, Decoded] | None) -> bool:
        """Whether a jump goes through a register, and is neither a call nor a return."""
        if found.instruction.name != "jalr" or found.operands["rd"] != 0 or found.operands["rs1"] in RETURN_REGISTERS:
            return False
        return before is None or before[1].instruction.name != "auipc"

    def jump(self, place: int, found: Decoded, before: tuple[int, Decoded] | None, following: int | None) -> None:
        """Look at where an instruction may go."""
        name, target = found.instruction.name, None
        if is_branch(found) or name == "jal":
            target = self.pages.place(place, found.operands["imm"])
        elif name == "jalr" and before is not None:
            target = far_target(self.pages, before, (place, found))
        elif name == "ecall":
            target = self.pages.handler(place)
            if (level := self.pages.hosted(place)) is not None and following is not None:
                self.hosted[place] = level
                self.resumes.add(following)
                self.lead(place, following)
        elif found.instruction.flow is Flow.RETURN:
            self.entered.update(to := self.pages.returns(place))
            for somewhere in to:
                self.lead(place, somewhere)
        self.lead(place, target)
        if name == "jalr" and target is None and following is not None and found.operands["rd"] in RETURN_REGISTERS:
            self.unknown.append((place, following))
        if is_branch(found):
            self.lead(place, following)
        elif target is not None and following is not None:
            if name == "ecall":
                self.handlers[place] = target
                self.resumes.add(following)
                self.lead(place, following)
            elif found.operands.get("rd", 0) in RETURN_REGISTERS:
                self.returns.add(following)
                self.lead(place, following)

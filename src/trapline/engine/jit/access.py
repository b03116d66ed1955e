"""How a region finds the page of an access: host address minus address, for the `find` of a template.

The plain way is that of the interpreter: the page's tag in the translation set, then the distance behind it. Two
shorter ones stand before it, where they are likely to be right:

* the page of an access before, through the same base register, kept in the region (`jit.bases` says where);
* where nearly all pages that the guest has cached lie at one distance (no paging, or a kernel's own mapping), the
  distance of the last one: the look-up only has to agree, so an address that was just loaded is not held up by it.

What is kept lives no longer than one stay in the region, and a change of mode forgets it: fences are never inside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trapline.engine import records
from trapline.engine.compiler.fast_access import FAR, RARE_CALL, SPLIT
from trapline.engine.jit.bases import Base
from trapline.engine.jit.source import PAGE
from trapline.engine.llvm import LIKELY, STATE, STEADY, Builder, Flag, Pointer, Word, words
from trapline.engine.llvm_lines import FIND
from trapline.lang.state.words import LAYOUT

if TYPE_CHECKING:
    from trapline.engine.jit.groups import Group
    from trapline.isa.decode import Decoded

NO_PAGE = -1
UNKNOWN = Base(steady=False, chased=False)
LINEAR = Pointer("%linear")  # the slot of the last distance
TLB, ATTEMPTS = Pointer("%tlb"), Pointer("%ic")


def page_of(slot: str) -> Pointer:
    """The slot for the address of a page that is kept."""
    return Pointer(f"%page.{slot}")


def far_of(slot: str) -> Pointer:
    """The slot for its distance."""
    return Pointer(f"%far.{slot}")


@dataclass(slots=True)
class LookUp:
    """One `find`: a stem for labels and where to go without the page, the name of the distance; address, size, area."""

    label: str
    out: str
    name: str
    va: Word
    size: int
    area: int
    splits: bool  # whether the access may lie across two entries
    position: int  # of the instruction in its block
    base: Base
    slot: str

    @property
    def is_rare(self) -> bool:
        """Whether there is a way to the distance where the page's entry does not match."""
        return self.splits or self.area == records.LOAD_AREA


class Accesses:
    """The accesses of one region."""

    def __init__(self, known: dict[int, Base], *, linear: bool) -> None:
        self.linear = linear
        self.bases = known
        self.kept: set[str] = set()  # area and base register of the accesses that keep their page

    def slots(self) -> list[Pointer]:
        """The slots for what is kept."""
        pages = [of(slot) for slot in sorted(self.kept) for of in (page_of, far_of)]
        return [*pages, LINEAR] if self.linear else pages

    def forget(self, b: Builder) -> None:
        """Forget what is kept."""
        for slot in sorted(self.kept):
            b.write(NO_PAGE, page_of(slot))
        if self.linear:
            b.write(0, LINEAR)

    def expand(self, b: Builder, text: str, place: int, found: Decoded, position: int) -> str:
        """Replace `find` in an instruction's text; `position` is its number in the block."""
        label = ""
        moved: dict[str, str] = {}
        for line in text.split("\n"):
            match = FIND.match(line)
            if match is None:
                if line.endswith(":"):
                    label = line[:-1]
                for before, after in moved.items():
                    line = line.replace(f"%{before} ]", f"%{after} ]")
                b.lines.append(line)
                continue
            unique = f"i{place:x}.find{len(moved)}"
            name, va, size, area, splits = match.groups()
            base = self.bases.get(place, UNKNOWN)
            slot = f"{area}.{found.operands['rs1']}" if base.table is None else f"{area}.t{base.table}"
            out, last = f"out{place:x}", splits == "1"
            self.find(b, LookUp(unique, out, name, Word(va), int(size), int(area), last, position, base, slot))
            moved[label] = f"{unique}.on"
            label = moved[label]
        return b.taken()

    def direct(self, b: Builder, text: str, slot: str) -> str:
        """Replace `find` by the distance of the kept page, in which the access is known to lie (jit.groups)."""
        self.kept.add(slot)
        for line in text.split("\n"):
            if match := FIND.match(line):
                b.called(match[1], b.read, far_of(slot))
            else:
                b.take(line)
        return b.taken()

    def is_kept(self, b: Builder, group: Group) -> Flag:
        """Whether all of a group lies in the kept page and is aligned."""
        va = b.add(b.read(f"%x{group.base}"), group.low)
        same = b.compare("eq", b.mask(va, -PAGE | (group.size - 1)), b.read(page_of(group.slot)))
        return b.flags("and", same, b.compare("ule", b.mask(va, PAGE - 1), PAGE - group.span))

    def find(self, b: Builder, look: LookUp) -> None:
        """The text of one look-up; it ends in the block `LABEL.on` with the distance in its name."""
        on, found = f"{look.label}.on", f"{look.label}.found"
        wanted = b.mask(look.va, -PAGE | (look.size - 1))
        ways = [self.kept_page(b, look, wanted)] if look.base.steady else []
        at = b.mask(b.lshr(look.va, 8), (records.DATA_ENTRIES - 1) * records.DATA_BYTES)
        entry = b.at(b.at(TLB, at), look.area)
        hit = b.compare("eq", b.load(entry, 16, STEADY), wanted)
        miss = f"{look.label}.miss"
        b.branch(hit, found, miss if look.is_rare else look.out, LIKELY)
        if look.is_rare:
            b.begin(miss)
            rare = self.rare(b, look)
            b.branch(b.compare("eq", rare, 0), look.out, on)
            ways.append((rare, miss))
        b.begin(found)
        far = b.load(b.at(entry, records.DATA_FAR), 8, STEADY)
        if look.base.steady:
            b.write(b.mask(look.va, -PAGE), page_of(look.slot))
            b.write(far, far_of(look.slot))
        if self.linear and look.base.chased:
            ways += [(self.agree(b, look, far), found), (far, f"{look.label}.other")]
        else:
            ways.append((far, found))
        b.goto(on)
        b.begin(on)
        b.called(look.name, b.phi, *ways)

    def kept_page(self, b: Builder, look: LookUp, wanted: Word) -> tuple[Word, str]:
        """Use the kept page's distance, if the access lies there; go on with the look-up otherwise."""
        self.kept.add(look.slot)
        again, onward = f"{look.label}.again", f"{look.label}.look"
        b.branch(b.compare("eq", wanted, b.read(page_of(look.slot))), again, onward, LIKELY)
        b.begin(again)
        last = b.read(far_of(look.slot))
        b.goto(f"{look.label}.on")
        b.begin(onward)
        return last, again

    @staticmethod
    def rare(b: Builder, look: LookUp) -> Word:
        """The distance where the page's entry does not match, or 0."""
        name, last = SPLIT, Word(str(look.area))
        if look.area == records.LOAD_AREA:
            base = b.load(b.at(STATE, LAYOUT.fields["ic_base"].index * 8))
            name, last = FAR, b.add(b.sub(base, b.read(ATTEMPTS)), look.position)
        given = f"ptr {STATE}, {words(look.va, look.size, last)}"
        return Word(b.call(f"@p.{name}", "i64", given, convention=f"{RARE_CALL} "))

    @staticmethod
    def agree(b: Builder, look: LookUp, far: Word) -> Word:
        """Use the last distance if the look-up agrees; keep the new one otherwise."""
        line, other = b.read(LINEAR), f"{look.label}.other"
        b.branch(b.compare("eq", far, line), f"{look.label}.on", other, LIKELY)
        b.begin(other)
        b.write(far, LINEAR)
        return line

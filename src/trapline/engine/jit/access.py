"""How a region finds the page of an access: host address minus address, for the `find` of a template.

The plain way is that of the interpreter: the page's tag in the translation set, then the distance behind it. Two
shorter ones stand before it, where they are likely to be right:

* the page of an access before, through the same base register, kept in the region (`jit.bases` says where);
* where nearly all pages that the guest has cached lie at one distance (no paging, or a kernel's own mapping), the
  distance of the last one: the look-up only has to agree, so an address that was just loaded is not held up by it.

What is kept lives no longer than one stay in the region, and a change of mode forgets it: fences are never inside.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from trapline.engine import records
from trapline.engine.compiler.fast_access import FAR, RARE_CALL, SPLIT
from trapline.engine.jit.bases import Base, bases
from trapline.engine.jit.source import PAGE
from trapline.lang.state.words import LAYOUT

if TYPE_CHECKING:
    from trapline.engine.jit.groups import Group
    from trapline.engine.jit.region import Region
    from trapline.isa.decode import Decoded

NO_PAGE = -1
UNKNOWN = Base(steady=False, chased=False)
_FIND = re.compile(r"  (%\S+) = (?:tail )?call i64 @find\(i64 (\S+), i64 (\d+), i64 (\d+), i64 (\d+)\)")


class Accesses:
    """The accesses of one region."""

    def __init__(self, region: Region, *, linear: bool) -> None:
        self.linear = linear
        self.bases = bases(region)
        self.kept: set[str] = set()  # area and base register of the accesses that keep their page

    def slots(self) -> list[str]:
        """Names of the slots for what is kept."""
        pages = [f"{what}.{slot}" for slot in sorted(self.kept) for what in ("page", "far")]
        return [*pages, "linear"] if self.linear else pages

    def forget(self) -> list[str]:
        """Lines that forget what is kept."""
        lines = [f"  store i64 {NO_PAGE}, ptr %page.{slot}" for slot in sorted(self.kept)]
        return [*lines, "  store i64 0, ptr %linear"] if self.linear else lines

    def expand(self, text: str, place: int, found: Decoded, position: int) -> str:
        """Replace `find` in an instruction's text; `position` is its number in the block."""
        lines: list[str] = []
        label = ""
        moved: dict[str, str] = {}
        for line in text.split("\n"):
            match = _FIND.match(line)
            if match is None:
                if line.endswith(":"):
                    label = line[:-1]
                for before, after in moved.items():
                    line = line.replace(f"%{before} ]", f"%{after} ]")
                lines.append(line)
                continue
            unique = f"i{place:x}.find{len(moved)}"
            name, va, size, area, splits = match.groups()
            base = self.bases.get(place, UNKNOWN)
            slot = f"{area}.{found.operands['rs1']}" if base.table is None else f"{area}.t{base.table}"
            rare = self.rare(unique, va, int(size), int(area), splits == "1", position)
            lines += self.find(unique, f"out{place:x}", name, va, int(size), int(area), rare, base, slot)
            moved[label] = f"{unique}.on"
            label = moved[label]
        return "\n".join(lines)

    @staticmethod
    def rare(u: str, va: str, size: int, area: int, splits: bool, position: int) -> list[str]:
        """How a distance is found for which the page's entry does not match, if there is such a way."""
        if area != records.LOAD_AREA:
            call = f"  %{u}.rare = call {RARE_CALL} i64 @p.{SPLIT}(ptr %st, i64 {va}, i64 {size}, i64 {area})"
            return [call] if splits else []
        return [
            f"  %{u}.b = getelementptr inbounds i8, ptr %st, i64 {LAYOUT.fields['ic_base'].index * 8}",
            f"  %{u}.base = load i64, ptr %{u}.b, align 8",
            f"  %{u}.ic = load i64, ptr %ic",
            f"  %{u}.then = sub i64 %{u}.base, %{u}.ic",
            f"  %{u}.now = add i64 %{u}.then, {position}",
            f"  %{u}.rare = call {RARE_CALL} i64 @p.{FAR}(ptr %st, i64 {va}, i64 {size}, i64 %{u}.now)",
        ]

    def direct(self, text: str, slot: str) -> str:
        """Replace `find` by the distance of the kept page, in which the access is known to lie (jit.groups)."""
        self.kept.add(slot)
        return _FIND.sub(rf"  \1 = load i64, ptr %far.{slot}", text)

    def is_kept(self, group: Group) -> list[str]:
        """Whether all of a group lies in the kept page and is aligned: text that ends in `%kept.SLOT`."""
        g, last = f"kept.{group.slot}", PAGE - group.span
        return [
            f"  %{g}.b = load i64, ptr %x{group.base}",
            f"  %{g}.va = add i64 %{g}.b, {group.low}",
            f"  %{g}.w = and i64 %{g}.va, {-PAGE | (group.size - 1)}",
            f"  %{g}.page = load i64, ptr %page.{group.slot}",
            f"  %{g}.same = icmp eq i64 %{g}.w, %{g}.page",
            f"  %{g}.o = and i64 %{g}.va, {PAGE - 1}",
            f"  %{g}.fits = icmp ule i64 %{g}.o, {last}",
            f"  %{g} = and i1 %{g}.same, %{g}.fits",
        ]

    def find(
        self, u: str, out: str, name: str, va: str, size: int, area: int, rare: list[str], base: Base, slot: str
    ) -> list[str]:
        """The text of one look-up; it ends in the block `u.on` with the distance in `name`."""
        lines = [f"  %{u}.w = and i64 {va}, {-4096 | (size - 1)}"]
        ways = []
        if base.steady:
            self.kept.add(slot)
            lines.append(f"  %{u}.page = load i64, ptr %page.{slot}")
            lines.append(f"  %{u}.same = icmp eq i64 %{u}.w, %{u}.page")
            lines.append(f"  br i1 %{u}.same, label %{u}.again, label %{u}.look, !prof !0")
            lines += [f"{u}.again:", f"  %{u}.last = load i64, ptr %far.{slot}", f"  br label %{u}.on", f"{u}.look:"]
            ways.append(f"[ %{u}.last, %{u}.again ]")
        lines.append(f"  %{u}.s = lshr i64 {va}, 8")
        lines.append(f"  %{u}.i = and i64 %{u}.s, {(records.DATA_ENTRIES - 1) * records.DATA_BYTES}")
        lines.append(f"  %{u}.t = getelementptr inbounds i8, ptr %tlb, i64 %{u}.i")
        lines.append(f"  %{u}.e = getelementptr inbounds i8, ptr %{u}.t, i64 {area}")
        lines.append(f"  %{u}.tag = load i64, ptr %{u}.e, align 16, !invariant.load !5")
        lines.append(f"  %{u}.hit = icmp eq i64 %{u}.tag, %{u}.w")
        miss = f"{u}.miss" if rare else out
        lines.append(f"  br i1 %{u}.hit, label %{u}.found, label %{miss}, !prof !0")
        if rare:
            lines += [f"{u}.miss:", *rare, f"  %{u}.no = icmp eq i64 %{u}.rare, 0"]
            lines.append(f"  br i1 %{u}.no, label %{out}, label %{u}.on")
            ways.append(f"[ %{u}.rare, %{u}.miss ]")
        lines.append(f"{u}.found:")
        lines.append(f"  %{u}.d = getelementptr inbounds i8, ptr %{u}.e, i64 {records.DATA_FAR}")
        lines.append(f"  %{u}.far = load i64, ptr %{u}.d, align 8, !invariant.load !5")
        if base.steady:
            lines.append(f"  %{u}.whole = and i64 {va}, -4096")
            lines.append(f"  store i64 %{u}.whole, ptr %page.{slot}")
            lines.append(f"  store i64 %{u}.far, ptr %far.{slot}")
        if self.linear and base.chased:
            lines += self.agree(u)
            ways.append(f"[ %{u}.line, %{u}.found ]")
            ways.append(f"[ %{u}.far, %{u}.other ]")
            return [*lines, f"{u}.on:", f"  {name} = phi i64 {', '.join(ways)}"]
        lines.append(f"  br label %{u}.on")
        ways.append(f"[ %{u}.far, %{u}.found ]")
        return [*lines, f"{u}.on:", f"  {name} = phi i64 {', '.join(ways)}"]

    @staticmethod
    def agree(u: str) -> list[str]:
        """Use the last distance if the look-up agrees; keep the new one otherwise."""
        return [
            f"  %{u}.line = load i64, ptr %linear",
            f"  %{u}.agrees = icmp eq i64 %{u}.far, %{u}.line",
            f"  br i1 %{u}.agrees, label %{u}.on, label %{u}.other, !prof !0",
            f"{u}.other:",
            f"  store i64 %{u}.far, ptr %linear",
            f"  br label %{u}.on",
        ]

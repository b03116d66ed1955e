"""The ways of a region's control: to its own blocks, over to other pages, and out.

Where a region has one page, nothing about pages stands in its code: the words of the page that runs (`code_table`,
`code_k`, `code_host`) are right all the time. With several, each page has three values, its virtual address
(`%base`, all ones while it is not known), the set in which it was found (`%in`, if the region changes modes) and its
host address; the words are written where a page is left by one of its records. Going over to a page whose address
is known in the set of now needs one comparison; otherwise the fetch entry has to hold the page's own table.
"""

from __future__ import annotations

from trapline.engine.jit.access import Accesses
from trapline.engine.jit.inexact import merged_if_clear
from trapline.engine.jit.region import Block, Region
from trapline.engine.jit.source import PAGE
from trapline.engine.jit.template import PLAIN_STATE
from trapline.engine.llvm import CC, LIKELY, UNLIKELY, Builder
from trapline.engine.records import FETCH_AREA, FETCH_BYTES, FETCH_ENTRIES, FETCH_HOST, FETCH_TABLE
from trapline.lang.state.words import LAYOUT

Register = tuple[str, int]


COMPARED = 4  # places that a jump is compared with one by one, at most
HASHED = 32  # bits of the product by which it is found among more


def slot_of(offset: int, factor: int, bits: int) -> int:
    """Where an offset stands in a table of cases."""
    return offset * factor >> HASHED - bits & (1 << bits) - 1


def hashed(offsets: list[int]) -> tuple[int, int]:
    """A factor and the bits of a slot that give each offset a slot of its own, in a small table."""
    bits, factor = len(offsets).bit_length(), 0x9E3779B1
    while True:
        for _ in range(256):
            if len({slot_of(offset, factor, bits) for offset in offsets}) == len(offsets):
                return factor, bits
            factor = (factor * 0x915F77F5 + 2) & 0xFFFFFFFF | 1
        bits += 1


class Ways:
    """Text of the ways; `lines` are the blocks, `tails` what they branch to."""

    accesses: Accesses

    def __init__(self, region: Region) -> None:
        self.region = region
        self.pages = region.used_pages
        self.entries = region.entries()
        self.changes_mode = region.changes_mode
        self.several = len(self.pages) > 1 or self.changes_mode
        self.lines: list[str] = []
        self.tails: list[str] = []
        self.doubles: set[int] = set()  # floating-point registers that are kept as such
        self.looks_plain = False  # whether there is floating point that presumes PLAIN_STATE
        self.held: frozenset[int] = frozenset()  # offsets of words of the state that have slots (jit.held)
        self.n = 0

    # --- text ---
    def emit(self, text: str) -> None:
        self.lines.append("  " + text)

    def tail(self, text: str) -> None:
        self.tails.append("  " + text)

    def name(self, stem: str = "%n") -> str:
        self.n += 1
        return f"{stem}{self.n}"

    def tail_label(self, stem: str) -> str:
        """Begin a block of the tails."""
        label = self.name(stem)
        self.tails.append(f"{label}:")
        return label

    @staticmethod
    def field(lines: list[str], name: str, unique: str, index: int = 0) -> str:
        """A pointer to a word of the state."""
        pointer = f"%{unique}.{name}"
        lines.append(f"  {pointer} = getelementptr inbounds i8, ptr %st, i64 {(LAYOUT.fields[name].index + index) * 8}")
        return pointer

    def slot(self, lines: list[str], name: str, unique: str) -> str:
        """A pointer to a word as the region has it: its slot, if it is held."""
        index = LAYOUT.fields[name].index
        return f"%w{index}" if index * 8 in self.held else self.field(lines, name, unique)

    def put(self, name: str, unique: str, operand: str, type_: str = "i64") -> None:
        """Store to a word of the state."""
        self.tail(f"store {type_} {operand}, ptr {self.field(self.tails, name, unique)}, align 8")

    def type_of(self, register: Register) -> str:
        """The type of a register's slot."""
        return "double" if register[0] == "f" and register[1] in self.doubles else "i64"

    @staticmethod
    def offset(register: Register) -> int:
        """Where a register, or a word that is held, has its place in the state."""
        bank, number = register
        return (number if bank == "w" else LAYOUT.fields[bank].index + number) * 8

    def spill(self, registers_: set[Register], unique: str) -> None:
        """Write registers, held words and what the host knows of NX back to the state."""
        if self.looks_plain:
            self.tails += merged_if_clear(unique)
        for bank, number in sorted(registers_):
            value = f"%{unique}.{bank}{number}"
            type_ = self.type_of((bank, number))
            self.tail(f"{value} = load {type_}, ptr %{bank}{number}")
            self.tail(f"{value}.p = getelementptr inbounds i8, ptr %st, i64 {self.offset((bank, number))}")
            self.tail(f"store {type_} {value}, ptr {value}.p, align 8")

    def set_of_now(self, unique: str) -> str:
        """The translation set: a parameter, or a slot where the region changes modes."""
        if not self.changes_mode:
            return "%tlb"
        self.tail(f"%{unique}.tlb = load ptr, ptr %set")
        return f"%{unique}.tlb"

    def tail_call(self, target: str, rec: str, ic: str, unique: str) -> None:
        tlb = self.set_of_now(unique)
        if self.held:
            self.put("tlb_ptr", f"{unique}.now", tlb, "ptr")
        self.tail(f"musttail call {CC} void {target}(ptr %st, ptr {rec}, i64 {ic}, ptr {tlb})")
        self.tail("ret void")

    def note_mode(self, unique: str) -> None:
        """Say in which mode the run that begins there is: a sample tells it, and a region presumes it."""
        for name in ("priv", "virt"):
            self.tail(f"%{unique}.{name}.v = load i64, ptr {self.slot(self.tails, name, unique)}")
        self.tail(f"%{unique}.above = shl i64 %{unique}.virt.v, 2")
        self.tail(f"%{unique}.now = or i64 %{unique}.above, %{unique}.priv.v")
        self.put("run_mode", f"{unique}.put", f"%{unique}.now")

    # --- where things are ---
    def table(self, page: int, unique: str) -> str:
        """Host address of a page's records."""
        if page == 0:
            return "%table0"
        self.tail(f"%{unique}.t = load i64, ptr getelementptr (i8, ptr @region, i64 {-8 * page})")
        return f"%{unique}.t"

    def base(self, page: int, unique: str, lines: list[str] | None = None) -> str:
        """Virtual address of a page."""
        if not self.several:
            return "%pc0"
        (self.tails if lines is None else lines).append(f"  %{unique}.b = load i64, ptr %base{page}")
        return f"%{unique}.b"

    def pc(self, place: int, unique: str, lines: list[str] | None = None) -> str:
        """The virtual address of a place whose page is known."""
        base = self.base(place >> 12, unique, lines)
        (self.tails if lines is None else lines).append(f"  %{unique}.pc = add i64 {base}, {place & PAGE - 1}")
        return f"%{unique}.pc"

    def record(self, page: int, unique: str, offset: str | int, *, begins: bool = False) -> str:
        """The record at a byte offset of a page's records, and the words of that page; `begins`: a run begins there."""
        table = self.table(page, unique)
        if self.several:
            base = self.base(page, unique)
            self.tail(f"%{unique}.q = lshr i64 {table}, 3")
            self.tail(f"%{unique}.k = sub i64 {base}, %{unique}.q")
            self.tail(f"%{unique}.host = load i64, ptr %host{page}")
            self.put("code_table", unique, table)
            self.put("code_k", unique, f"%{unique}.k")
            self.put("code_host", unique, f"%{unique}.host")
        self.tail(f"%{unique}.a = add i64 {table}, {offset}")
        self.tail(f"%{unique}.r = inttoptr i64 %{unique}.a to ptr")
        if begins or self.several:
            self.put("run_start", unique, f"%{unique}.r", "ptr")
        if self.changes_mode:
            self.note_mode(f"{unique}.mode")
        return f"%{unique}.r"

    # --- out ---
    def leave_by_record(self, page: int, offset: int, dirty: set[Register]) -> str:
        """Label of a way out to the record of an offset of a page; 4096 is the page's end."""
        label = self.tail_label("rec")
        self.spill(dirty, label)
        rec = self.record(page, label, offset * 8, begins=True)
        self.tail(f"%{label}.h = load ptr, ptr {rec}, align 8")
        self.tail(f"%{label}.ic = load i64, ptr %ic")
        self.tail_call(f"%{label}.h", rec, f"%{label}.ic", label)
        return label

    def leave_by_pc(self, function: str, dirty: set[Register], place: int | None = None) -> str:
        """Label of a way out to `%to`, or to a place of a known page, through one of the joints."""
        label = self.tail_label("goto")
        self.spill(dirty, label)
        if place is None:
            self.tail(f"%{label}.pc = load i64, ptr %to")
            pc = f"%{label}.pc"
        else:
            pc = self.pc(place, label)
        self.put("next_pc", label, pc)
        self.tail(f"%{label}.f = load ptr, ptr {self.field(self.tails, function, label)}, align 8")
        self.tail(f"%{label}.ic = load i64, ptr %ic")
        self.tail_call(f"%{label}.f", "%rec", f"%{label}.ic", label)
        return label

    def in_budget(self, label: str, spent: str, onward: str) -> None:
        """Go on, or leave where the budget is spent."""
        self.tail(f"%{label}.ic = load i64, ptr %ic")
        self.tail(f"%{label}.spent = icmp slt i64 %{label}.ic, 0")
        self.tail(f"br i1 %{label}.spent, label %{spent}, label %{onward}{UNLIKELY}")

    # --- on ---
    def go(self, source: int, target: int, dirty: set[Register]) -> str:
        """Label that continues at a place after the block's instructions are counted."""
        if source >> 12 != target >> 12:
            return self.cross(source, target, dirty)
        inside = target in self.region.blocks
        onward = f"b{target:x}" if inside else self.leave_by_record(target >> 12, target & PAGE - 1, dirty)
        if target > source:
            return onward
        spent = self.leave_by_pc("fn_budget", dirty, target)
        label = self.tail_label("back")
        self.in_budget(label, spent, onward)
        return label

    def cross(self, source: int, target: int, dirty: set[Register]) -> str:
        """Label that continues in another page of the same family, so many pages away."""
        distance = self.region.pages.where[target >> 12][1] - self.region.pages.where[source >> 12][1]
        way = self.leave_by_pc("fn_goto", dirty)
        if target in self.region.blocks:
            way = self.enter([target], dirty, way)
        label = self.tail_label("cross")
        base = self.base(source >> 12, label)
        self.tail(f"%{label}.pc = add i64 {base}, {distance * PAGE + (target & PAGE - 1)}")
        self.tail(f"store i64 %{label}.pc, ptr %to")
        self.tail(f"br label %{way}")
        return label

    def enter(self, targets: list[int], dirty: set[Register], elsewhere: str) -> str:
        """Label that goes to the block that begins at `%to`, if it is one of these, within the budget."""
        by_page: dict[int, list[int]] = {}
        for target in targets:
            by_page.setdefault(target >> 12, []).append(target)
        onward = elsewhere
        for page, places in by_page.items():
            onward = self.enter_page(page, places, onward)
        label = self.tail_label("enter")
        self.in_budget(label, elsewhere, onward)
        return label

    def enter_page(self, page: int, places: list[int], elsewhere: str) -> str:
        """Label that goes to the block at `%to` in a page, if it is one of these."""
        label = self.name("page")
        found, probe = f"{label}.on", f"{label}.probe"
        self.tails.append(f"{label}:")
        self.tail(f"%{label}.pc = load i64, ptr %to")
        self.tail(f"%{label}.page = and i64 %{label}.pc, {-PAGE}")
        base = self.base(page, label)
        same = f"%{label}.same"
        self.tail(f"{same} = icmp eq i64 {base}, %{label}.page")
        if self.changes_mode:
            self.tail(f"%{label}.in = load ptr, ptr %in{page}")
            tlb = self.set_of_now(label)
            self.tail(f"{same}.set = icmp eq ptr %{label}.in, {tlb}")
            self.tail(f"{same}.both = and i1 {same}, {same}.set")
            same += ".both"
        self.tail(f"br i1 {same}, label %{found}, label %{probe if self.several else elsewhere}")
        if self.several:
            self.probe(page, label, elsewhere)
        self.tails.append(f"{found}:")
        self.tail(f"%{label}.o = and i64 %{label}.pc, {PAGE - 1}")
        if len(places) > COMPARED and self.region.switched:
            self.choose_case(label, places, elsewhere)
            return label
        cases = " ".join(f"i64 {place & PAGE - 1}, label %b{place:x}" for place in places)
        self.tail(f"switch i64 %{label}.o, label %{elsewhere} [ {cases} ]")
        return label

    def choose_case(self, label: str, places: list[int], elsewhere: str) -> None:
        """Go on at the one of many places that is at `%LABEL.o`, by one jump through a table and one comparison."""
        factor, bits = hashed([place & PAGE - 1 for place in places])
        self.tail(f"%{label}.product = mul i64 %{label}.o, {factor}")
        self.tail(f"%{label}.up = lshr i64 %{label}.product, {HASHED - bits}")
        self.tail(f"%{label}.slot = and i64 %{label}.up, {(1 << bits) - 1}")
        cases = " ".join(f"i64 {slot_of(place & PAGE - 1, factor, bits)}, label %{label}.{place:x}" for place in places)
        self.tail(f"switch i64 %{label}.slot, label %{elsewhere} [ {cases} ]")
        for place in places:
            self.tails.append(f"{label}.{place:x}:")
            self.tail(f"%{label}.{place:x}.is = icmp eq i64 %{label}.o, {place & PAGE - 1}")
            self.tail(f"br i1 %{label}.{place:x}.is, label %b{place:x}, label %{elsewhere}{LIKELY}")

    def probe(self, page: int, label: str, elsewhere: str) -> None:
        """Look whether the page is where `%to` points."""
        self.tails.append(f"{label}.probe:")
        tlb = f"%{label}.tlb" if self.changes_mode else "%tlb"
        self.tail(f"%{label}.x = lshr i64 %{label}.pc, 7")
        self.tail(f"%{label}.i = and i64 %{label}.x, {(FETCH_ENTRIES - 1) * FETCH_BYTES}")
        self.tail(f"%{label}.s = getelementptr inbounds i8, ptr {tlb}, i64 %{label}.i")
        self.tail(f"%{label}.e = getelementptr inbounds i8, ptr %{label}.s, i64 {FETCH_AREA}")
        self.tail(f"%{label}.tag = load i64, ptr %{label}.e, align 16")
        self.tail(f"%{label}.hit = icmp eq i64 %{label}.tag, %{label}.page")
        self.tail(f"br i1 %{label}.hit, label %{label}.look, label %{elsewhere}{LIKELY}")
        self.tails.append(f"{label}.look:")
        self.tail(f"%{label}.tp = getelementptr inbounds i8, ptr %{label}.e, i64 {FETCH_TABLE}")
        self.tail(f"%{label}.has = load i64, ptr %{label}.tp, align 8")
        table = self.table(page, label)
        self.tail(f"%{label}.ours = icmp eq i64 %{label}.has, {table}")
        self.tail(f"br i1 %{label}.ours, label %{label}.take, label %{elsewhere}{LIKELY}")
        self.tails.append(f"{label}.take:")
        self.tail(f"%{label}.hp = getelementptr inbounds i8, ptr %{label}.e, i64 {FETCH_HOST}")
        self.tail(f"%{label}.h = load i64, ptr %{label}.hp, align 8")
        self.tail(f"store i64 %{label}.h, ptr %host{page}")
        self.tail(f"store i64 %{label}.page, ptr %base{page}")
        if self.changes_mode:
            self.tail(f"store ptr {tlb}, ptr %in{page}")
        self.tail(f"br label %{label}.on")

    def change_mode(self, targets: list[int], dirty: set[Register], *, leaves: bool) -> str:
        """Label that goes on at `%to` in the context of now; `leaves`: unless a hosted mode wants out."""
        onward = away = self.leave_by_pc("fn_goto", dirty)
        by_mode: dict[int, list[int]] = {}
        for target in targets:
            if (mode := self.region.mode(target)) is not None:
                by_mode.setdefault(mode, []).append(target)
        for mode, places in by_mode.items():
            way = self.enter(places, dirty, away)
            label = self.tail_label("in")
            self.tails += self.compare_mode(mode, label)
            self.tail(f"br i1 %{label}.same, label %{way}, label %{onward}{LIKELY}")
            onward = label
        search = self.leave_by_pc("fn_resume", dirty)
        label = self.tail_label("mode")
        if leaves:
            self.tail(f"%{label}.asks = load i64, ptr {self.field(self.tails, 'attention', label)}")
            self.tail(f"%{label}.leave = icmp ne i64 %{label}.asks, 0")
            self.tail(f"br i1 %{label}.leave, label %{search}, label %{label}.stay{UNLIKELY}")
            self.tails.append(f"{label}.stay:")
        self.tail(f"%{label}.n = load i64, ptr {self.slot(self.tails, 'ctx_now', label)}")
        sets = self.field(self.tails, "ctx_set", label)
        self.tail(f"%{label}.p = getelementptr inbounds ptr, ptr {sets}, i64 %{label}.n")
        self.tail(f"%{label}.set = load ptr, ptr %{label}.p, align 8")
        self.tail(f"%{label}.none = icmp eq ptr %{label}.set, null")
        self.tail(f"br i1 %{label}.none, label %{search}, label %{label}.on{UNLIKELY}")
        self.tails.append(f"{label}.on:")
        self.tail(f"store ptr %{label}.set, ptr %set")
        if not self.held:
            self.put("tlb_ptr", f"{label}.on", f"%{label}.set", "ptr")
        b = Builder(f"%{label}-")
        self.accesses.forget(b)
        self.tails += [*b.lines, *self.look_plain(label)]
        self.tail(f"br label %{onward}")
        return label

    def look_plain(self, unique: str) -> list[str]:
        """Note in `%plain` whether floating point is as templates presume (PLAIN_STATE)."""
        lines: list[str] = []
        if not self.looks_plain:
            return lines
        state = {name: value for name, value in PLAIN_STATE.items() if name != "inexact_known"}  # jit.inexact
        for name, value in state.items():
            pointer = self.field(lines, name, f"{unique}.plain")
            lines.append(f"  {pointer}.v = load i64, ptr {pointer}, align 8")
            lines.append(f"  {pointer}.d = xor i64 {pointer}.v, {value}")
        found = [f"%{unique}.plain.{name}.d" for name in state]
        for i, other in enumerate(found[1:]):
            lines.append(f"  %{unique}.plain{i} = or i64 {found[0] if i == 0 else f'%{unique}.plain{i - 1}'}, {other}")
        lines.append(f"  %{unique}.plain.is = icmp eq i64 %{unique}.plain{len(found) - 2}, 0")
        return [*lines, f"  store i1 %{unique}.plain.is, ptr %plain"]

    def compare_mode(self, mode: int, unique: str, *, at_entry: bool = False) -> list[str]:
        """Whether the hart is in a mode: `%unique.same`."""
        lines: list[str] = []
        for name, value in (("priv", mode & 3), ("virt", mode >> 2)):
            pointer = self.field(lines, name, unique) if at_entry else self.slot(lines, name, unique)
            lines.append(f"  %{unique}.{name}.v = load i64, ptr {pointer}, align 8")
            lines.append(f"  %{unique}.{name}.is = icmp eq i64 %{unique}.{name}.v, {value}")
        lines.append(f"  %{unique}.same = and i1 %{unique}.priv.is, %{unique}.virt.is")
        return lines

    def give_up(self, block: Block, dirty: set[Register], places: list[tuple[int, int]]) -> None:
        """The ways out of a block's instructions that give up: (place, what `ic` still lacks)."""
        label, entries = f"up{block.start:x}", self.entries
        for place, correction in places:
            self.tails.append(f"out{place:x}:")
            self.tail(f"store i64 {correction}, ptr %out.ic")
            if place in entries:
                # Its record leads here again.
                self.tail(f"br label %{label}.head")
                continue
            self.tail(f"store i64 {(place & PAGE - 1) * 8}, ptr %out.rec")
            self.tail(f"br label %{label}")
        if any(place in entries for place, _ in places):
            self.tails.append(f"{label}.head:")
            self.spill(dirty, f"{label}.head")
            rec = self.record(0, f"{label}.head", block.start * 8)
            own = self.own_handler(self.tails, rec, f"{label}.own")
            self.tail_call(own, rec, self.corrected(f"{label}.head"), f"{label}.head")
        if any(place not in entries for place, _ in places):
            self.tails.append(f"{label}:")
            self.spill(dirty, label)
            self.tail(f"%{label}.o = load i64, ptr %out.rec")
            rec = self.record(block.start >> 12, label, f"%{label}.o")
            self.tail(f"%{label}.h = load ptr, ptr {rec}, align 8")
            self.tail_call(f"%{label}.h", rec, self.corrected(label), label)

    def own_handler(self, lines: list[str], rec: str, unique: str) -> str:
        """The interpreter's handler of a record, whatever stands in its place (CodeArea.stub)."""
        low, high = self.field(lines, "jit_low", unique), self.field(lines, "jit_high", unique)
        lines += [
            f"  %{unique}.now = load i64, ptr {rec}, align 8",
            f"  %{unique}.from = load i64, ptr {low}, align 8",
            f"  %{unique}.to = load i64, ptr {high}, align 8",
            f"  %{unique}.at = sub i64 %{unique}.now, %{unique}.from",
            f"  %{unique}.size = sub i64 %{unique}.to, %{unique}.from",
            f"  %{unique}.stub = icmp ult i64 %{unique}.at, %{unique}.size",
            f"  %{unique}.before = add i64 %{unique}.now, -8",
            f"  %{unique}.word = inttoptr i64 %{unique}.before to ptr",
            f"  %{unique}.place = select i1 %{unique}.stub, ptr %{unique}.word, ptr {rec}",
            f"  %{unique}.h = load ptr, ptr %{unique}.place, align 8",
        ]
        return f"%{unique}.h"

    def corrected(self, unique: str) -> str:
        """The instructions left, as the one that gives up finds them."""
        self.tail(f"%{unique}.d = load i64, ptr %out.ic")
        self.tail(f"%{unique}.ic0 = load i64, ptr %ic")
        self.tail(f"%{unique}.ic = add i64 %{unique}.ic0, %{unique}.d")
        return f"%{unique}.ic"

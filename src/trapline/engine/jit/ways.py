"""The ways of a region's control: to its own blocks, over to other pages, and out.

Where a region has one page, nothing about pages stands in its code: the words of the page that runs (`code_table`,
`code_k`, `code_host`) are right all the time. With several, each page has three values, its virtual address
(`%base`, all ones while it is not known), the set in which it was found (`%in`, if the region changes modes) and its
host address; the words are written where a page is left by one of its records. Going over to a page whose address
is known in the set of now needs one comparison; otherwise the fetch entry has to hold the page's own table.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from trapline.engine.compiler.fast_access import RARE_CALL, SAMPLE
from trapline.engine.jit.access import Accesses
from trapline.engine.jit.inexact import merged_if_clear
from trapline.engine.jit.region import Block, Region
from trapline.engine.jit.source import PAGE
from trapline.engine.jit.template import PLAIN_STATE
from trapline.engine.llvm import LIKELY, STATE, UNLIKELY, Builder, Flag, Operand, Pointer, Word, beside, words
from trapline.engine.records import FETCH_AREA, FETCH_BYTES, FETCH_ENTRIES, FETCH_HOST, FETCH_TABLE
from trapline.lang.state.words import LAYOUT

Register = tuple[str, int]
TLB, REC, TABLE, PC = Pointer("%tlb"), Pointer("%rec"), Word("%table0"), Word("%pc0")
# Slots: what is left of the budget, the translation set of now, a jump's target; of a way out, the record and what
# `ic` lacks; whether floating point is as presumed.
IC, SET, TO, OUT_REC, OUT_IC, AS_PRESUMED = "%ic", "%set", "%to", "%out.rec", "%out.ic", "%plain"

COMPARED = 4  # places that a jump is compared with one by one, at most
HASHED = 32  # bits of the product by which it is found among more
ONLY_STATE = " nounwind willreturn memory(argmem: readwrite)"  # what a sample may change


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
    """Text of the ways."""

    accesses: Accesses
    cold: dict[str, int]  # numbers of the C functions in `cold_function`

    def __init__(self, region: Region) -> None:
        self.region = region
        self.pages = region.used_pages
        self.entries = region.entries()
        self.changes_mode = region.changes_mode
        self.several = len(self.pages) > 1 or self.changes_mode
        self.code = Builder("%c")  # the blocks
        self.tails = Builder("%t")  # what they branch to
        self.doubles: set[int] = set()  # floating-point registers that are kept as such
        self.looks_plain = False  # whether there is floating point that presumes PLAIN_STATE
        self.held: frozenset[int] = frozenset()  # offsets of words of the state that have slots (jit.held)
        self.in_state = False  # whether registers stay in the state: then a way out is shared by all who take it
        self.shared: dict[tuple[object, ...], str] = {}
        self.n = 0

    # --- text ---
    def name(self, stem: str) -> str:
        self.n += 1
        return f"{stem}.{self.n}"  # no slot is called like that: LLVM's blocks and values share their names

    def tail_label(self, stem: str) -> str:
        """Begin a block of the tails."""
        label = self.name(stem)
        self.tails.begin(label)
        return label

    @staticmethod
    def field(b: Builder, name: str, index: int = 0) -> Pointer:
        """A pointer to a word of the state."""
        return b.at(STATE, (LAYOUT.fields[name].index + index) * 8)

    def slot(self, b: Builder, name: str) -> Pointer:
        """A pointer to a word as the region has it: its slot, if it is held."""
        index = LAYOUT.fields[name].index
        return Pointer(f"%w{index}") if index * 8 in self.held else self.field(b, name)

    def put(self, name: str, word: Word) -> None:
        """Store to a word of the state."""
        self.tails.store(word, self.field(self.tails, name))

    def put_pointer(self, name: str, pointer: Pointer) -> None:
        """Store a pointer to a word of the state."""
        self.tails.store_pointer(pointer, self.field(self.tails, name))

    def type_of(self, register: Register) -> str:
        """The type of a register's slot."""
        return "double" if register[0] == "f" and register[1] in self.doubles else "i64"

    @staticmethod
    def offset(register: Register) -> int:
        """Where a register, or a word that is held, has its place in the state."""
        bank, number = register
        return (number if bank == "w" else LAYOUT.fields[bank].index + number) * 8

    def spill(self, registers_: set[Register], label: str) -> None:
        """Write registers, held words and what the host knows of NX back to the state."""
        if self.in_state:
            return
        b = self.tails
        if self.looks_plain:
            merged_if_clear(b, label)
        for register in sorted(registers_):
            bank, number = register
            type_ = self.type_of(register)
            value = b.read(f"%{bank}{number}", type_)
            b.store_as(type_, value, b.at(STATE, self.offset(register)))

    def set_of_now(self) -> Pointer:
        """The translation set: a parameter, or a slot where the region changes modes."""
        return self.tails.read_pointer(SET) if self.changes_mode else TLB

    def tail_call(self, target: str, rec: Pointer, ic: Word) -> None:
        tlb = self.set_of_now()
        if self.held:
            self.put_pointer("tlb_ptr", tlb)
        self.tails.go_on(target, rec, ic, tlb)

    def note_mode(self) -> None:
        """Say in which mode the run that begins there is: a sample tells it, and a region presumes it."""
        b = self.tails
        priv, virt = (b.read(self.slot(b, name)) for name in ("priv", "virt"))
        self.put("run_mode", b.either(b.shl(virt, 2), priv))

    # --- where things are ---
    def table(self, page: int) -> Word:
        """Host address of a page's records."""
        return self.tails.read(beside("@region", -8 * page)) if page else TABLE

    def base(self, page: int, b: Builder) -> Word:
        """Virtual address of a page."""
        return b.read(f"%base{page}") if self.several else PC

    def pc(self, place: int) -> Word:
        """The virtual address of a place whose page is known."""
        return self.tails.add(self.base(place >> 12, self.tails), place & PAGE - 1)

    def record(self, page: int, offset: Operand, *, begins: bool = False) -> Pointer:
        """The record at a byte offset of a page's records, and the words of that page; `begins`: a run begins there."""
        b = self.tails
        table = self.table(page)
        if self.several:
            base = self.base(page, b)
            k, host = b.sub(base, b.lshr(table, 3)), b.read(f"%host{page}")
            self.put("code_table", table)
            self.put("code_k", k)
            self.put("code_host", host)
        rec = b.pointer(b.add(table, offset))
        if begins or self.several:
            self.put_pointer("run_start", rec)
        if self.changes_mode:
            self.note_mode()
        return rec

    # --- out ---
    def out(self, way: tuple[object, ...], dirty: set[Register], leave: Callable[[], None]) -> str:
        """Label of the end of a way out, which `leave` writes behind the registers."""
        if not (self.in_state and way in self.shared):
            self.shared[way] = label = self.tail_label("leave")
            self.spill(dirty, label)
            leave()
        return self.shared[way]

    def leave_by_record(self, page: int, offset: int, dirty: set[Register]) -> str:
        """Label of a way out to the record of an offset of a page; 4096 is the page's end."""
        out = self.out(("record", page), dirty, functools.partial(self.to_record, page, gives_up=False))
        label = self.tail_label("rec")
        self.tails.write(offset * 8, OUT_REC)
        self.tails.goto(out)
        return label

    def to_record(self, page: int, *, gives_up: bool) -> None:
        """Go on by the record of a page whose place is in `%out.rec`; `gives_up`: that of what could not be done."""
        rec = self.record(page, self.tails.read(OUT_REC), begins=not gives_up)
        self.tail_call(self.tails.load_pointer(rec), rec, self.corrected() if gives_up else self.tails.read(IC))

    def leave_by_pc(self, function: str, dirty: set[Register], place: int | None = None) -> str:
        """Label of a way out to `%to`, or to a place of a known page, through one of the joints."""
        out = self.out((function,), dirty, functools.partial(self.to_joint, function))
        if place is None:
            return out
        label = self.tail_label("goto")
        self.tails.write(self.pc(place), TO)
        self.tails.goto(out)
        return label

    def to_joint(self, function: str) -> None:
        """Go on at `%to` through one of the joints."""
        self.put("next_pc", self.tails.read(TO))
        self.tail_call(self.tails.load_pointer(self.field(self.tails, function)), REC, self.tails.read(IC))

    def in_budget(self, spent: str, onward: str) -> None:
        """Go on, or leave where the budget is spent."""
        b = self.tails
        b.branch(b.compare("slt", b.read(IC), 0), spent, onward, UNLIKELY)

    def sampled(self, spent: str, onward: str) -> None:
        """The same for a loop: where a sample is due it is taken here, and the loop goes on."""
        if self.in_state:
            self.in_budget(spent, onward)
            return
        b, label = self.tails, self.name("sample")
        self.in_budget(label, onward)
        b.begin(label)
        function = b.load_pointer(self.field(b, "cold_function", self.cold[f"p.{SAMPLE}"]))
        given = f"ptr {STATE}, {words(b.read(IC))}"
        b.write(b.call(function, "i64", given, convention=f"{RARE_CALL} ", more=ONLY_STATE), IC)
        self.in_budget(spent, onward)

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
        self.sampled(spent, onward)
        return label

    def cross(self, source: int, target: int, dirty: set[Register]) -> str:
        """Label that continues in another page of the same family, so many pages away."""
        distance = self.region.pages.where[target >> 12][1] - self.region.pages.where[source >> 12][1]
        way = self.leave_by_pc("fn_goto", dirty)
        if target in self.region.blocks:
            way = self.enter([target], dirty, way)
        b, label = self.tails, self.tail_label("cross")
        b.write(b.add(self.base(source >> 12, b), distance * PAGE + (target & PAGE - 1)), TO)
        b.goto(way)
        return label

    def enter(self, targets: list[int], dirty: set[Register], elsewhere: str) -> str:
        """Label that goes to the block that begins at `%to`, if it is one of these, within the budget."""
        way = ("enter", *targets, elsewhere)
        if self.in_state and way in self.shared:
            return self.shared[way]
        by_page: dict[int, list[int]] = {}
        for target in targets:
            by_page.setdefault(target >> 12, []).append(target)
        onward = elsewhere
        for page, places in by_page.items():
            onward = self.enter_page(page, places, onward)
        label = self.shared[way] = self.tail_label("enter")
        self.in_budget(elsewhere, onward)
        return label

    def enter_page(self, page: int, places: list[int], elsewhere: str) -> str:
        """Label that goes to the block at `%to` in a page, if it is one of these."""
        way = ("page", page, *places, elsewhere)
        if self.in_state and way in self.shared:
            return self.shared[way]
        b, label = self.tails, self.tail_label("page")
        self.shared[way] = label
        found, probe = f"{label}.on", f"{label}.probe"
        pc = b.read(TO)
        first = b.mask(pc, -PAGE)
        same = b.compare("eq", self.base(page, b), first)
        tlb = TLB
        if self.changes_mode:
            known = b.read_pointer(f"%in{page}")
            tlb = self.set_of_now()
            same = b.flags("and", same, b.same_place(known, tlb))
        b.branch(same, found, probe if self.several else elsewhere)
        if self.several:
            self.probe(page, label, pc, first, tlb, elsewhere)
        b.begin(found)
        offset = b.mask(pc, PAGE - 1)
        if len(places) > COMPARED and self.region.switched:
            self.choose_case(label, places, offset, elsewhere)
        else:
            b.switch(offset, [(place & PAGE - 1, f"b{place:x}") for place in places], elsewhere)
        return label

    def choose_case(self, label: str, places: list[int], offset: Word, elsewhere: str) -> None:
        """Go on at the one of many places that is at an offset, by one jump through a table and one comparison."""
        b = self.tails
        factor, bits = hashed([place & PAGE - 1 for place in places])
        slot = b.mask(b.lshr(b.mul(offset, factor), HASHED - bits), (1 << bits) - 1)
        b.switch(slot, [(slot_of(p & PAGE - 1, factor, bits), f"{label}.{p:x}") for p in places], elsewhere)
        for place in places:
            b.begin(f"{label}.{place:x}")
            b.branch(b.compare("eq", offset, place & PAGE - 1), f"b{place:x}", elsewhere, LIKELY)

    def probe(self, page: int, label: str, pc: Word, first: Word, tlb: Pointer, elsewhere: str) -> None:
        """Look whether the page is where `%to` points, and note where it is."""
        b = self.tails
        b.begin(f"{label}.probe")
        at = b.mask(b.lshr(pc, 7), (FETCH_ENTRIES - 1) * FETCH_BYTES)
        entry = b.at(b.at(tlb, at), FETCH_AREA)
        b.branch(b.compare("eq", b.load(entry, 16), first), f"{label}.look", elsewhere, LIKELY)
        b.begin(f"{label}.look")
        has = b.load(b.at(entry, FETCH_TABLE))
        b.branch(b.compare("eq", has, self.table(page)), f"{label}.take", elsewhere, LIKELY)
        b.begin(f"{label}.take")
        b.write(b.load(b.at(entry, FETCH_HOST)), f"%host{page}")
        b.write(first, f"%base{page}")
        if self.changes_mode:
            b.write(tlb, f"%in{page}", "ptr")
        b.goto(f"{label}.on")

    def change_mode(self, targets: list[int], dirty: set[Register], *, leaves: bool) -> str:
        """Label that goes on at `%to` in the context of now; `leaves`: unless a hosted mode wants out."""
        onward = away = self.leave_by_pc("fn_goto", dirty)
        by_mode: dict[int, list[int]] = {}
        for target in targets:
            if (mode := self.region.mode(target)) is not None:
                by_mode.setdefault(mode, []).append(target)
        b = self.tails
        for mode, places in by_mode.items():
            way = self.enter(places, dirty, away)
            label = self.tail_label("in")
            b.branch(self.compare_mode(b, mode), way, onward, LIKELY)
            onward = label
        search = self.leave_by_pc("fn_resume", dirty)
        label = self.tail_label("mode")
        if leaves:
            asks = b.read(self.field(b, "attention"))
            b.branch(b.compare("ne", asks, 0), search, f"{label}.stay", UNLIKELY)
            b.begin(f"{label}.stay")
        now = b.read(self.slot(b, "ctx_now"))
        tlb = b.load_pointer(b.item(self.field(b, "ctx_set"), now, "ptr"))
        b.branch(b.is_null(tlb), search, f"{label}.on", UNLIKELY)
        b.begin(f"{label}.on")
        b.write(tlb, SET, "ptr")
        if not self.held:
            self.put_pointer("tlb_ptr", tlb)
        self.accesses.forget(b)
        self.look_plain(b)
        b.goto(onward)
        return label

    def look_plain(self, b: Builder) -> None:
        """Note in `%plain` whether floating point is as templates presume (PLAIN_STATE)."""
        if not self.looks_plain:
            return
        state = {name: value for name, value in PLAIN_STATE.items() if name != "inexact_known"}  # jit.inexact
        found = [b.differ(b.load(self.field(b, name)), value) for name, value in state.items()]
        b.write(b.compare("eq", functools.reduce(b.either, found), 0), AS_PRESUMED, "i1")

    def compare_mode(self, b: Builder, mode: int, *, at_entry: bool = False) -> Flag:
        """Whether the hart is in a mode."""
        place = self.field if at_entry else self.slot
        priv = b.compare("eq", b.load(place(b, "priv")), mode & 3)
        return b.flags("and", priv, b.compare("eq", b.load(place(b, "virt")), mode >> 2))

    def give_up(self, block: Block, dirty: set[Register], places: list[tuple[int, int]]) -> None:
        """The ways out of a block's instructions that give up: (place, what `ic` still lacks)."""
        b, label, entries = self.tails, f"up{block.start:x}", self.entries
        up = ""
        if any(place not in entries for place, _ in places):
            page = block.start >> 12
            up = self.out(("up", page), dirty, functools.partial(self.to_record, page, gives_up=True))
        for place, correction in places:
            b.begin(f"out{place:x}")
            b.write(correction, OUT_IC)
            if place in entries:
                # Its record leads here again.
                b.goto(f"{label}.head")
                continue
            b.write((place & PAGE - 1) * 8, OUT_REC)
            b.goto(up)
        if any(place in entries for place, _ in places):
            b.begin(f"{label}.head")
            self.spill(dirty, f"{label}.head")
            rec = self.record(0, block.start * 8)
            self.tail_call(self.own_handler(b, rec), rec, self.corrected())

    def own_handler(self, b: Builder, rec: Pointer) -> Pointer:
        """The interpreter's handler of a record, whatever stands in its place (CodeArea.stub)."""
        low, high = self.field(b, "jit_low"), self.field(b, "jit_high")
        now, first, end = b.load(rec), b.load(low), b.load(high)
        is_stub = b.compare("ult", b.sub(now, first), b.sub(end, first))
        return b.load_pointer(b.choose(is_stub, b.pointer(b.add(now, -8)), rec))

    def corrected(self) -> Word:
        """The instructions left, as the one that gives up finds them."""
        lacks = self.tails.read(OUT_IC)
        return self.tails.add(self.tails.read(IC), lacks)

"""A region as the text of one LLVM function, put together from templates.

The function has a handler's signature and is entered through the records of its entries. Registers are stack slots that
LLVM turns into values; what a path may have written goes back to the hart's state where it leaves the region:
`out` when an instruction gives up (the interpreter repeats it from its record), by the next record, by next_pc
when the target is elsewhere (`fn_goto`), or when the budget is spent (`fn_budget`). The ways are in `jit.ways`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from trapline.engine.compiler.fast_access import COLD_CALL, FAR, SPLIT
from trapline.engine.compiler.text import to_i64
from trapline.engine.jit.access import Accesses
from trapline.engine.jit.bases import bases
from trapline.engine.jit.doubles import as_doubles, doubles
from trapline.engine.jit.groups import groups_of
from trapline.engine.jit.held import compare_words, held_words, hold, moved
from trapline.engine.jit.inexact import MX, MXCSR, cleared, cleared_if_clear, may_overshoot, merged, merged_if_clear
from trapline.engine.jit.intrinsics import declaration
from trapline.engine.jit.prune import pruned
from trapline.engine.jit.region import Block, Region, ends_block, template_name
from trapline.engine.jit.rotates import ROTATE, Rotates
from trapline.engine.jit.source import PAGE, prefix_words
from trapline.engine.jit.template import HOSTED, PLAIN, PRESUMED
from trapline.engine.jit.ways import AS_PRESUMED, IC, OUT_IC, OUT_REC, PC, REC, SET, TABLE, TLB, TO, Register, Ways
from trapline.engine.llvm import CC, LIKELY, STATE, Builder, Flag, Word, defined, signature
from trapline.engine.llvm_lines import STORES, called_through, renamed
from trapline.engine.records import X0_SINK
from trapline.isa.lookup import changes_mode
from trapline.lang.facts import Flow
from trapline.lang.state.words import LAYOUT
from trapline.privilege.modes import MODE_HS, MODE_M, MODE_VS, TO_HS, TO_M, TO_VS, USER

if TYPE_CHECKING:
    from trapline.engine.jit.groups import Group
    from trapline.engine.jit.template import Template
    from trapline.isa.decode import Decoded

SIGNATURE = "ptr noalias %st", "ptr noalias %rec", "i64 %ic0", "ptr noalias %tlb"
RARELY = {"_soft": " cold", "dirty": " cold"}  # how the names of functions end that are called where all else fails
DESTINATIONS = {MODE_M: TO_M, MODE_HS: TO_HS, MODE_VS: TO_VS}
NO_UNWIND = " nounwind willreturn"  # of a look-up of a page
NO_WRITES = f"{NO_UNWIND} memory(read, inaccessiblemem: readwrite)"
NOWHERE = {("x", 0), ("x", X0_SINK)}  # registers of which the state knows nothing
SLOTS = ("%x", "%f", "%w")  # of registers, and of words of the state that are held
_TLB = re.compile(r"%tlb\b")
TRAILER = """!0 = !{!"branch_weights", i32 2000, i32 1}
!1 = !{!"branch_weights", i32 1, i32 2000}
!2 = distinct !{!2}
!3 = distinct !{!3, !2}
!4 = !{!3}
!5 = !{}
"""


def operands_of(found: Decoded) -> dict[str, int]:
    """Operands as a template wants them: signed decimals, and x0 as a target out of sight."""
    fields = {name: to_i64(found.operands.get(name, 0)) for name in found.instruction.operands}
    if fields.get("rd") == 0 and not found.instruction.is_float("rd"):
        fields["rd"] = X0_SINK
    return fields


def overshoots(found: Decoded) -> bool:
    """Whether PE may be wrong behind an instruction (jit.inexact)."""
    return may_overshoot(found.instruction.name, found.operands.get("rm"))


def registers(text: str) -> tuple[set[Register], set[Register]]:
    """Registers that an instance of a template names, and those that it writes."""
    used, written = set(), set()
    for word in text.split():
        if word.startswith(SLOTS) and word.rstrip(",")[2:].isdigit():
            used.add((word[1], int(word.rstrip(",")[2:])))
    for line in text.split("\n"):
        if line.startswith(STORES):
            word = line.rsplit(" ", 1)[1]
            if word.startswith(SLOTS) and word[2:].isdigit():
                written.add((word[1], int(word[2:])))
    return used, written


class Translator(Ways):
    """Writes one region."""

    def __init__(
        self,
        region: Region,
        templates: dict[str, Template],
        cold: dict[str, int],
        *,
        linear: bool = False,
        plain: bool = False,
    ) -> None:
        super().__init__(region)
        self.plain = plain
        self.doubles = doubles(region)
        self.templates, self.cold = templates, cold
        self.used: set[Register] = set()
        self.intrinsics: set[str] = set()
        self.written: dict[int, set[Register]] = {}
        self.held = self.may_hold()
        self.in_state = region.small and not self.held and not self.has_plain()
        self.accesses = Accesses({} if self.in_state else bases(region), linear=linear and not self.in_state)
        self.instances = {start: self.instantiate(block) for start, block in region.blocks.items()}
        self.dirty = self.flow()

    def trap_destination(self, place: int) -> int:
        """Where a call goes that stays in the region."""
        handler = self.region.handlers.get(place)
        if place in self.region.hosted:
            return self.region.hosted[place]
        return TO_M if handler is None else DESTINATIONS[self.region.pages.mode(self.region.pages.family(handler)) or 0]

    def may_hold(self) -> frozenset[int]:
        """The words of the state that are held, where a call, its handler and the return are all inside."""
        region = self.region
        if not (region.handlers and region.resumes) and not (region.hosted and region.entered):
            return frozenset()
        code = (pair for block in self.region.blocks.values() for pair in block.code)
        return held_words(self.pruned(self.template(place, found), place) for place, found in code)

    def has_plain(self) -> bool:
        """Whether there is floating point that presumes PLAIN_STATE."""
        code = (pair for block in self.region.blocks.values() for pair in block.code)
        return any(self.presumes_plain(found, self.template(place, found)) for place, found in code)

    def pruned(self, template: Template, place: int) -> str:
        """The text of a template for a place whose mode is presumed, without what cannot happen there."""
        mode = self.mode_fields(place)
        return pruned(template.text, str(mode["priv"]), str(mode["virt"]), str(self.trap_destination(place)))

    # --- instructions ---
    def template(self, place: int, found: Decoded) -> Template:
        """The template of an instruction that the region holds."""
        name = template_name(found, self.templates)
        assert name is not None
        if place in self.region.handlers:
            name += PRESUMED
        elif place in self.region.hosted:
            name += HOSTED
        elif self.plain and name + PLAIN in self.templates:
            name += PLAIN
        return self.templates[name]

    def instantiate(self, block: Block) -> list[str]:
        """The text of each instruction, and which registers the block names and writes."""
        texts = []
        written: set[Register] = set()
        rotates = Rotates()
        for position, (place, found) in enumerate(block.code):
            text = rotates.text(place, found, self.instance(place, found, position))
            if f"@{ROTATE}(" in text:
                self.intrinsics.add(ROTATE)
            used, wrote = registers(text)
            self.used |= used
            written |= wrote
            texts.append(text)
        self.written[block.start] = written - NOWHERE
        return texts

    def instance(self, place: int, found: Decoded, position: int, slot: str = "") -> str:
        """The text of one instruction; with a slot, of one whose access lies in the page that is kept there."""
        template = self.template(place, found)
        self.intrinsics.update(template.intrinsics)
        b = Builder(f"%i{place:x}-")
        fields: dict[str, object] = dict(operands_of(found))
        fields |= {"p": f"i{place:x}.", "pc": f"%pc{place:x}.pc", "next": f"%nx{place:x}.pc", "now": f"%now{place:x}"}
        fields |= {"on": f"on{place:x}", "out": f"out{place:x}", **self.mode_fields(place)}
        fields["to"] = self.trap_destination(place)
        text = template.text
        if self.held:
            text = hold(self.pruned(template, place), self.held)
        text = text.format_map(fields)
        if slot:
            text = self.accesses.direct(b, text, slot)
        elif "@find(" in text:
            text = self.accesses.expand(b, text, place, found, position)
        plain = self.presumes_plain(found, template)
        if plain:
            text = self.presume_plain(b, text, place, overshoots=overshoots(found))
        for name in (*template.cold, SPLIT, FAR):
            if f"@p.{name}(" in text:
                text = self.cold_calls(b, text, name, raises=plain and not overshoots(found))
        if self.changes_mode:
            text = _TLB.sub(f"%tlb{place:x}", text)
        return as_doubles(b, text, self.doubles)

    def presumes_plain(self, found: Decoded, template: Template) -> bool:
        """Whether the template presumes PLAIN_STATE."""
        return template is self.templates.get(f"{found.instruction.name}{PLAIN}")

    def presume_plain(self, b: Builder, text: str, place: int, *, overshoots: bool) -> str:
        """Give up where floating point is not as the template presumes."""
        self.looks_plain = True
        self.intrinsics.update(MXCSR)
        p, first = f"i{place:x}", text[: text.index(":")]
        b.begin(f"{p}.plain")
        b.branch(Flag(b.read(AS_PRESUMED, "i1")), f"{p}.nx" if overshoots else first, f"out{place:x}", LIKELY)
        if overshoots:
            b.begin(f"{p}.nx")
            merged_if_clear(b, p)
            b.goto(first)
        b.take(text)
        return b.taken()

    def mode_fields(self, place: int) -> dict[str, object]:
        """The mode before an instruction: numbers where it is presumed."""
        mode = self.region.mode(place)
        if mode is None:
            return {"priv": f"%priv{place:x}", "virt": f"%virt{place:x}"}
        return {"priv": mode & 3, "virt": mode >> 2}

    def cold_calls(self, b: Builder, text: str, name: str, *, raises: bool) -> str:
        """Call a cold function through its word in the state; `raises`: among operations that the host keeps NX of."""
        finds = name in (SPLIT, FAR)
        for line in text.split("\n"):
            if f"@p.{name}(" not in line:
                b.lines.append(line)
                continue
            function = b.load_pointer(self.field(b, "cold_function", self.cold[f"p.{name}"]))
            if self.held:
                b.store_pointer(TLB, self.field(b, "tlb_ptr"))
            if finds:
                b.lines.append(called_through(line, name, function, NO_WRITES if name == SPLIT else NO_UNWIND))
                continue
            moved(b, self.held, back=False)
            if raises:
                merged(b)
            more = f" nounwind{RARELY.get(name[-5:], '')}"
            b.lines.append(called_through(line, name, function, more, convention=COLD_CALL))
            moved(b, self.held, back=True)
            if raises:
                cleared(b)
        return b.taken()

    def flow(self) -> dict[int, set[Register]]:
        """By block: the registers that may differ from the state when it begins."""
        dirty: dict[int, set[Register]] = {start: set() for start in self.region.blocks}
        work = [*self.entries]
        seen: set[int] = set()
        while work:
            start = work.pop()
            seen.add(start)
            after = dirty[start] | self.written[start]
            for target in self.region.successors(self.region.blocks[start]):
                if target not in seen or not after <= dirty[target]:
                    dirty[target] |= after
                    work.append(target)
        return dirty

    # --- blocks ---
    def block(self, block: Block) -> None:
        """One block: its instructions, the count, and where it goes."""
        b, here = self.code, f"{block.start:x}"
        dirty = self.dirty[block.start] | self.written[block.start]
        b.begin(f"b{here}")
        straight = len(block.code) - block.jumps
        groups = groups_of(block, self.accesses.bases)
        slots = {place: group.slot for group in groups for place in group.places}
        texts = self.instances[block.start]
        if slots:
            self.choose(block, groups)
            direct = [
                self.instance(place, found, position, slots[place]) if place in slots else texts[position]
                for position, (place, found) in enumerate(block.code)
            ]
            b.lines, before = [], b.lines
            b.begin(f"all{here}")
            self.straight(block, direct[:straight])
            b.goto(f"then{here}")
            b.lines, again = before, b.lines
            b.lines += renamed(again, keep=f"all{here}")
            b.begin(f"each{here}")
        self.straight(block, texts[:straight])
        if slots:
            b.goto(f"then{here}")
            b.begin(f"then{here}")
        places = [(p, -n) for n, (p, _) in enumerate(block.code[:straight]) if f"%out{p:x}" in texts[n]]
        b.write(b.sub(b.read(IC), len(block.code)), IC)
        if block.jumps:
            place, found = block.code[-1]
            self.needs(texts[-1], place, found, -1)
            b.goto(texts[-1][: texts[-1].index(":")])
            if f"%out{place:x}" in texts[-1]:
                places.append((place, 1))
            self.jumping(texts[-1], block, dirty)
            if f"%on{place:x}" in texts[-1]:
                b.begin(f"on{place:x}")
        if not ends_block(block.last):
            b.goto(self.fall(block, dirty))
        self.give_up(block, dirty, places)

    def choose(self, block: Block, groups: list[Group]) -> None:
        """To the text of a block for kept pages where all of its groups lie in these, else to the other."""
        b = self.code
        for number, group in enumerate(groups):
            onward = f"kept{number}.{block.start:x}" if group is not groups[-1] else f"all{block.start:x}"
            b.branch(self.accesses.is_kept(b, group), onward, f"each{block.start:x}", LIKELY)
            if group is not groups[-1]:
                b.begin(onward)

    def straight(self, block: Block, texts: list[str]) -> None:
        """The instructions of a block before its jump."""
        b = self.code
        for position, text in enumerate(texts):
            place, found = block.code[position]
            self.needs(text, place, found, position)
            b.goto(text[: text.index(":")])
            b.take(text)
            if f"%on{place:x}" in text:
                b.begin(f"on{place:x}")
            if f"i{place:x}.nx:" in text:
                cleared_if_clear(b, f"on{place:x}")
            if "csr" in found.operands:
                self.look_plain(b)

    def needs(self, text: str, place: int, found: Decoded, position: int) -> None:
        """What an instruction's text takes from outside: pc, the next pc, instret, the translation set."""
        b, offset = self.code, place & PAGE - 1
        if f"%pc{place:x}.pc" in text:
            page = self.base(place >> 12, b)
            b.called(f"%pc{place:x}.pc", b.add, page, offset)
        if f"%nx{place:x}.pc" in text:
            page = self.base(place >> 12, b)
            b.called(f"%nx{place:x}.pc", b.add, page, offset + found.length)
        if f"%now{place:x}" in text:
            # The instret of an instruction that is so many behind the last one that was counted.
            counted = b.sub(b.load(self.field(b, "ic_base")), b.read(IC))
            b.called(f"%now{place:x}", b.add, counted, position)
        for name in ("priv", "virt"):
            if f"%{name}{place:x}" in text:
                pointer = self.slot(b, name)
                b.called(f"%{name}{place:x}", b.load, pointer)
        if self.changes_mode and f"%tlb{place:x}" in text:
            b.called(f"%tlb{place:x}", b.read_pointer, SET)

    def fall(self, block: Block, dirty: set[Register]) -> str:
        """Label that continues behind a block."""
        place, last = block.code[-1]
        following = self.region.following(block)
        if following is None:
            return self.leave_by_record(place >> 12, (place & PAGE - 1) + last.length, dirty)
        return self.go(place, following, dirty)

    def jumping(self, text: str, block: Block, dirty: set[Register]) -> None:
        """The text of a block's last instruction, with the way to its target in place of the template's jump."""
        b = self.code
        place, found = block.code[-1]
        target, moves = self.region.target(block), changes_mode(found.instruction)
        for line in text.split("\n"):
            if not line.startswith("  GOTO"):
                b.take(line)
                continue
            if target is not None and not moves:
                b.goto(self.go(place, target, dirty))
                continue
            b.write(line.split()[1], TO)
            if place in self.region.hosted:
                way = self.leave_by_pc("fn_resume", dirty)
            elif moves:
                returns = found.instruction.flow is Flow.RETURN
                targets = self.region.resumed_by(block) if returns else [] if target is None else [target]
                way = self.change_mode(targets, dirty, leaves=not returns and not targets)
            else:
                way = self.leave_by_pc("fn_goto", dirty)
                targets = self.region.may_go(block) if found.instruction.name == "jalr" else []
                if targets:
                    way = self.enter(targets, dirty, way)
            b.goto(way)

    # --- the whole ---
    def entry(self) -> list[str]:
        """Slots of registers and pages (LLVM promotes those of the first block), and what they hold at first."""
        self.used |= {("w", offset // 8) for offset in self.held}
        b = Builder("%e")
        b.begin("entry")
        self.slots(b)
        self.guard(b)
        b.begin("start")
        if not self.in_state:
            b.store_pointer(REC, self.field(b, "run_start"))  # samples are of the entry now
        b.write("%ic0", IC)
        b.write(0, "%x0")
        self.accesses.forget(b)
        for register in [] if self.in_state else sorted(self.used - NOWHERE):
            bank, number = register
            place = b.at(STATE, self.offset(register))
            type_ = self.type_of(register)
            known = self.known_words().get(number) if bank == "w" else None
            b.write(b.load_as(type_, place) if known is None else known, f"%{bank}{number}", type_)
        k, table = self.field(b, "code_k"), self.field(b, "code_table")
        b.called(TABLE, b.load, table)
        by_record = b.lshr(TABLE, 3)
        b.called(PC, b.add, by_record, b.read(k))
        if self.looks_plain:
            cleared_if_clear(b, "head")
        self.look_plain(b)
        if self.several:
            self.first_pages(b)
        self.way_in(b)
        return b.lines

    def slots(self, b: Builder) -> None:
        """All slots."""
        for register in sorted(self.used | NOWHERE):
            name = f"%{register[0]}{register[1]}"
            if self.in_state and register not in NOWHERE:
                b.called(name, b.at, STATE, self.offset(register))
            else:
                b.called(name, b.room, self.type_of(register))
        for slot in (IC, TO, OUT_REC, OUT_IC, *self.accesses.slots()):
            b.called(slot, b.room, "i64")
        if self.looks_plain:
            b.called(AS_PRESUMED, b.room, "i1")
            b.called(MX, b.room, "i32")
        if not self.several:
            return
        for page in sorted({0, *self.pages}):
            for name, type_ in (("base", "i64"), ("host", "i64"), ("in", "ptr")):
                b.called(f"%{name}{page}", b.room, type_)
        b.called(SET, b.room, "ptr")

    def way_in(self, b: Builder) -> None:
        """To the block whose record led here."""
        first = self.region.head
        others = [(e * 8, f"b{e:x}") for e in self.entries if e != first]
        if others:
            b.switch(b.sub(b.address(REC), TABLE), others, f"b{first:x}")
        else:
            b.goto(f"b{first:x}")

    def known_words(self) -> dict[int, int]:
        """The held words whose value the guard has found, by their numbers: the mode and what follows from it."""
        mode = self.region.mode(self.region.head)
        if mode is None or not self.held:
            return {}
        names = {"priv": mode & 3, "virt": mode >> 2, "data_priv": mode & 3, "data_virt": mode >> 2}
        if mode & 3 == USER:
            names["ctx_now"] = mode
        return {LAYOUT.fields[name].index: value for name, value in names.items()}

    def guard(self, b: Builder) -> None:
        """In another mode than that which is presumed, the record's own handler goes on."""
        mode = self.region.mode(self.region.head)
        if mode is None:
            b.goto("start")
            return
        same = compare_words(b, self.known_words(), self.compare_mode(b, mode, at_entry=True))
        b.branch(same, "start", "other", LIKELY)
        b.begin("other")
        b.go_on(self.own_handler(b, REC), REC, Word("%ic0"), TLB)

    def first_pages(self, b: Builder) -> None:
        """The head's page is known at first, and no other."""
        host = b.load(self.field(b, "code_host"))
        for page in sorted({0, *self.pages}):
            b.write(-1 if page else PC, f"%base{page}")
            b.write(0 if page else host, f"%host{page}")
            b.write("null" if page else TLB, f"%in{page}", "ptr")
        b.write(TLB, SET, "ptr")

    def text(self) -> str:
        """The whole module."""
        for block in self.region.blocks.values():
            self.block(block)
        words = prefix_words(self.region.page_count)
        prefix = f"prefix [{words} x i64] [{', '.join(['i64 0'] * words)}]"
        tables = "" if self.region.switched else '"no-jump-tables"="true" '
        attributes = f'nounwind {tables}"no-builtins" {prefix}'
        how = signature("void", "region", SIGNATURE, attributes, linkage="dso_local", convention=CC)
        body = [*self.entry(), *self.code.lines, *self.tails.lines]
        return "\n".join([*[declaration(n) for n in sorted(self.intrinsics)], defined(how, body), TRAILER])


def translate(
    region: Region,
    templates: dict[str, Template],
    cold: dict[str, int],
    *,
    linear: bool = False,
    plain: bool = False,
) -> str:
    """The LLVM text of a region, the function `region`; `cold` numbers the C functions in `cold_function`.

    `linear`: guest addresses probably lie at one distance from the host's. `plain`: rounding is to nearest. The code of
    a small region shall be short and soon there: registers stay in the state.
    """
    return Translator(region, templates, cold, linear=linear, plain=plain).text()

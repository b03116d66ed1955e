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
from trapline.engine.jit.doubles import as_doubles, doubles
from trapline.engine.jit.groups import groups_of
from trapline.engine.jit.held import compare_words, held_words, hold, moved
from trapline.engine.jit.inexact import MXCSR, cleared, cleared_if_clear, may_overshoot, merged, merged_if_clear
from trapline.engine.jit.intrinsics import declaration
from trapline.engine.jit.prune import pruned
from trapline.engine.jit.region import Block, Region, ends_block, template_name
from trapline.engine.jit.rotates import ROTATE, Rotates
from trapline.engine.jit.source import PAGE, prefix_words
from trapline.engine.jit.template import PLAIN, PRESUMED
from trapline.engine.jit.ways import Register, Ways
from trapline.engine.llvm import CC, LIKELY, Builder
from trapline.engine.records import X0_SINK
from trapline.isa.lookup import changes_mode
from trapline.lang.facts import Flow
from trapline.lang.state.words import LAYOUT
from trapline.privilege.modes import MODE_HS, MODE_M, MODE_VS, TO_HS, TO_M, TO_VS, USER

if TYPE_CHECKING:
    from trapline.engine.jit.groups import Group
    from trapline.engine.jit.template import Template
    from trapline.isa.decode import Decoded

SIGNATURE = "ptr noalias %st, ptr noalias %rec, i64 %ic0, ptr noalias %tlb"
RARELY = {"_soft": " cold", "dirty": " cold"}  # how the names of functions end that are called where all else fails
DESTINATIONS = {MODE_M: TO_M, MODE_HS: TO_HS, MODE_VS: TO_VS}
SLOTS = ("%x", "%f", "%w")  # of registers, and of words of the state that are held
TLB = re.compile(r"%tlb\b")
_DEFINED = re.compile(r"^(?:  %([-\w.$]+) = .*|([-\w.$]+):)$", re.M)
_LOCAL = re.compile(r"(?:%|^(?=[-\w.$]+:$))([-\w.$]+)", re.M)
TRAILER = """!0 = !{!"branch_weights", i32 2000, i32 1}
!1 = !{!"branch_weights", i32 1, i32 2000}
!2 = distinct !{!2}
!3 = distinct !{!3, !2}
!4 = !{!3}
!5 = !{}
"""


def renamed(lines: list[str], *, suffix: str = ".q", keep: str = "") -> list[str]:
    """The same text with other names for what it defines, values and labels, but one."""
    text = "\n".join(lines)
    own = {value or label for value, label in _DEFINED.findall(text)} - {keep}
    return _LOCAL.sub(lambda m: f"{m[0]}{suffix}" if m[1] in own else m[0], text).split("\n")


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
        if line.startswith(("  store i64", "  store double")):
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
        self.accesses = Accesses(region, linear=linear)
        self.held = self.may_hold()
        self.instances = {start: self.instantiate(block) for start, block in region.blocks.items()}
        self.dirty = self.flow()

    def trap_destination(self, place: int) -> int:
        """Where a call goes that stays in the region."""
        handler = self.region.handlers.get(place)
        return TO_M if handler is None else DESTINATIONS[self.region.pages.mode(self.region.pages.family(handler)) or 0]

    def may_hold(self) -> frozenset[int]:
        """The words of the state that are held, where a call, its handler and the return are all inside."""
        if not self.region.handlers or not self.region.resumes:
            return frozenset()
        code = (pair for block in self.region.blocks.values() for pair in block.code)
        return held_words(self.pruned(self.template(place, found), place) for place, found in code)

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
        self.written[block.start] = {w for w in written if w != ("x", X0_SINK)}
        return texts

    def instance(self, place: int, found: Decoded, position: int, slot: str = "") -> str:
        """The text of one instruction; with a slot, of one whose access lies in the page that is kept there."""
        template = self.template(place, found)
        self.intrinsics.update(template.intrinsics)
        p, b = f"i{place:x}.", Builder(f"%i{place:x}-")
        fields: dict[str, object] = dict(operands_of(found))
        fields |= {"p": p, "pc": f"%pc{place:x}.pc", "next": f"%nx{place:x}.pc", "now": f"%now{place:x}"}
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
            text = self.presume_plain(text, place, overshoots=overshoots(found))
        for name in (*template.cold, SPLIT, FAR):
            text = self.cold_calls(text, name, p, raises=plain and not overshoots(found))
        if self.changes_mode:
            text = TLB.sub(f"%tlb{place:x}", text)
        return as_doubles(text, self.doubles, lambda: self.name("%number"))

    def presumes_plain(self, found: Decoded, template: Template) -> bool:
        """Whether the template presumes PLAIN_STATE."""
        return template is self.templates.get(f"{found.instruction.name}{PLAIN}")

    def presume_plain(self, text: str, place: int, *, overshoots: bool) -> str:
        """Give up where floating point is not as the template presumes."""
        self.looks_plain = True
        self.intrinsics.update(MXCSR)
        lines = [f"i{place:x}.plain:", f"  %i{place:x}.is = load i1, ptr %plain"]
        first = text[: text.index(":")]
        if overshoots:
            lines.append(f"  br i1 %i{place:x}.is, label %i{place:x}.nx, label %out{place:x}{LIKELY}")
            lines += [f"i{place:x}.nx:", *merged_if_clear(f"i{place:x}"), f"  br label %{first}"]
        else:
            lines.append(f"  br i1 %i{place:x}.is, label %{first}, label %out{place:x}{LIKELY}")
        return "\n".join([*lines, text])

    def mode_fields(self, place: int) -> dict[str, object]:
        """The mode before an instruction: numbers where it is presumed."""
        mode = self.region.mode(place)
        if mode is None:
            return {"priv": f"%priv{place:x}", "virt": f"%virt{place:x}"}
        return {"priv": mode & 3, "virt": mode >> 2}

    def cold_calls(self, text: str, name: str, p: str, *, raises: bool) -> str:
        """Call a cold function through its word in the state; `raises`: among operations that the host keeps NX of."""
        lines: list[str] = []
        count = 0
        for line in text.split("\n"):
            if f"@p.{name}(" in line:
                count += 1
                pointer = self.field(lines, "cold_function", f"{p}c{count}.{name}", self.cold[f"p.{name}"])
                lines.append(f"  {pointer}.f = load ptr, ptr {pointer}, align 8")
                line = line.replace(f"@p.{name}(", f"{pointer}.f(")
                lines += self.before_call(name, pointer)
                keeps = raises and name not in (SPLIT, FAR)
                lines += merged(pointer[1:]) if keeps else []
                if name == SPLIT:
                    line += " nounwind willreturn memory(read, inaccessiblemem: readwrite)"
                elif name == FAR:
                    line += " nounwind willreturn"
                else:
                    line = line.replace("tail call i64", f"call {COLD_CALL} i64") + " nounwind"
                    line += RARELY.get(name[-5:], "")
                    lines += [line, *moved(self.held, f"{pointer[1:]}.after", back=True)]
                    lines += cleared(pointer[1:]) if keeps else []
                    continue
            lines.append(line)
        return "\n".join(lines)

    def before_call(self, name: str, pointer: str) -> list[str]:
        """Write to the state what a cold function may look at: the translation set, or all that is held."""
        if not self.held:
            return []
        lines: list[str] = []
        place = self.field(lines, "tlb_ptr", f"{pointer[1:]}.set")
        lines.append(f"  store ptr %tlb, ptr {place}, align 8")
        return lines if name in (SPLIT, FAR) else [*lines, *moved(self.held, f"{pointer[1:]}.before", back=False)]

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
        dirty = self.dirty[block.start] | self.written[block.start]
        self.lines.append(f"b{block.start:x}:")
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
            self.lines, before = [f"all{block.start:x}:"], self.lines
            self.straight(block, direct[:straight])
            self.emit(f"br label %then{block.start:x}")
            self.lines, again = before, self.lines
            self.lines += [*renamed(again, keep=f"all{block.start:x}"), f"each{block.start:x}:"]
        self.straight(block, texts[:straight])
        if slots:
            self.emit(f"br label %then{block.start:x}")
            self.lines.append(f"then{block.start:x}:")
        places = [(p, -n) for n, (p, _) in enumerate(block.code[:straight]) if f"%out{p:x}" in texts[n]]
        self.count(len(block.code))
        if block.jumps:
            place, found = block.code[-1]
            self.needs(texts[-1], place, found, -1)
            self.emit(f"br label %{texts[-1][: texts[-1].index(':')]}")
            if f"%out{place:x}" in texts[-1]:
                places.append((place, 1))
            self.lines.append(self.jumping(texts[-1], block, dirty))
            if f"%on{place:x}" in texts[-1]:
                self.lines.append(f"on{place:x}:")
        if not ends_block(block.last):
            self.emit(f"br label %{self.fall(block, dirty)}")
        self.give_up(block, dirty, places)

    def choose(self, block: Block, groups: list[Group]) -> None:
        """To the text of a block for kept pages where all of its groups lie in these, else to the other."""
        for number, group in enumerate(groups):
            onward = f"kept{number}.{block.start:x}" if group is not groups[-1] else f"all{block.start:x}"
            b = Builder(f"%kept{number}.{block.start:x}-")
            b.branch(self.accesses.is_kept(b, group), onward, f"each{block.start:x}", LIKELY)
            self.lines += b.lines
            if group is not groups[-1]:
                self.lines.append(f"{onward}:")

    def straight(self, block: Block, texts: list[str]) -> None:
        """The instructions of a block before its jump."""
        for position, text in enumerate(texts):
            place, found = block.code[position]
            self.needs(text, place, found, position)
            self.emit(f"br label %{text[: text.index(':')]}")
            self.lines.append(text)
            if f"%on{place:x}" in text:
                self.lines.append(f"on{place:x}:")
            if f"i{place:x}.nx:" in text:
                self.lines += cleared_if_clear(f"on{place:x}")
            if "csr" in found.operands:
                self.lines += self.look_plain(f"csr{place:x}")

    def needs(self, text: str, place: int, found: Decoded, position: int) -> None:
        """What an instruction's text takes from outside: pc, the next pc, instret, the translation set."""
        if f"%pc{place:x}.pc" in text:
            self.pc(place, f"pc{place:x}", self.lines)
        if f"%nx{place:x}.pc" in text:
            base = self.base(place >> 12, f"nx{place:x}", self.lines)
            self.emit(f"%nx{place:x}.pc = add i64 {base}, {(place & PAGE - 1) + found.length}")
        if f"%now{place:x}" in text:
            self.instret(place, position)
        for name in ("priv", "virt"):
            if f"%{name}{place:x}" in text:
                pointer = self.slot(self.lines, name, f"m{place:x}")
                self.emit(f"%{name}{place:x} = load i64, ptr {pointer}, align 8")
        if self.changes_mode and f"%tlb{place:x}" in text:
            self.emit(f"%tlb{place:x} = load ptr, ptr %set")

    def fall(self, block: Block, dirty: set[Register]) -> str:
        """Label that continues behind a block."""
        place, last = block.code[-1]
        following = self.region.following(block)
        if following is None:
            return self.leave_by_record(place >> 12, (place & PAGE - 1) + last.length, dirty)
        return self.go(place, following, dirty)

    def instret(self, place: int, position: int) -> None:
        """The instret of an instruction that is so many behind the last one that was counted."""
        unique = f"at{place:x}"
        pointer = self.field(self.lines, "ic_base", unique)
        self.emit(f"%{unique}.base = load i64, ptr {pointer}, align 8")
        self.emit(f"%{unique}.ic = load i64, ptr %ic")
        self.emit(f"%{unique}.then = sub i64 %{unique}.base, %{unique}.ic")
        self.emit(f"%now{place:x} = add i64 %{unique}.then, {position}")

    def count(self, instructions: int) -> None:
        before, after = self.name(), self.name()
        self.emit(f"{before} = load i64, ptr %ic")
        self.emit(f"{after} = sub i64 {before}, {instructions}")
        self.emit(f"store i64 {after}, ptr %ic")

    def jumping(self, text: str, block: Block, dirty: set[Register]) -> str:
        """Replace the template's jump by the way to its target."""
        place, found = block.code[-1]
        target, moves = self.region.target(block), changes_mode(found.instruction)
        lines = []
        for line in text.split("\n"):
            if not line.startswith("  GOTO"):
                lines.append(line)
                continue
            if target is not None and not moves:
                lines.append(f"  br label %{self.go(place, target, dirty)}")
                continue
            lines.append(f"  store i64 {line.split()[1]}, ptr %to")
            if moves:
                returns = found.instruction.flow is Flow.RETURN
                targets = self.region.resumed_by(block) if returns else [] if target is None else [target]
                way = self.change_mode(targets, dirty, leaves=not returns and not targets)
            else:
                way = self.leave_by_pc("fn_goto", dirty)
                targets = self.region.may_go(block) if found.instruction.name == "jalr" else []
                if targets:
                    way = self.enter(targets, dirty, way)
            lines.append(f"  br label %{way}")
        return "\n".join(lines)

    # --- the whole ---
    def entry(self) -> list[str]:
        """Slots of registers and pages (LLVM promotes those of the first block), and what they hold at first."""
        self.used |= {("w", offset // 8) for offset in self.held}
        registers_ = sorted(self.used | {("x", 0), ("x", X0_SINK)})
        slots = [f"  %{bank}{number} = alloca {self.type_of((bank, number))}" for bank, number in registers_]
        slots += [f"  %{slot} = alloca i64" for slot in ("ic", "to", "out.rec", "out.ic", *self.accesses.slots())]
        b = Builder("%start-")
        self.accesses.forget(b)
        head = ["start:", "  store i64 %ic0, ptr %ic", "  store i64 0, ptr %x0", *b.lines]
        for bank, number in sorted(self.used - {("x", 0), ("x", X0_SINK)}):
            head.append(f"  %in.{bank}{number} = getelementptr inbounds i8, ptr %st, i64 {self.offset((bank, number))}")
            type_ = self.type_of((bank, number))
            known = self.known_words().get(number) if bank == "w" else None
            if known is not None:
                head.append(f"  store i64 {known}, ptr %w{number}")
                continue
            head.append(f"  %was.{bank}{number} = load {type_}, ptr %in.{bank}{number}, align 8")
            head.append(f"  store {type_} %was.{bank}{number}, ptr %{bank}{number}")
        k, table = self.field(head, "code_k", "k"), self.field(head, "code_table", "k")
        head += [f"  %table0 = load i64, ptr {table}, align 8"]
        head += ["  %pc.r = lshr i64 %table0, 3", f"  %pc.k = load i64, ptr {k}", "  %pc0 = add i64 %pc.r, %pc.k"]
        if self.looks_plain:
            slots += ["  %plain = alloca i1", "  %mx = alloca i32"]
            head += cleared_if_clear("head")
        head += self.look_plain("head")
        if self.several:
            slots += self.page_slots()
            head += self.first_pages()
        return ["entry:", *slots, *self.guard(), *head, *self.way_in()]

    def way_in(self) -> list[str]:
        """To the block whose record led here."""
        first = self.region.head
        others = " ".join(f"i64 {e * 8}, label %b{e:x}" for e in self.entries if e != first)
        if not others:
            return [f"  br label %b{first:x}"]
        lines = ["  %place = ptrtoint ptr %rec to i64", "  %way = sub i64 %place, %table0"]
        return [*lines, f"  switch i64 %way, label %b{first:x} [ {others} ]"]

    def known_words(self) -> dict[int, int]:
        """The held words whose value the guard has found, by their numbers: the mode and what follows from it."""
        mode = self.region.mode(self.region.head)
        if mode is None or not self.held:
            return {}
        names = {"priv": mode & 3, "virt": mode >> 2, "data_priv": mode & 3, "data_virt": mode >> 2}
        if mode & 3 == USER:
            names["ctx_now"] = mode
        return {LAYOUT.fields[name].index: value for name, value in names.items()}

    def guard(self) -> list[str]:
        """In another mode than that which is presumed, the record's own handler goes on."""
        mode = self.region.mode(self.region.head)
        if mode is None:
            return ["  br label %start"]
        lines: list[str] = []
        lines += self.compare_mode(mode, "guard", at_entry=True)
        same = compare_words(lines, self.known_words(), "%guard.same")
        lines.append(f"  br i1 {same}, label %start, label %other{LIKELY}")
        lines.append("other:")
        own = self.own_handler(lines, "%rec", "own")
        lines.append(f"  musttail call {CC} void {own}(ptr %st, ptr %rec, i64 %ic0, ptr %tlb)")
        return [*lines, "  ret void"]

    def page_slots(self) -> list[str]:
        """The slots of pages."""
        slots = []
        for page in sorted({0, *self.pages}):
            slots += [f"  %base{page} = alloca i64", f"  %host{page} = alloca i64", f"  %in{page} = alloca ptr"]
        return [*slots, "  %set = alloca ptr"]

    def first_pages(self) -> list[str]:
        """The head's page is known at first, and no other."""
        head: list[str] = []
        host = self.field(head, "code_host", "head")
        head.append(f"  %head.host = load i64, ptr {host}, align 8")
        for page in sorted({0, *self.pages}):
            head.append(f"  store i64 {-1 if page else '%pc0'}, ptr %base{page}")
            head.append(f"  store i64 {0 if page else '%head.host'}, ptr %host{page}")
            head.append(f"  store ptr {'null' if page else '%tlb'}, ptr %in{page}")
        return [*head, "  store ptr %tlb, ptr %set"]

    def text(self) -> str:
        """The whole module."""
        for block in self.region.blocks.values():
            self.block(block)
        words = prefix_words(self.region.page_count)
        prefix = f"prefix [{words} x i64] [{', '.join(['i64 0'] * words)}]"
        tables = "" if self.region.switched else '"no-jump-tables"="true" '
        attributes = f'nounwind {tables}"no-builtins" {prefix}'
        head = f"define dso_local {CC} void @region({SIGNATURE}) {attributes} {{"
        declares = [declaration(n) for n in sorted(self.intrinsics)]
        return "\n".join([*declares, head, *self.entry(), *self.lines, *self.tails, "}", TRAILER])


def translate(
    region: Region,
    templates: dict[str, Template],
    cold: dict[str, int],
    *,
    linear: bool = False,
    plain: bool = False,
) -> str:
    """The LLVM text of a region, the function `region`; `cold` numbers the C functions in `cold_function`.

    `linear`: guest addresses probably lie at one distance from the host's. `plain`: rounding is to nearest.
    """
    return Translator(region, templates, cold, linear=linear, plain=plain).text()

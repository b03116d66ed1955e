"""A region as the text of one LLVM function, put together from templates.

The function has a handler's signature and is entered through the record of its head. Registers are stack slots that
LLVM turns into values; what a path may have written goes back to the hart's state where it leaves the region:
`out` when an instruction gives up (the interpreter repeats it from its record), by the next record, by next_pc
when the target is elsewhere (`fn_goto`), or when the budget is spent (`fn_budget`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trapline.engine.code import writes_x
from trapline.engine.compiler.text import to_i64
from trapline.engine.decode_table import X0_SINK
from trapline.engine.jit.region import PAGE, Block, Region, is_branch, target_of, template_name
from trapline.lang.state import LAYOUT

if TYPE_CHECKING:
    from trapline.engine.jit.templates import Template
    from trapline.isa.decode import Decoded

CC = "preserve_nonecc"
SIGNATURE = "ptr noalias %st, ptr noalias %rec, i64 %ic0, ptr noalias %tlb"
INTRINSICS = {
    "llvm.ctlz.i64": "i64 @llvm.ctlz.i64(i64, i1)",
    "llvm.cttz.i64": "i64 @llvm.cttz.i64(i64, i1)",
    "llvm.ctpop.i64": "i64 @llvm.ctpop.i64(i64)",
    "llvm.bswap.i64": "i64 @llvm.bswap.i64(i64)",
    "llvm.sqrt.f64": "double @llvm.sqrt.f64(double)",
    "llvm.sqrt.f32": "float @llvm.sqrt.f32(float)",
    "llvm.fma.f64": "double @llvm.fma.f64(double, double, double)",
    "llvm.fma.f32": "float @llvm.fma.f32(float, float, float)",
}
TRAILER = '!0 = !{!"branch_weights", i32 2000, i32 1}\n!1 = !{!"branch_weights", i32 1, i32 2000}\n'
Register = tuple[str, int]


def declaration(name: str) -> str:
    """Declare an intrinsic: of the list, or one of i64 alone (minimum, funnel shift, ...)."""
    known = INTRINSICS.get(name)
    if known is None:
        count = 3 if ".fsh" in name else 1 if ".bitreverse" in name else 2
        type_ = name.rsplit(".", 1)[1]
        known = f"{type_} @{name}({', '.join([type_] * count)})"
        if ".abs." in name:
            known = f"{type_} @{name}({type_}, i1)"
    return f"declare {known}"


def operands_of(found: Decoded) -> dict[str, int]:
    """Operands as a template wants them: signed decimals, and x0 as a target out of sight."""
    fields = {name: to_i64(found.operands.get(name, 0)) for name in found.instruction.operands}
    if fields.get("rd") == 0 and writes_x(found):
        fields["rd"] = X0_SINK
    return fields


def registers(text: str) -> tuple[set[Register], set[Register]]:
    """Registers that an instance of a template names, and those that it writes."""
    used, written = set(), set()
    for word in text.split():
        if word.startswith(("%x", "%f")) and word.rstrip(",")[2:].isdigit():
            used.add((word[1], int(word.rstrip(",")[2:])))
    for line in text.split("\n"):
        if line.startswith("  store i64"):
            word = line.rsplit(" ", 1)[1]
            if word.startswith(("%x", "%f")) and word[2:].isdigit():
                written.add((word[1], int(word[2:])))
    return used, written


class Translator:
    """Writes one region."""

    def __init__(self, region: Region, templates: dict[str, Template], cold: dict[str, int]) -> None:
        self.region, self.templates, self.cold = region, templates, cold
        self.lines: list[str] = []
        self.tails: list[str] = []
        self.n = 0
        self.used: set[Register] = set()
        self.intrinsics: set[str] = set()
        self.written: dict[int, set[Register]] = {}
        self.instances = {start: self.instantiate(block) for start, block in region.blocks.items()}
        self.dirty = self.flow()

    # --- text ---
    def emit(self, text: str) -> None:
        self.lines.append("  " + text)

    def name(self, stem: str = "%n") -> str:
        self.n += 1
        return f"{stem}{self.n}"

    @staticmethod
    def field(lines: list[str], name: str, unique: str, index: int = 0) -> str:
        """A pointer to a word of the state."""
        pointer = f"%{unique}.{name}"
        lines.append(f"  {pointer} = getelementptr inbounds i8, ptr %st, i64 {(LAYOUT.fields[name].index + index) * 8}")
        return pointer

    # --- instructions ---
    def template(self, found: Decoded) -> Template:
        """The template of an instruction that the region holds."""
        name = template_name(found, self.templates)
        assert name is not None
        return self.templates[name]

    def instantiate(self, block: Block) -> list[str]:
        """The text of each instruction, and which registers the block names and writes."""
        texts = []
        written: set[Register] = set()
        for offset, found in block.code:
            template = self.template(found)
            self.intrinsics.update(template.intrinsics)
            p = f"i{offset:x}."
            fields: dict[str, object] = dict(operands_of(found))
            fields |= {"p": p, "pc": f"%pc{offset:x}", "next": f"%nx{offset:x}", "now": f"%now{offset:x}"}
            fields |= {"on": f"on{offset:x}", "out": f"out{offset:x}"}
            text = template.text.format_map(fields)
            for name in template.cold:
                text = self.cold_calls(text, name, p)
            used, wrote = registers(text)
            self.used |= used
            written |= wrote
            texts.append(text)
        self.written[block.start] = {w for w in written if w != ("x", X0_SINK)}
        return texts

    def cold_calls(self, text: str, name: str, p: str) -> str:
        """Call a cold function through its word in the state."""
        lines: list[str] = []
        count = 0
        for line in text.split("\n"):
            if f"@p.{name}(" in line:
                count += 1
                pointer = self.field(lines, "cold_function", f"{p}c{count}.{name}", self.cold[f"p.{name}"])
                lines.append(f"  {pointer}.f = load ptr, ptr {pointer}, align 8")
                line = line.replace(f"@p.{name}(", f"{pointer}.f(")
            lines.append(line)
        return "\n".join(lines)

    # --- what has been written where ---
    def successors(self, block: Block) -> list[int]:
        offset, last = block.code[-1]
        out = []
        if is_branch(last) or last.instruction.name == "jal":
            target = target_of(offset, last)
            if target is not None:
                out.append(target)
        if last.instruction.name == "jalr":
            if self.may_return(last):
                out += self.region.returns
        elif last.instruction.name != "jal":
            out.append(block.end)
        return [t for t in out if t in self.region.blocks]

    def may_return(self, last: Decoded) -> bool:
        """Whether a jalr can be the return of a call inside the region."""
        return bool(self.region.returns) and last.operands["rd"] == 0 and last.operands["rs1"] in (1, 5)

    def flow(self) -> dict[int, set[Register]]:
        """By block: the registers that may differ from the state when it begins."""
        dirty: dict[int, set[Register]] = {start: set() for start in self.region.blocks}
        work = [self.region.head]
        seen = set()
        while work:
            start = work.pop()
            seen.add(start)
            after = dirty[start] | self.written[start]
            for target in self.successors(self.region.blocks[start]):
                if target not in seen or not after <= dirty[target]:
                    dirty[target] |= after
                    work.append(target)
        return dirty

    # --- leaving ---
    def spill(self, lines: list[str], registers_: set[Register], unique: str) -> None:
        for bank, number in sorted(registers_):
            value = f"%{unique}.{bank}{number}"
            lines.append(f"  {value} = load i64, ptr %{bank}{number}")
            place = f"{value}.p"
            index = LAYOUT.fields[bank].index + number
            lines.append(f"  {place} = getelementptr inbounds i8, ptr %st, i64 {index * 8}")
            lines.append(f"  store i64 {value}, ptr {place}, align 8")

    def tail_call(self, lines: list[str], target: str, rec: str, ic: str) -> None:
        lines.append(f"  musttail call {CC} void {target}(ptr %st, ptr {rec}, i64 {ic}, ptr %tlb)")
        lines.append("  ret void")

    def leave_by_record(self, offset: int, dirty: set[Register]) -> str:
        """Label of a way out to the record of an offset of the page."""
        label = self.name("rec")
        t = self.tails
        t.append(f"{label}:")
        self.spill(t, dirty, label)
        t.append(f"  %{label}.r = getelementptr inbounds i8, ptr %rec, i64 {(offset - self.region.head) * 8}")
        t.append(f"  %{label}.h = load ptr, ptr %{label}.r, align 8")
        t.append(f"  %{label}.ic = load i64, ptr %ic")
        self.tail_call(t, f"%{label}.h", f"%{label}.r", f"%{label}.ic")
        return label

    def leave_by_pc(self, function: str, dirty: set[Register], offset: int | None = None) -> str:
        """Label of a way out to `%to`, or to an offset of the page, through one of the joints."""
        label = self.name("goto")
        t = self.tails
        t.append(f"{label}:")
        self.spill(t, dirty, label)
        if offset is None:
            t.append(f"  %{label}.t = load i64, ptr %to")
        else:
            t.append(f"  %{label}.t = add i64 %pch, {offset - self.region.head}")
        place = self.field(t, "next_pc", label)
        t.append(f"  store i64 %{label}.t, ptr {place}, align 8")
        pointer = self.field(t, function, label)
        t.append(f"  %{label}.f = load ptr, ptr {pointer}, align 8")
        t.append(f"  %{label}.ic = load i64, ptr %ic")
        self.tail_call(t, f"%{label}.f", "%rec", f"%{label}.ic")
        return label

    def go(self, source: int, target: int, dirty: set[Register]) -> str:
        """Label that continues at a page offset after the block's instructions are counted."""
        inside = target in self.region.blocks
        onward = f"b{target:x}" if inside else self.leave_by_record(target, dirty)
        if target > source:
            return onward
        label = self.name("back")
        spent = self.leave_by_pc("fn_budget", dirty, target)
        t = self.tails
        t.append(f"{label}:")
        t.append(f"  %{label}.ic = load i64, ptr %ic")
        t.append(f"  %{label}.spent = icmp slt i64 %{label}.ic, 0")
        t.append(f"  br i1 %{label}.spent, label %{spent}, label %{onward}, !prof !1")
        return label

    def come_back(self, dirty: set[Register]) -> str:
        """Label that returns to a call of the region when `%to` is one of them."""
        label, elsewhere = self.name("ret"), self.leave_by_pc("fn_goto", dirty)
        t = self.tails
        t.append(f"{label}:")
        t.append(f"  %{label}.ic = load i64, ptr %ic")
        t.append(f"  %{label}.spent = icmp slt i64 %{label}.ic, 0")
        t.append(f"  br i1 %{label}.spent, label %{elsewhere}, label %{label}.on, !prof !1")
        t.append(f"{label}.on:")
        t.append(f"  %{label}.t = load i64, ptr %to")
        t.append(f"  %{label}.d = sub i64 %{label}.t, %pch")
        cases = " ".join(f"i64 {r - self.region.head}, label %b{r:x}" for r in self.region.returns)
        t.append(f"  switch i64 %{label}.d, label %{elsewhere} [ {cases} ]")
        return label

    def give_up(self, block: Block, dirty: set[Register], places: list[tuple[int, int]]) -> None:
        """The ways out of a block's instructions that give up: (offset, what `ic` still lacks)."""
        t, label = self.tails, f"up{block.start:x}"
        for offset, correction in places:
            t.append(f"out{offset:x}:")
            t.append(f"  store i64 {correction}, ptr %out.ic")
            if offset == self.region.head:
                # Its record leads here again: the interpreter's own handler is in front of the region's code.
                t.append(f"  br label %{label}.head")
                continue
            t.append(f"  store i64 {(offset - self.region.head) * 8}, ptr %out.rec")
            t.append(f"  br label %{label}")
        if any(offset == self.region.head for offset, _ in places):
            t.append(f"{label}.head:")
            self.spill(t, dirty, f"{label}.head")
            t.append(f"  %{label}.own = load i64, ptr %rec, align 8")
            t.append(f"  %{label}.before = add i64 %{label}.own, -8")
            t.append(f"  %{label}.at = inttoptr i64 %{label}.before to ptr")
            t.append(f"  %{label}.first = load ptr, ptr %{label}.at, align 8")
            t.append(f"  %{label}.hd = load i64, ptr %out.ic")
            t.append(f"  %{label}.hic0 = load i64, ptr %ic")
            t.append(f"  %{label}.hic = add i64 %{label}.hic0, %{label}.hd")
            self.tail_call(t, f"%{label}.first", "%rec", f"%{label}.hic")
        if any(offset != self.region.head for offset, _ in places):
            t.append(f"{label}:")
            self.spill(t, dirty, label)
            t.append(f"  %{label}.o = load i64, ptr %out.rec")
            t.append(f"  %{label}.d = load i64, ptr %out.ic")
            t.append(f"  %{label}.ic0 = load i64, ptr %ic")
            t.append(f"  %{label}.ic = add i64 %{label}.ic0, %{label}.d")
            t.append(f"  %{label}.r = getelementptr inbounds i8, ptr %rec, i64 %{label}.o")
            t.append(f"  %{label}.h = load ptr, ptr %{label}.r, align 8")
            self.tail_call(t, f"%{label}.h", f"%{label}.r", f"%{label}.ic")

    # --- blocks ---
    def block(self, block: Block) -> None:
        """One block: its instructions, the count, and where it goes."""
        dirty = self.dirty[block.start] | self.written[block.start]
        self.lines.append(f"b{block.start:x}:")
        places = []
        last = len(block.code) - 1
        jumps = is_branch(block.last) or block.last.instruction.name in ("jal", "jalr")
        for position, (offset, found) in enumerate(block.code):
            template, text = self.template(found), self.instances[block.start][position]
            if position == last and jumps:
                self.count(len(block.code))
            if template.reads_pc:
                self.emit(f"%pc{offset:x} = add i64 %pch, {offset - self.region.head}")
            if f"%nx{offset:x}" in text:
                self.emit(f"%nx{offset:x} = add i64 %pch, {offset - self.region.head + found.length}")
            if f"%now{offset:x}" in text:
                self.instret(offset, -1 if position == last and jumps else position)
            self.emit(f"br label %{text[: text.index(':')]}")
            if f"%out{offset:x}" in text:
                places.append((offset, 1 if position == last and jumps else -position))
            if position == last and jumps:
                text = self.jumping(text, offset, found, dirty)
            self.lines.append(text)
            if f"%on{offset:x}" in text:
                self.lines.append(f"on{offset:x}:")
        if not jumps:
            self.count(len(block.code))
        if block.last.instruction.name not in ("jal", "jalr"):
            self.emit(f"br label %{self.go(-1, block.end, dirty)}")
        self.give_up(block, dirty, places)

    def instret(self, offset: int, position: int) -> None:
        """The instret of an instruction that is so many behind the last one that was counted."""
        unique = f"at{offset:x}"
        place = self.field(self.lines, "ic_base", unique)
        self.emit(f"%{unique}.base = load i64, ptr {place}, align 8")
        self.emit(f"%{unique}.ic = load i64, ptr %ic")
        self.emit(f"%{unique}.then = sub i64 %{unique}.base, %{unique}.ic")
        self.emit(f"%now{offset:x} = add i64 %{unique}.then, {position}")

    def count(self, instructions: int) -> None:
        before, after = self.name(), self.name()
        self.emit(f"{before} = load i64, ptr %ic")
        self.emit(f"{after} = sub i64 {before}, {instructions}")
        self.emit(f"store i64 {after}, ptr %ic")

    def jumping(self, text: str, offset: int, found: Decoded, dirty: set[Register]) -> str:
        """Replace the template's jump by the way to its target."""
        lines = []
        for line in text.split("\n"):
            if not line.startswith("  GOTO"):
                lines.append(line)
                continue
            if found.instruction.name != "jalr" and (target := target_of(offset, found)) is not None:
                lines.append(f"  br label %{self.go(offset, target, dirty)}")
                continue
            lines.append(f"  store i64 {line.split()[1]}, ptr %to")
            indirect = found.instruction.name == "jalr" and self.may_return(found)
            way = self.come_back(dirty) if indirect else self.leave_by_pc("fn_goto", dirty)
            lines.append(f"  br label %{way}")
        return "\n".join(lines)

    def text(self, name: str = "region") -> str:
        """The whole module."""
        for block in self.region.blocks.values():
            self.block(block)
        head = [f'define {CC} void @{name}({SIGNATURE}) nounwind "no-jump-tables"="true" "no-builtins" {{', "entry:"]
        for bank, number in sorted(self.used | {("x", 0), ("x", X0_SINK)}):
            head.append(f"  %{bank}{number} = alloca i64")
        head += [f"  %{slot} = alloca i64" for slot in ("ic", "to", "out.rec", "out.ic")]
        head += ["  store i64 %ic0, ptr %ic", "  store i64 0, ptr %x0"]
        for bank, number in sorted(self.used - {("x", 0), ("x", X0_SINK)}):
            index = (LAYOUT.fields[bank].index + number) * 8
            head.append(f"  %in.{bank}{number} = getelementptr inbounds i8, ptr %st, i64 {index}")
            head.append(f"  %was.{bank}{number} = load i64, ptr %in.{bank}{number}, align 8")
            head.append(f"  store i64 %was.{bank}{number}, ptr %{bank}{number}")
        k = self.field(head, "code_k", "k")
        head += ["  %place = ptrtoint ptr %rec to i64", "  %pc.r = lshr i64 %place, 3", f"  %pc.k = load i64, ptr {k}"]
        head += ["  %pch = add i64 %pc.r, %pc.k", f"  br label %b{self.region.head:x}"]
        declares = [declaration(n) for n in sorted(self.intrinsics)]
        return "\n".join([*declares, *head, *self.lines, *self.tails, "}", TRAILER])


def translate(region: Region, templates: dict[str, Template], cold: dict[str, int]) -> str:
    """The LLVM text of a region; `cold` numbers the C functions in the state's `cold_function`."""
    assert all(0 <= start < PAGE for start in region.blocks)
    return Translator(region, templates, cold).text()

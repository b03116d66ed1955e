"""The tail-threaded interpreter: one LLVM function an instruction and length (those that join them: `joints`).

Every handler has the signature (state, record, instructions left, TLB set) under preserve_nonecc, so that
the four stay in registers; it ends by a tail call of the next record's handler. A fast handler holds the
fast reading of an instruction; when that bails out, the slow handler runs the normal reading, which
keeps pc and time in the state. Counting: `ic` falls by one an attempt; ic + ic_margin are left in all.
"""

from __future__ import annotations

from trapline.engine.compiler.module import Compiled
from trapline.engine.records import (
    FETCH_AREA,
    FETCH_BYTES,
    FETCH_ENTRIES,
    FETCH_HOST,
    FETCH_K,
    FETCH_TABLE,
    RECORD_IMMEDIATE,
    RECORD_RD,
    RECORD_RS1,
    RECORD_RS2,
    X0_SINK,
)
from trapline.isa.lookup import changes_mode
from trapline.lang.functions import Instruction
from trapline.lang.state.words import LAYOUT

CC = "preserve_nonecc"
ARGS = "ptr noalias %st, ptr %rec, i64 %ic, ptr %tlb"
UNLIKELY, LIKELY = ", !prof !1", ", !prof !0"
IMMEDIATES = ("imm", "uimm", "shamt", "csr", "rm")


class Handler:
    """Text of one handler."""

    def __init__(self, name: str) -> None:
        self.name, self.n, self.rec = name, 0, "%rec"
        self.lines: list[str] = []

    def emit(self, text: str) -> None:
        self.lines.append("  " + text)

    def value(self, text: str) -> str:
        self.n += 1
        self.emit(f"%h{self.n} = {text}")
        return f"%h{self.n}"

    def label(self, name: str) -> None:
        self.lines.append(f"{name}:")

    def field(self, name: str) -> str:
        return self.value(f"getelementptr inbounds i8, ptr %st, i64 {LAYOUT.fields[name].index * 8}")

    def get(self, name: str) -> str:
        return self.value(f"load i64, ptr {self.field(name)}, align 8")

    def put(self, name: str, operand: str | int) -> None:
        self.emit(f"store i64 {operand}, ptr {self.field(name)}, align 8")

    def byte(self, offset: int) -> str:
        pointer = self.value(f"getelementptr inbounds i8, ptr {self.rec}, i64 {offset}")
        return self.value(f"zext i8 {self.value(f'load i8, ptr {pointer}, align 1')} to i64")

    def imm32(self) -> str:
        pointer = self.value(f"getelementptr inbounds i8, ptr {self.rec}, i64 {RECORD_IMMEDIATE}")
        return self.value(f"sext i32 {self.value(f'load i32, ptr {pointer}, align 4')} to i64")

    def pc(self) -> str:
        place = self.value(f"ptrtoint ptr {self.rec} to i64")
        return self.value(f"add i64 {self.value(f'lshr i64 {place}, 3')}, {self.get('code_k')}")

    def tail(self, target: str, *, rec: str = "", ic: str = "%ic", tlb: str = "%tlb") -> None:
        self.emit(f"musttail call {CC} void {target}(ptr %st, ptr {rec or self.rec}, i64 {ic}, ptr {tlb})")
        self.emit("ret void")

    def dispatch(self, rec: str, *, ic: str = "%ic1", tlb: str = "%tlb") -> None:
        self.tail(self.value(f"load ptr, ptr {rec}, align 8"), rec=rec, ic=ic, tlb=tlb)

    def successor(self, length: int) -> str:
        return self.value(f"getelementptr inbounds i8, ptr {self.rec}, i64 {length * 8}")

    def next(self, length: int, *, ic: str = "%ic1") -> None:
        self.dispatch(self.successor(length), ic=ic)

    def instret(self, ic: str = "%ic") -> None:
        self.put("instret", self.value(f"sub i64 {self.get('ic_base')}, {ic}"))

    def leave(self, code: int, *, ic: str = "%ic") -> None:
        self.put("native_exit", code)
        self.instret(ic)
        self.emit("ret void")

    def jump_pc(self, pc: str, *, ic: str = "%ic1", tlb: str = "%tlb", new_mode: bool = False) -> None:
        """Go on at pc: budget, fetch TLB, record. `new_mode`: the mode may not be that in which the last run began."""
        self.n += 1
        n = self.n
        spent = self.value(f"icmp slt i64 {ic}, 0")
        self.emit(f"br i1 {spent}, label %spent{n}, label %look{n}{UNLIKELY}")
        self.label(f"spent{n}")
        self.put("next_pc", pc)
        self.tail("@h.budget", ic=ic, tlb=tlb)
        self.label(f"look{n}")
        entry, hit = self.probe(pc, tlb)
        self.emit(f"br i1 {hit}, label %hit{n}, label %miss{n}{LIKELY}")
        self.label(f"hit{n}")
        rec = self.enter_page(entry, pc)
        self.begin_run(rec)
        if new_mode:
            virt = self.value(f"shl i64 {self.get('virt')}, 2")
            self.put("run_mode", self.value(f"or i64 {self.get('priv')}, {virt}"))
        self.dispatch(rec, ic=ic, tlb=tlb)
        self.label(f"miss{n}")
        self.put("next_pc", pc)
        self.tail("@h.fetch_miss", ic=ic, tlb=tlb)

    def begin_run(self, rec: str) -> None:
        """Note where the code begins that runs up to the next look at the budget: a sample counts for its beginning."""
        self.emit(f"store ptr {rec}, ptr {self.field('run_start')}, align 8")

    def probe(self, pc: str, tlb: str) -> tuple[str, str]:
        index = self.value(f"and i64 {self.value(f'lshr i64 {pc}, 7')}, {(FETCH_ENTRIES - 1) * FETCH_BYTES}")
        entry = self.value(f"getelementptr inbounds i8, ptr {tlb}, i64 {index}")
        entry = self.value(f"getelementptr inbounds i8, ptr {entry}, i64 {FETCH_AREA}")
        tag = self.value(f"load i64, ptr {entry}, align 16")
        return entry, self.value(f"icmp eq i64 {tag}, {self.value(f'and i64 {pc}, -4096')}")

    def word_at(self, base: str, offset: int) -> str:
        return self.value(
            f"load i64, ptr {self.value(f'getelementptr inbounds i8, ptr {base}, i64 {offset}')}, align 8"
        )

    def enter_page(self, entry: str, pc: str) -> str:
        """Make the page of a fetch entry current; return the record of pc."""
        table = self.word_at(entry, FETCH_TABLE)
        self.put("code_table", table)
        self.put("code_k", self.word_at(entry, FETCH_K))
        self.put("code_host", self.word_at(entry, FETCH_HOST))
        offset = self.value(f"shl i64 {self.value(f'and i64 {pc}, 4095')}, 3")
        return self.value(f"inttoptr i64 {self.value(f'add i64 {table}, {offset}')} to ptr")

    def text(self) -> str:
        body = "\n".join(self.lines)
        return f'define {CC} void @"{self.name}"({ARGS}) nounwind "no-builtins" {{\n{body}\n}}'


def operands(
    h: Handler, instruction: Instruction, *, slow: bool, target: bool, known: tuple[str, ...] = ()
) -> list[str]:
    """The instruction's operands out of the record, without those that the handler knows."""
    out = []
    for name in instruction.operands:
        if name in known:
            continue
        if name == "rd":
            word = h.byte(RECORD_RD)
            if slow:
                is_dummy = h.value(f"icmp eq i64 {word}, {X0_SINK}")
                word = h.value(f"select i1 {is_dummy}, i64 0, i64 {word}")
        elif name in ("rs1", "rs2"):
            word = h.byte(RECORD_RS1 if name == "rs1" else RECORD_RS2)
        elif "rs3" in instruction.operands:
            word = h.imm32()
            if name == "rs3":
                word = h.value(f"lshr i64 {word}, 8")
            else:
                word = h.value(f"and i64 {word}, 255")
        elif name in IMMEDIATES:
            word = h.imm32()
            if target:
                word = h.value(f"ashr i64 {word}, 3")
        else:
            raise ValueError(f"{instruction.name}: operand {name!r} has no place in a record")
        out.append(word)
    return out


def slow_handler(name: str, instruction: Instruction, compiled: Compiled, length: int, *, target: bool) -> str:
    """The normal reading, with pc, next_pc and instret in the state."""
    h = Handler(f"s.{name}")
    pc = h.pc()
    h.put("pc", pc)
    h.put("next_pc", h.value(f"add i64 {pc}, {length}"))
    h.instret()
    h.emit("%ic1 = add i64 %ic, -1")
    given = ", ".join(["ptr %st", *[f"i64 {o}" for o in operands(h, instruction, slow=True, target=target)]])
    call = f"call fastcc {compiled.result_type()} @{compiled.symbol}({given})"
    if changes_mode(instruction):
        # Compiled in place although they are rare in most programs: trap loops are what this is for.
        call += " alwaysinline"
    if compiled.may_fail:
        h.emit(f"%failed = {call}")
        h.emit(f"br i1 %failed, label %trapped, label %retired{UNLIKELY}")
        h.label("trapped")
        h.tail("@h.deliver", ic="%ic1")
        h.label("retired")
    else:
        h.emit(call)
    if compiled.jumps:
        h.tail("@h.resume", ic="%ic1")
    else:
        wanted = h.value(f"icmp ne i64 {h.get('attention')}, 0")
        h.emit(f"br i1 {wanted}, label %attend, label %on")
        h.label("attend")
        h.tail("@h.resume", ic="%ic1")
        h.label("on")
        h.next(length)
    return h.text()


def fast_handler(
    name: str,
    instruction: Instruction,
    compiled: Compiled,
    length: int,
    *,
    kind: str,
    slow: str,
    known: tuple[str, ...] = (),
) -> str:
    """The fast reading.

    `kind` says where a taken branch lands: f forward in the page, b back, x anywhere; m: in another mode.
    """
    h = Handler(f"h.{name}")
    h.emit("%ic1 = add i64 %ic, -1")
    perform(h, instruction, compiled, length, kind=kind, slow=slow, known=known)
    if kind != "m":
        h.next(length)
    return h.text()


def perform(
    h: Handler,
    instruction: Instruction,
    compiled: Compiled,
    length: int,
    *,
    kind: str,
    slow: str,
    known: tuple[str, ...] = (),
    before: str = "%ic",
    after: str = "%ic1",
) -> None:
    """The fast reading of the instruction at h.rec; goes on behind it unless it bails out or jumps."""
    target = instruction.has_target
    h.n += 1
    tag = h.n
    pc = h.pc()
    h.emit(f"%np{tag} = alloca i64")
    h.emit(f"%jumped{tag} = alloca i1")
    h.emit(f"store i64 {h.value(f'add i64 {pc}, {length}')}, ptr %np{tag}")
    h.emit(f"store i1 false, ptr %jumped{tag}")
    given = [f"i64 {o}" for o in operands(h, instruction, slow=False, target=target, known=known)]
    now = h.value(f"sub i64 {h.get('ic_base')}, {before}")
    args = ", ".join(["ptr %st", *given, f"i64 {pc}", f"ptr %np{tag}", "ptr %tlb", f"ptr %jumped{tag}", f"i64 {now}"])
    args += f", i64 {h.get('priv')}, i64 {h.get('virt')}"
    call = f"call fastcc {compiled.result_type()} @{compiled.symbol}({args})"
    if compiled.may_fail:
        h.emit(f"%bails{tag} = {call}")
        h.emit(f"br i1 %bails{tag}, label %bail{tag}, label %good{tag}{UNLIKELY}")
        h.label(f"bail{tag}")
        h.tail(f"@s.{slow}", ic=before)
        h.label(f"good{tag}")
    else:
        h.emit(call)
    if kind == "m":
        mode_changed(h, h.value(f"load i64, ptr %np{tag}"), after)
    elif compiled.jumps:
        h.emit(f"%taken{tag} = load i1, ptr %jumped{tag}")
        h.emit(f"br i1 %taken{tag}, label %jump{tag}, label %fall{tag}")
        h.label(f"jump{tag}")
        jump_taken(h, kind, f"%np{tag}", after)
        h.label(f"fall{tag}")


def mode_changed(h: Handler, pc: str, ic: str) -> None:
    """Go on at pc in the context of now, where its translation set is known."""
    place = h.value(f"getelementptr inbounds ptr, ptr {h.field('ctx_set')}, i64 {h.get('ctx_now')}")
    tlb = h.value(f"load ptr, ptr {place}, align 8")
    h.emit(f"br i1 {h.value(f'icmp eq ptr {tlb}, null')}, label %search, label %found{UNLIKELY}")
    h.label("search")
    h.put("next_pc", pc)
    h.tail("@h.resume", ic=ic)
    h.label("found")
    h.emit(f"store ptr {tlb}, ptr {h.field('tlb_ptr')}, align 8")
    h.jump_pc(pc, ic=ic, tlb=tlb, new_mode=True)


def jump_taken(h: Handler, kind: str, np: str, ic: str) -> None:
    """Go to a taken branch's target."""
    if kind == "x":
        h.jump_pc(h.value(f"load i64, ptr {np}"), ic=ic)
        return
    if kind == "b":
        h.emit(f"br i1 {h.value(f'icmp slt i64 {ic}, 0')}, label %spent, label %back{UNLIKELY}")
        h.label("spent")
        h.put("next_pc", h.value(f"load i64, ptr {np}"))
        h.tail("@h.budget", ic=ic)
        h.label("back")
    rec = h.value(f"getelementptr inbounds i8, ptr {h.rec}, i64 {h.imm32()}")
    if kind == "b":
        h.begin_run(rec)
    h.dispatch(rec, ic=ic)


def thunk(
    compiled: Compiled,
    parameters: list[tuple[str, str]],
    *,
    with_hart: bool = True,
    symbol: str = "",
    convention: str = "",
) -> str:
    """A C function through which hosted software calls a cold function."""
    given = ", ".join(["ptr %st", *[f"i64 %a{i}" for i in range(len(parameters))]])
    head = given
    result = compiled.result_type()
    lines = []
    args = ["ptr %st"] if with_hart else []
    for i, (_, type_) in enumerate(parameters):
        if type_ == "b":
            lines.append(f"  %b{i} = trunc i64 %a{i} to i1")
            args.append(f"i1 %b{i}")
        else:
            args.append(f"i64 %a{i}")
    failed = LAYOUT.fields["call_failed"].index * 8
    call = f"call fastcc {result} @{compiled.symbol}({', '.join(args)})"
    value = "0"
    if result == "void":
        lines.append(f"  {call}")
    else:
        lines.append(f"  %r = {call}")
    if compiled.may_fail:
        flag = "%r" if compiled.returns == "void" else "%flag"
        if flag == "%flag":
            lines.append(f"  %flag = extractvalue {result} %r, 1")
            lines.append(f"  %v = extractvalue {result} %r, 0")
            value = "%v"
        lines.append(f"  %wide = zext i1 {flag} to i64")
        lines.append(f"  %place = getelementptr inbounds i8, ptr %st, i64 {failed}")
        lines.append("  store i64 %wide, ptr %place, align 8")
    elif result != "void":
        value = "%r"
    if compiled.returns == "b":
        lines.append(f"  %long = zext i1 {value} to i64")
        value = "%long"
    body = "\n".join(lines)
    name = symbol or f"c.{compiled.symbol}"
    return f'define {convention} i64 @"{name}"({head}) nounwind {{\n{body}\n  ret i64 {value}\n}}'

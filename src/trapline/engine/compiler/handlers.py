"""The tail-threaded interpreter: one LLVM function an instruction and length (those that join them: `joints`).

Every handler has the signature (state, record, instructions left, TLB set) under preserve_nonecc, so that
the four stay in registers; it ends by a tail call of the next record's handler. A fast handler holds the
fast reading of an instruction; when that bails out, the slow handler runs the normal reading, which
keeps pc and time in the state. Counting: `ic` falls by one an attempt; ic + ic_margin are left in all.
"""

from __future__ import annotations

from collections.abc import Sequence

from trapline.engine.compiler.module import Compiled
from trapline.engine.definitions import Definition
from trapline.engine.llvm import CC, LIKELY, STATE, UNLIKELY, Builder, Flag, Operand, Pointer, Word, words
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

ARGS = ("ptr noalias %st", "ptr %rec", "i64 %ic", "ptr %tlb")
PLAIN = 'nounwind "no-builtins"'
IC, IC1, IC2 = Word("%ic"), Word("%ic1"), Word("%ic2")  # instructions left: before the handler's own, and behind them
TLB = Pointer("%tlb")
IMMEDIATES = ("imm", "uimm", "shamt", "csr", "rm")


class Handler(Builder):
    """Text of one handler."""

    def __init__(self, name: str) -> None:
        super().__init__("%h")
        self.name, self.rec = name, Pointer("%rec")

    def field(self, name: str) -> Pointer:
        return self.at(STATE, LAYOUT.fields[name].index * 8)

    def get(self, name: str) -> Word:
        return self.load(self.field(name))

    def put(self, name: str, operand: Operand) -> None:
        self.store(operand, self.field(name))

    def byte(self, offset: int) -> Word:
        pointer = self.at(self.rec, offset)
        return self.load_narrow(pointer, 8)

    def imm32(self) -> Word:
        pointer = self.at(self.rec, RECORD_IMMEDIATE)
        return self.load_narrow(pointer, 32, "sext")

    def pc(self) -> Word:
        place = self.address(self.rec)
        return self.add(self.lshr(place, 3), self.get("code_k"))

    def run(self, compiled: Compiled, *given: Operand, more: str = "") -> str:
        """Call a function of the hart."""
        arguments = f"ptr %st, {words(*given)}" if given else "ptr %st"
        return self.call(self.named(compiled.symbol), compiled.result_type(), arguments, more=more)

    def count(self, attempts: int) -> None:
        """Name what is left behind so many attempts: IC1, IC2."""
        self.called(f"%ic{attempts}", self.add, IC, -attempts)

    def tail(self, target: str, *, rec: Pointer | None = None, ic: Operand = IC, tlb: Pointer = TLB) -> None:
        self.tail_to(self.named(target), rec or self.rec, ic=ic, tlb=tlb)

    def tail_to(self, target: str, rec: Pointer, *, ic: Operand = IC, tlb: Pointer = TLB) -> None:
        self.go_on(target, rec, ic, tlb)

    def dispatch(self, rec: Pointer, *, ic: Operand = IC1, tlb: Pointer = TLB) -> None:
        self.tail_to(self.load_pointer(rec), rec, ic=ic, tlb=tlb)

    def successor(self, length: int) -> Pointer:
        return self.at(self.rec, length * 8)

    def next(self, length: int, *, ic: Operand = IC1) -> None:
        self.dispatch(self.successor(length), ic=ic)

    def instret(self, ic: Operand = IC) -> None:
        self.put("instret", self.sub(self.get("ic_base"), ic))

    def leave(self, code: int, *, ic: Operand = IC) -> None:
        self.put("native_exit", code)
        self.instret(ic)
        self.ret()

    def jump_pc(self, pc: Word, *, ic: Operand = IC1, tlb: Pointer = TLB, new_mode: bool = False) -> None:
        """Go on at pc: budget, fetch TLB, record. `new_mode`: the mode may not be that in which the last run began."""
        self.counter += 1
        n = self.counter
        spent = self.compare("slt", ic, 0)
        self.branch(spent, f"spent{n}", f"look{n}", UNLIKELY)
        self.begin(f"spent{n}")
        self.put("next_pc", pc)
        self.tail("h.budget", ic=ic, tlb=tlb)
        self.begin(f"look{n}")
        entry, hit = self.probe(pc, tlb)
        self.branch(hit, f"hit{n}", f"miss{n}", LIKELY)
        self.begin(f"hit{n}")
        rec = self.enter_page(entry, pc)
        self.begin_run(rec)
        if new_mode:
            virt = self.shl(self.get("virt"), 2)
            self.put("run_mode", self.either(self.get("priv"), virt))
        self.dispatch(rec, ic=ic, tlb=tlb)
        self.begin(f"miss{n}")
        self.put("next_pc", pc)
        self.tail("h.fetch_miss", ic=ic, tlb=tlb)

    def begin_run(self, rec: Pointer) -> None:
        """Note where the code begins that runs up to the next look at the budget: a sample counts for its beginning."""
        self.store_pointer(rec, self.field("run_start"))

    def probe(self, pc: Word, tlb: Pointer) -> tuple[Pointer, Flag]:
        index = self.mask(self.lshr(pc, 7), (FETCH_ENTRIES - 1) * FETCH_BYTES)
        entry = self.at(tlb, index)
        entry = self.at(entry, FETCH_AREA)
        tag = self.load(entry, 16)
        return entry, self.compare("eq", tag, self.mask(pc, -4096))

    def word_at(self, base: Pointer, offset: int) -> Word:
        return self.load(self.at(base, offset))

    def enter_page(self, entry: Pointer, pc: Word) -> Pointer:
        """Make the page of a fetch entry current; return the record of pc."""
        table = self.word_at(entry, FETCH_TABLE)
        self.put("code_table", table)
        self.put("code_k", self.word_at(entry, FETCH_K))
        self.put("code_host", self.word_at(entry, FETCH_HOST))
        offset = self.shl(self.mask(pc, 4095), 3)
        return self.pointer(self.add(table, offset))

    def definition(self) -> Definition:
        return Definition(
            self.name, ARGS, "\n".join(self.lines), frozenset(self.uses), convention=CC, attributes=PLAIN, exported=True
        )


def operands(
    h: Handler, instruction: Instruction, *, slow: bool, target: bool, known: tuple[str, ...] = ()
) -> list[Word]:
    """The instruction's operands out of the record, without those that the handler knows."""
    out = []
    for name in instruction.operands:
        if name in known:
            continue
        if name == "rd":
            word = h.byte(RECORD_RD)
            if slow:
                is_dummy = h.compare("eq", word, X0_SINK)
                word = h.select(is_dummy, 0, word)
        elif name in ("rs1", "rs2"):
            word = h.byte(RECORD_RS1 if name == "rs1" else RECORD_RS2)
        elif "rs3" in instruction.operands:
            word = h.imm32()
            if name == "rs3":
                word = h.lshr(word, 8)
            else:
                word = h.mask(word, 255)
        elif name in IMMEDIATES:
            word = h.imm32()
            if target:
                word = h.binary("ashr", word, 3)
        else:
            raise ValueError(f"{instruction.name}: operand {name!r} has no place in a record")
        out.append(word)
    return out


def slow_handler(name: str, instruction: Instruction, compiled: Compiled, length: int, *, target: bool) -> Definition:
    """The normal reading, with pc, next_pc and instret in the state."""
    h = Handler(f"s.{name}")
    pc = h.pc()
    h.put("pc", pc)
    h.put("next_pc", h.add(pc, length))
    h.instret()
    h.count(1)
    given = operands(h, instruction, slow=True, target=target)
    # Returns are compiled in place although they are rare in most programs: trap loops are what this is for.
    failed = Flag(h.run(compiled, *given, more=" alwaysinline" if changes_mode(instruction) else ""))
    if compiled.may_fail:
        h.branch(failed, "trapped", "retired", UNLIKELY)
        h.begin("trapped")
        h.tail("h.deliver", ic=IC1)
        h.begin("retired")
    if compiled.jumps:
        h.tail("h.resume", ic=IC1)
    else:
        wanted = h.compare("ne", h.get("attention"), 0)
        h.branch(wanted, "attend", "on")
        h.begin("attend")
        h.tail("h.resume", ic=IC1)
        h.begin("on")
        h.next(length)
    return h.definition()


def fast_handler(
    name: str,
    instruction: Instruction,
    compiled: Compiled,
    length: int,
    *,
    kind: str,
    slow: str,
    known: tuple[str, ...] = (),
) -> Definition:
    """The fast reading.

    `kind` says where a taken branch lands: f forward in the page, b back, x anywhere; m: in another mode.
    """
    h = Handler(f"h.{name}")
    h.count(1)
    perform(h, instruction, compiled, length, kind=kind, slow=slow, known=known)
    if kind != "m":
        h.next(length)
    return h.definition()


def perform(
    h: Handler,
    instruction: Instruction,
    compiled: Compiled,
    length: int,
    *,
    kind: str,
    slow: str,
    known: tuple[str, ...] = (),
    before: Word = IC,
    after: Word = IC1,
) -> None:
    """The fast reading of the instruction at h.rec; goes on behind it unless it bails out or jumps."""
    target = instruction.has_target
    h.counter += 1
    tag = h.counter
    pc = h.pc()
    h.called(f"%np{tag}", h.room, "i64")
    h.called(f"%jumped{tag}", h.room, "i1")
    h.write(h.add(pc, length), f"%np{tag}")
    h.write("false", f"%jumped{tag}", "i1")
    given = operands(h, instruction, slow=False, target=target, known=known)
    now = h.sub(h.get("ic_base"), before)
    args = f"ptr %st, {words(*given, pc)}, ptr %np{tag}, ptr %tlb, ptr %jumped{tag}, "
    args += words(now, h.get("priv"), h.get("virt"))
    bails = Flag(h.call(h.named(compiled.symbol), compiled.result_type(), args))
    if compiled.may_fail:
        h.branch(bails, f"bail{tag}", f"good{tag}", UNLIKELY)
        h.begin(f"bail{tag}")
        h.tail(f"s.{slow}", ic=before)
        h.begin(f"good{tag}")
    if kind == "m":
        mode_changed(h, Word(h.read(f"%np{tag}")), after, leaves=instruction.delivered is not None)
    elif compiled.jumps:
        h.branch(Flag(h.read(f"%jumped{tag}", "i1")), f"jump{tag}", f"fall{tag}")
        h.begin(f"jump{tag}")
        jump_taken(h, kind, f"%np{tag}", after)
        h.begin(f"fall{tag}")


def mode_changed(h: Handler, pc: Word, ic: Word, *, leaves: bool) -> None:
    """Go on at pc in the context of now, where its translation set is known and no hosted mode wants out."""
    if leaves:
        h.branch(h.compare("ne", h.get("attention"), 0), "search", "stay", UNLIKELY)
        h.begin("stay")
    place = h.item(h.field("ctx_set"), h.get("ctx_now"), "ptr")
    tlb = h.load_pointer(place)
    h.branch(h.is_null(tlb), "search", "found", UNLIKELY)
    h.begin("search")
    h.put("next_pc", pc)
    h.tail("h.resume", ic=ic)
    h.begin("found")
    h.store_pointer(tlb, h.field("tlb_ptr"))
    h.jump_pc(pc, ic=ic, tlb=tlb, new_mode=True)


def jump_taken(h: Handler, kind: str, np: str, ic: Word) -> None:
    """Go to a taken branch's target."""
    if kind == "x":
        h.jump_pc(Word(h.read(np)), ic=ic)
        return
    if kind == "b":
        h.branch(h.compare("slt", ic, 0), "spent", "back", UNLIKELY)
        h.begin("spent")
        h.put("next_pc", Word(h.read(np)))
        h.tail("h.budget", ic=ic)
        h.begin("back")
    rec = h.at(h.rec, h.imm32())
    if kind == "b":
        h.begin_run(rec)
    h.dispatch(rec, ic=ic)


def thunk(
    compiled: Compiled,
    parameters: Sequence[tuple[str, str]],
    *,
    with_hart: bool = True,
    symbol: str = "",
    convention: str = "",
) -> Definition:
    """A C function through which hosted software calls a cold function."""
    b = Builder("%v")
    args = ["ptr %st"] if with_hart else []
    for i, (_, type_) in enumerate(parameters):
        given = Word(f"%a{i}")
        args.append(f"i1 {b.narrow(given, 'i1')}" if type_ == "b" else words(given))
    result = compiled.result_type()
    value = b.call(b.named(compiled.symbol), result, ", ".join(args)) or "0"
    if compiled.may_fail:
        failed = value
        if compiled.returns == "void":
            value = "0"
        else:
            failed, value = b.part(1, result, value), b.part(0, result, value)
        b.store(b.widen(failed), b.at(STATE, LAYOUT.fields["call_failed"].index * 8))
    if compiled.returns == "b":
        value = b.widen(value)
    b.ret("i64", value)
    return Definition(
        symbol or f"c.{compiled.symbol}",
        ("ptr %st", *[f"i64 %a{i}" for i in range(len(parameters))]),
        "\n".join(b.lines),
        frozenset(b.uses),
        "i64",
        convention,
        exported=True,
    )

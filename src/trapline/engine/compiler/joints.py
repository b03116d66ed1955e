"""The joints of the interpreter: what handlers tail-call when they cannot simply go on to the next record.

Delivery of a trap, the look at what asks for attention, the budget, a page that the fetch TLB does not know, single
steps, instructions across pages, undecoded code, and the way in.
"""

from __future__ import annotations

from trapline.engine.compiler.handlers import IC, IC1, TLB, Handler
from trapline.engine.compiler.module import Compiled
from trapline.engine.compiler.source import SubsetError
from trapline.engine.compiler_names import MARGIN
from trapline.engine.definitions import Definition
from trapline.engine.llvm import CC, LIKELY, STATE, UNLIKELY, Builder, Flag, Pointer, Word
from trapline.engine.observe.stops import RECORD_CSR, RECORD_HANDLER
from trapline.engine.records import (
    FETCH_HOST,
    RECORD_BYTES,
    RECORD_OPERANDS,
    STEP_BIT,
    STRADDLE_SLOT,
    NativeExit,
)
from trapline.lang.control import ATTENTION_LEAVE
from trapline.lang.state.words import LAYOUT, STEP_SLOTS

MXCSR = 0x1F80  # every exception masked, to nearest, subnormal numbers kept


def joints(functions: dict[str, Compiled]) -> list[Definition]:
    """The handlers that join the others: delivery, resumption, budget, fetch, page ends, exits."""
    return [
        deliver(functions),
        resume(functions),
        hosted(functions),
        budget(functions),
        goto(),
        step(),
        fetch_miss(functions),
        straddle(functions),
        stop(functions),
        *simple_joints(functions),
    ]


def deliver(functions: dict[str, Compiled]) -> Definition:
    h = Handler("h.deliver")
    h.run(functions["deliver_exception"], more=" alwaysinline")
    h.tail("h.resume")
    return h.definition()


def resume(functions: dict[str, Compiled]) -> Definition:
    """Attention: leave, take an interrupt, or go on at next_pc in the context of now."""
    h = Handler("h.resume")
    attention = h.get("attention")
    h.put("attention", 0)
    wants_out = h.compare("ne", h.mask(attention, ATTENTION_LEAVE), 0)
    h.branch(wants_out, "out", "stay", UNLIKELY)
    h.begin("out")
    h.put("pc", h.get("next_pc"))
    native = h.compare("ne", h.get("kvm_native"), 0)
    h.branch(native, "try", "leave")
    h.begin("try")
    h.tail("h.hosted")
    h.begin("leave")
    h.leave(NativeExit.SEMANTIC)
    h.begin("stay")
    irq = h.compare("ne", h.get("irq_cause"), 0)
    h.branch(irq, "interrupt", "go", UNLIKELY)
    h.begin("interrupt")
    h.put("pc", h.get("next_pc"))
    h.instret()
    h.run(functions["take_interrupt"])
    h.tail("h.resume")
    h.begin("go")
    h.run(functions["select_context"], more=" alwaysinline")
    tlb = h.load_pointer(h.field("tlb_ptr"))
    h.jump_pc(h.get("next_pc"), ic=IC, tlb=tlb, new_mode=True)
    return h.definition()


def hosted(functions: dict[str, Compiled]) -> Definition:
    """A hosted mode wants out: the compiled hypervisor may deal with it (kvm.exits.native_exit); then a new budget."""
    h = Handler("h.hosted")
    h.instret()
    called = functions["hosted_exit"]
    if called.may_fail:
        raise SubsetError("hosted_exit may trap: hosted software makes what may trap as an attempt()")
    result = Word(h.run(called))
    h.branch(h.compare("eq", result, 1), "on", "leave")
    h.begin("leave")
    h.put("native_exit", NativeExit.SEMANTIC)
    h.ret()
    h.begin("on")
    left = h.get("ic_left")
    long_run = h.compare("sgt", left, MARGIN)
    now = h.get("instret")
    to_sample = h.sub(h.get("sample_at"), now)
    to_sample = h.intrinsic("smax", to_sample, 0)
    free = h.add(left, -MARGIN)
    turn = h.intrinsic("smin", free, to_sample)
    ic = h.select(long_run, turn, -1)
    h.put("ic_margin", h.sub(left, ic))
    h.put("ic_base", h.add(now, ic))
    h.tail("h.resume", ic=ic)
    return h.definition()


def budget(functions: dict[str, Compiled]) -> Definition:
    """ic ran out at next_pc: leave (limit, code area full), run the rest one at a time, or note a sample and go on.

    With a sample, regions that were offered meanwhile are put in.
    """
    h = Handler("h.budget")
    left = h.add(IC, h.get("ic_margin"))
    spent, full = h.compare("sle", left, 0), h.compare("ne", h.get("jit_full"), 0)
    h.branch(h.flags("or", spent, full), "limit", "more")
    h.begin("limit")
    h.put("pc", h.get("next_pc"))
    h.leave(NativeExit.LIMIT)
    h.begin("more")
    h.branch(h.compare("sgt", left, MARGIN), "sample", "few")
    h.begin("few")
    h.put("ic_base", h.sub(h.get("ic_base"), IC))
    h.put("ic_margin", left)
    h.tail("h.step", ic=0)
    h.begin("sample")
    turn = Word(h.run(functions["take_sample"], left))
    nothing = h.compare("eq", h.get("offers"), 0)
    h.branch(nothing, "on", "offers", LIKELY)
    h.begin("offers")
    h.run(functions["take_offers"])
    h.goto("on")
    h.begin("on")
    h.jump_pc(h.get("next_pc"), ic=turn, new_mode=True)
    return h.definition()


def goto() -> Definition:
    """Where regions go on at next_pc, a page that they know nothing of."""
    h = Handler("h.goto")
    h.jump_pc(h.get("next_pc"), ic=IC, new_mode=True)
    return h.definition()


def copy_record(h: Handler, rec: Pointer, copy: Pointer) -> None:
    """Copy a record for a single step: without its region, its pair, and branches that count on the records around."""
    found, rest = h.load(rec), h.word_at(rec, RECORD_OPERANDS)
    low, high = (h.compare(c, found, h.get(f)) for c, f in (("uge", "jit_low"), ("ult", "jit_high")))
    # In front of a region stands the handler that the record had.
    own = h.load(h.pointer(h.select(h.flags("and", low, high), h.add(found, -8), h.address(rec))))
    number = h.mask(h.lshr(rest, STEP_BIT), 255)
    twin = h.load(h.item(h.field("step_handlers"), number))
    h.store(h.select(h.compare("eq", number, 0), own, twin), copy)
    h.store(rest, h.at(copy, RECORD_OPERANDS))


def step() -> Definition:
    """Run some records from next_pc on out of copies whose successors come back to the budget.

    As many as surely may run: every attempt moves on by a record at least, and whatever jumps looks at the budget.
    What changes code empties the copies (engine.code_bytes).
    """
    h = Handler("h.step")
    pc = h.get("next_pc")
    entry, hit = h.probe(pc, TLB)
    h.branch(hit, "hit", "miss")
    h.begin("hit")
    rec = h.enter_page(entry, pc)
    scratch = h.field("step_record")
    inside = h.compare("ule", h.mask(pc, 4095), 4096 - 2 * STEP_SLOTS)
    enough = h.compare("sge", h.get("ic_margin"), STEP_SLOTS)
    h.branch(h.flags("and", inside, enough), "some", "one")
    for label, count in (("some", STEP_SLOTS), ("one", 1)):
        h.begin(label)
        first = h.at(scratch, (STEP_SLOTS - count) * RECORD_BYTES)
        for slot in range(count):
            copy_record(h, h.at(rec, slot * RECORD_BYTES), h.at(first, slot * RECORD_BYTES))
        h.put("code_k", h.sub(pc, h.lshr(h.address(first), 3)))
        h.dispatch(first, ic=IC)
    h.begin("miss")
    h.put("ic_base", h.add(h.get("ic_base"), -1))
    h.put("ic_margin", h.add(h.get("ic_margin"), 1))
    h.tail("h.fetch_miss", ic=-1)
    return h.definition()


def fetch_parcel(h: Handler, functions: dict[str, Compiled], va: Word, fetched: str) -> Word:
    """Fetch 16 bits by a walk: into the trap that this raises, or on in the block `fetched`."""
    fetch = functions["fetch_parcel"]
    both = h.run(fetch, va)
    failed = Flag(h.part(1, fetch.result_type(), both))
    parcel = Word(h.part(0, fetch.result_type(), both))
    h.branch(failed, "trapped", fetched)
    h.begin("trapped")
    h.count(1)
    h.tail("h.deliver", ic=IC1)
    h.begin(fetched)
    return parcel


def fetch_miss(functions: dict[str, Compiled]) -> Definition:
    """The fetch TLB does not know next_pc: walk, then go on, trap, or ask Python for the page's records."""
    h = Handler("h.fetch_miss")
    pc = h.get("next_pc")
    h.put("pc", pc)
    h.instret()
    h.put("fetch_uncached", 1)
    fetch_parcel(h, functions, pc, "fetched")
    uncached = h.get("fetch_uncached")
    h.branch(h.compare("eq", uncached, 0), "go", "ask")
    h.begin("go")
    h.jump_pc(pc, ic=IC, new_mode=True)
    h.begin("ask")
    code = h.select(h.compare("eq", uncached, 1), NativeExit.SLOW, NativeExit.NEW_PAGE)
    h.put("native_exit", code)
    h.ret()
    return h.definition()


def straddle(functions: dict[str, Compiled]) -> Definition:
    """A 32-bit instruction in the last two bytes of a page: its second half comes from the next one."""
    h = Handler("h.straddle")
    pc = h.pc()
    second = h.add(pc, 2)
    entry, hit = h.probe(second, TLB)
    h.branch(hit, "hit", "miss", LIKELY)
    h.begin("hit")
    quick = h.pointer(h.word_at(entry, FETCH_HOST))
    half_hit = h.load_narrow(quick, 16)
    h.goto("compare")
    h.begin("miss")
    h.put("pc", pc)
    h.instret()
    half_miss = fetch_parcel(h, functions, second, "compare")
    half = h.phi((half_hit, "hit"), (half_miss, "miss"))
    known = h.compare("eq", half, h.imm32())
    h.branch(known, "same", "differs", LIKELY)
    h.begin("differs")
    python_decodes = h.compare("eq", h.get("decode_base"), 0)
    h.branch(python_decodes, "leave", "decode")
    h.begin("leave")
    h.put("pc", pc)
    h.put("insn", half)
    h.leave(NativeExit.STRADDLE)
    h.begin("decode")
    h.run(functions["decode_straddle"], h.get("code_table"), h.get("code_host"), half)
    h.goto("same")
    h.begin("same")
    low = h.load_narrow(h.pointer(h.add(h.get("code_host"), 4094)), 16)
    h.put("insn", h.either(low, h.shl(half, 16)))
    place = h.add(h.get("code_table"), STRADDLE_SLOT * RECORD_BYTES)
    h.put("code_k", h.sub(pc, h.lshr(place, 3)))
    h.dispatch(h.pointer(place), ic=IC)
    return h.definition()


def stop(functions: dict[str, Compiled]) -> Definition:
    """A record with a stop: leave before its instruction, or go on with the handler that it would have.

    `rec` may be the copy of a single step; the record itself is that of pc in the current page.
    """
    h = Handler("h.stop")
    pc = h.pc()
    h.put("pc", pc)
    h.put("next_pc", pc)
    h.instret()
    offset = h.mask(pc, 4095)
    record = h.add(h.get("code_table"), h.shl(offset, 3))
    found = functions["record_place"]
    place = h.pointer(Word(h.run(found, record)))
    host = h.add(h.get("code_host"), offset)
    asked = functions["stop_at"]
    csr = h.word_at(place, RECORD_CSR)
    hit = Flag(h.run(asked, pc, host, csr))
    h.branch(hit, "out", "on", UNLIKELY)
    h.begin("out")
    h.leave(NativeExit.STOPPED)
    h.begin("on")
    handler = h.pointer(h.word_at(place, RECORD_HANDLER))
    h.tail_to(handler, h.rec)
    return h.definition()


def undecoded(functions: dict[str, Compiled]) -> Definition:
    """Decode from here on, then look the record up again: here it may be the copy of a single step."""
    h = Handler("h.undecoded")
    pc = h.pc()
    h.put("pc", pc)
    python_decodes = h.compare("eq", h.get("decode_base"), 0)
    h.branch(python_decodes, "leave", "decode")
    h.begin("leave")
    h.leave(NativeExit.UNDECODED)
    h.begin("decode")
    h.run(functions["decode_block"], h.get("code_table"), h.get("code_host"), h.mask(pc, 4095))
    h.put("next_pc", pc)
    many = h.compare("sgt", IC, 0)
    h.branch(many, "again", "last")
    h.begin("again")
    h.tail("h.resume")
    h.begin("last")
    h.tail("h.budget")
    return h.definition()


def simple_joints(functions: dict[str, Compiled]) -> list[Definition]:
    """Page ends, single steps, undefined instructions, and the way in."""
    page_end = Handler("h.page_end")
    page_end.jump_pc(page_end.pc(), ic=IC)
    step_end = Handler("h.step_end")
    step_end.put("next_pc", step_end.pc())
    step_end.tail("h.budget")
    undefined = Handler("h.undefined")
    undefined.put("pc", undefined.pc())
    undefined.instret()
    undefined.count(1)
    undefined.run(functions["raise_illegal"])
    undefined.tail("h.resume", ic=IC1)
    return [undecoded(functions), *(h.definition() for h in (page_end, step_end, undefined)), way_in()]


def way_in() -> Definition:
    """Enter a hart, with the host's floating-point unit as IEEE 754 wants it: a library may have left it otherwise."""
    b = Builder("%w")
    was, own = b.room("i32"), b.room("i32")
    kept = b.at(STATE, LAYOUT.fields["host_subnormals"].index * 8)
    b.call(b.named("llvm.x86.sse.stmxcsr"), "void", f"ptr {was}", convention="")
    b.write(MXCSR, own, "i32")
    b.call(b.named("llvm.x86.sse.ldmxcsr"), "void", f"ptr {own}", convention="")
    b.store(1, kept)
    b.call(b.named("h.resume"), "void", "ptr %st, ptr null, i64 %ic, ptr null", convention=f"{CC} ")
    b.store(0, kept)
    b.call(b.named("llvm.x86.sse.ldmxcsr"), "void", f"ptr {was}", convention="")
    b.ret()
    return Definition("run", ("ptr %st", "i64 %ic"), "\n".join(b.lines), frozenset(b.uses), exported=True)

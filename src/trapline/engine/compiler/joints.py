"""The joints of the interpreter: what handlers tail-call when they cannot simply go on to the next record.

Delivery of a trap, the look at what asks for attention, the budget, a page that the fetch TLB does not know, single
steps, instructions across pages, undecoded code, and the way in.
"""

from __future__ import annotations

from trapline.engine.compiler.handlers import CC, LIKELY, UNLIKELY, Handler
from trapline.engine.compiler.module import Compiled
from trapline.engine.compiler.source import SubsetError
from trapline.engine.compiler_names import MARGIN, SAMPLE_PERIOD, UNEVEN, UNEVEN_STEP
from trapline.engine.records import (
    FETCH_HOST,
    RECORD_BYTES,
    RECORD_OPERANDS,
    RECORD_STEP,
    STRADDLE_SLOT,
    NativeExit,
)
from trapline.lang.control import ATTENTION_LEAVE
from trapline.lang.state.words import LAYOUT, SAMPLES
from trapline.privilege.stops import RECORD_CSR, RECORD_HANDLER

MXCSR = 0x1F80  # every exception masked, to nearest, subnormal numbers kept


def joints(functions: dict[str, Compiled]) -> list[str]:
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


def deliver(functions: dict[str, Compiled]) -> str:
    h = Handler("h.deliver")
    h.emit(f"call fastcc void @{functions['deliver_exception'].symbol}(ptr %st) alwaysinline")
    h.tail("@h.resume")
    return h.text()


def resume(functions: dict[str, Compiled]) -> str:
    """Attention: leave, take an interrupt, or go on at next_pc in the context of now."""
    h = Handler("h.resume")
    attention = h.get("attention")
    h.put("attention", 0)
    wants_out = h.value(f"icmp ne i64 {h.value(f'and i64 {attention}, {ATTENTION_LEAVE}')}, 0")
    h.emit(f"br i1 {wants_out}, label %out, label %stay{UNLIKELY}")
    h.label("out")
    h.put("pc", h.get("next_pc"))
    native = h.value(f"icmp ne i64 {h.get('kvm_native')}, 0")
    h.emit(f"br i1 {native}, label %try, label %leave")
    h.label("try")
    h.tail("@h.hosted")
    h.label("leave")
    h.leave(NativeExit.SEMANTIC)
    h.label("stay")
    irq = h.value(f"icmp ne i64 {h.get('irq_cause')}, 0")
    h.emit(f"br i1 {irq}, label %interrupt, label %go{UNLIKELY}")
    h.label("interrupt")
    h.put("pc", h.get("next_pc"))
    h.instret()
    h.emit(f"call fastcc void @{functions['take_interrupt'].symbol}(ptr %st)")
    h.tail("@h.resume")
    h.label("go")
    h.emit(f"call fastcc void @{functions['select_context'].symbol}(ptr %st) alwaysinline")
    h.emit(f"%set = load ptr, ptr {h.field('tlb_ptr')}, align 8")
    h.jump_pc(h.get("next_pc"), ic="%ic", tlb="%set", new_mode=True)
    return h.text()


def hosted(functions: dict[str, Compiled]) -> str:
    """A hosted mode wants out: the compiled hypervisor may deal with it (kvm.exits.native_exit); then a new budget."""
    h = Handler("h.hosted")
    h.instret()
    called = functions["hosted_exit"]
    if called.may_fail:
        raise SubsetError("hosted_exit may trap: hosted software makes what may trap as an attempt()")
    result = h.value(f"call fastcc i64 @{called.symbol}(ptr %st)")
    h.emit(f"br i1 {h.value(f'icmp eq i64 {result}, 1')}, label %on, label %leave")
    h.label("leave")
    h.put("native_exit", NativeExit.SEMANTIC)
    h.emit("ret void")
    h.label("on")
    left = h.get("ic_left")
    long_run = h.value(f"icmp sgt i64 {left}, {MARGIN}")
    now = h.get("instret")
    to_sample = h.value(f"sub i64 {h.get('sample_at')}, {now}")
    to_sample = h.value(f"call i64 @llvm.smax.i64(i64 {to_sample}, i64 0)")
    free = h.value(f"add i64 {left}, -{MARGIN}")
    turn = h.value(f"call i64 @llvm.smin.i64(i64 {free}, i64 {to_sample})")
    ic = h.value(f"select i1 {long_run}, i64 {turn}, i64 -1")
    h.put("ic_margin", h.value(f"sub i64 {left}, {ic}"))
    h.put("ic_base", h.value(f"add i64 {now}, {ic}"))
    h.tail("@h.resume", ic=ic)
    return h.text()


def budget(functions: dict[str, Compiled]) -> str:
    """ic ran out at next_pc: leave (limit, code area full), run the rest one at a time, or note a sample and go on.

    With a sample, regions that were offered meanwhile are put in.
    """
    h = Handler("h.budget")
    left = h.value(f"add i64 %ic, {h.get('ic_margin')}")
    spent, full = h.value(f"icmp sle i64 {left}, 0"), h.value(f"icmp ne i64 {h.get('jit_full')}, 0")
    h.emit(f"br i1 {h.value(f'or i1 {spent}, {full}')}, label %limit, label %more")
    h.label("limit")
    h.put("pc", h.get("next_pc"))
    h.leave(NativeExit.LIMIT)
    h.label("more")
    h.emit(f"br i1 {h.value(f'icmp sgt i64 {left}, {MARGIN}')}, label %sample, label %few")
    h.label("few")
    h.put("ic_base", h.value(f"sub i64 {h.get('ic_base')}, %ic"))
    h.put("ic_margin", left)
    h.tail("@h.step", ic="0")
    h.label("sample")
    now = h.value(f"sub i64 {h.get('ic_base')}, %ic")
    start, count = h.get("run_start"), h.get("sample_count")
    # A loop whose length has a part in common with the period would always be met at the same few of its places.
    uneven = h.value(f"and i64 {h.value(f'mul i64 {count}, {UNEVEN_STEP}')}, {UNEVEN - 1}")
    period = h.value(f"add i64 {uneven}, {SAMPLE_PERIOD - UNEVEN // 2}")
    h.put("sample_at", h.value(f"add i64 {now}, {period}"))
    free = h.value(f"add i64 {left}, -{MARGIN}")
    turn = h.value(f"call i64 @llvm.smin.i64(i64 {free}, i64 {period})")
    h.put("ic_base", h.value(f"add i64 {now}, {turn}"))
    h.put("ic_margin", h.value(f"sub i64 {left}, {turn}"))
    # What ran until now began at run_start, in the page that is current.
    begun = h.value(f"add i64 {h.value(f'lshr i64 {start}, 3')}, {h.get('code_k')}")
    number = h.value(f"and i64 {count}, {SAMPLES - 1}")
    for name, what in (("sample_record", start), ("sample_pc", begun), ("sample_mode", h.get("run_mode"))):
        place = h.value(f"getelementptr inbounds i64, ptr {h.field(name)}, i64 {number}")
        h.emit(f"store i64 {what}, ptr {place}, align 8")
    h.put("sample_count", h.value(f"add i64 {count}, 1"))
    nothing = h.value(f"icmp eq i64 {h.get('offers')}, 0")
    h.emit(f"br i1 {nothing}, label %on, label %offers{LIKELY}")
    h.label("offers")
    h.emit(f"call fastcc void @{functions['take_offers'].symbol}(ptr %st)")
    h.emit("br label %on")
    h.label("on")
    h.jump_pc(h.get("next_pc"), ic=turn, new_mode=True)
    return h.text()


def goto() -> str:
    """Where regions go on at next_pc, a page that they know nothing of."""
    h = Handler("h.goto")
    h.jump_pc(h.get("next_pc"), ic="%ic")
    return h.text()


def step() -> str:
    """Run the record of next_pc from a copy whose successors come back to the budget."""
    h = Handler("h.step")
    pc = h.get("next_pc")
    entry, hit = h.probe(pc, "%tlb")
    h.emit(f"br i1 {hit}, label %hit, label %miss")
    h.label("hit")
    rec = h.enter_page(entry, pc)
    scratch = h.field("step_record")
    aux_at = h.value(f"getelementptr inbounds i8, ptr {rec}, i64 {RECORD_STEP}")
    aux = h.value(f"zext i8 {h.value(f'load i8, ptr {aux_at}, align 1')} to i64")
    found = h.value(f"load i64, ptr {rec}, align 8")
    low, high = (h.value(f"icmp {c} i64 {found}, {h.get(f)}") for c, f in (("uge", "jit_low"), ("ult", "jit_high")))
    h.emit(f"br i1 {h.value(f'and i1 {low}, {high}')}, label %region, label %single{UNLIKELY}")
    h.label("region")
    before = h.value(f"inttoptr i64 {h.value(f'add i64 {found}, -8')} to ptr")
    first = h.value(f"load i64, ptr {before}, align 8")
    h.emit("br label %single")
    h.label("single")
    own = h.value(f"phi i64 [ {found}, %hit ], [ {first}, %region ]")
    twin_at = h.value(f"getelementptr inbounds i64, ptr {h.field('step_handlers')}, i64 {aux}")
    twin = h.value(f"load i64, ptr {twin_at}, align 8")
    plain = h.value(f"icmp eq i64 {aux}, 0")
    handler = h.value(f"select i1 {plain}, i64 {own}, i64 {twin}")
    h.emit(f"store i64 {handler}, ptr {scratch}, align 8")
    rest = h.word_at(rec, RECORD_OPERANDS)
    h.emit(
        f"store i64 {rest}, ptr {h.value(f'getelementptr inbounds i8, ptr {scratch}, i64 {RECORD_OPERANDS}')}, align 8"
    )
    place = h.value(f"lshr i64 {h.value(f'ptrtoint ptr {scratch} to i64')}, 3")
    h.put("code_k", h.value(f"sub i64 {pc}, {place}"))
    h.dispatch(scratch, ic="%ic")
    h.label("miss")
    h.put("ic_base", h.value(f"add i64 {h.get('ic_base')}, -1"))
    h.put("ic_margin", h.value(f"add i64 {h.get('ic_margin')}, 1"))
    h.tail("@h.fetch_miss", ic="-1")
    return h.text()


def fetch_miss(functions: dict[str, Compiled]) -> str:
    """The fetch TLB does not know next_pc: walk, then go on, trap, or ask Python for the page's records."""
    h = Handler("h.fetch_miss")
    pc = h.get("next_pc")
    h.put("pc", pc)
    h.instret()
    h.put("fetch_uncached", 1)
    fetch = functions["fetch_parcel"]
    both = h.value(f"call fastcc {fetch.result_type()} @{fetch.symbol}(ptr %st, i64 {pc})")
    failed = h.value(f"extractvalue {fetch.result_type()} {both}, 1")
    h.emit(f"br i1 {failed}, label %trapped, label %fetched")
    h.label("trapped")
    h.emit("%ic1 = add i64 %ic, -1")
    h.tail("@h.deliver", ic="%ic1")
    h.label("fetched")
    uncached = h.get("fetch_uncached")
    h.emit(f"br i1 {h.value(f'icmp eq i64 {uncached}, 0')}, label %go, label %ask")
    h.label("go")
    h.jump_pc(pc, ic="%ic", new_mode=True)
    h.label("ask")
    code = h.value(
        f"select i1 {h.value(f'icmp eq i64 {uncached}, 1')}, i64 {NativeExit.SLOW}, i64 {NativeExit.NEW_PAGE}"
    )
    h.put("native_exit", code)
    h.emit("ret void")
    return h.text()


def straddle(functions: dict[str, Compiled]) -> str:
    """A 32-bit instruction in the last two bytes of a page: its second half comes from the next one."""
    h = Handler("h.straddle")
    pc = h.pc()
    second = h.value(f"add i64 {pc}, 2")
    entry, hit = h.probe(second, "%tlb")
    h.emit(f"br i1 {hit}, label %hit, label %miss{LIKELY}")
    h.label("hit")
    quick = h.value(f"inttoptr i64 {h.word_at(entry, FETCH_HOST)} to ptr")
    half_hit = h.value(f"zext i16 {h.value(f'load i16, ptr {quick}, align 2')} to i64")
    h.emit("br label %compare")
    h.label("miss")
    h.put("pc", pc)
    h.instret()
    fetch = functions["fetch_parcel"]
    both = h.value(f"call fastcc {fetch.result_type()} @{fetch.symbol}(ptr %st, i64 {second})")
    failed = h.value(f"extractvalue {fetch.result_type()} {both}, 1")
    half_miss = h.value(f"extractvalue {fetch.result_type()} {both}, 0")
    h.emit(f"br i1 {failed}, label %trapped, label %compare")
    h.label("trapped")
    h.emit("%ic1 = add i64 %ic, -1")
    h.tail("@h.deliver", ic="%ic1")
    h.label("compare")
    half = h.value(f"phi i64 [ {half_hit}, %hit ], [ {half_miss}, %miss ]")
    known = h.value(f"icmp eq i64 {half}, {h.imm32()}")
    h.emit(f"br i1 {known}, label %same, label %differs{LIKELY}")
    h.label("same")
    last = h.value(f"add i64 {h.get('code_host')}, 4094")
    last = h.value(f"inttoptr i64 {last} to ptr")
    low = h.value(f"zext i16 {h.value(f'load i16, ptr {last}, align 2')} to i64")
    h.put("insn", h.value(f"or i64 {low}, {h.value(f'shl i64 {half}, 16')}"))
    place = h.value(f"add i64 {h.get('code_table')}, {STRADDLE_SLOT * RECORD_BYTES}")
    h.put("code_k", h.value(f"sub i64 {pc}, {h.value(f'lshr i64 {place}, 3')}"))
    h.dispatch(h.value(f"inttoptr i64 {place} to ptr"), ic="%ic")
    h.label("differs")
    h.put("pc", pc)
    h.put("insn", half)
    h.leave(NativeExit.STRADDLE)
    return h.text()


def stop(functions: dict[str, Compiled]) -> str:
    """A record with a stop: leave before its instruction, or go on with the handler that it would have.

    `rec` may be the copy of a single step; the record itself is that of pc in the current page.
    """
    h = Handler("h.stop")
    pc = h.pc()
    h.put("pc", pc)
    h.put("next_pc", pc)
    h.instret()
    offset = h.value(f"and i64 {pc}, 4095")
    record = h.value(f"add i64 {h.get('code_table')}, {h.value(f'shl i64 {offset}, 3')}")
    found = functions["record_place"]
    place = h.value(f"call fastcc {found.result_type()} @{found.symbol}(ptr %st, i64 {record})")
    place = h.value(f"inttoptr i64 {place} to ptr")
    host = h.value(f"add i64 {h.get('code_host')}, {offset}")
    asked = functions["stop_at"]
    csr = h.word_at(place, RECORD_CSR)
    hit = h.value(f"call fastcc {asked.result_type()} @{asked.symbol}(ptr %st, i64 {pc}, i64 {host}, i64 {csr})")
    h.emit(f"br i1 {hit}, label %out, label %on{UNLIKELY}")
    h.label("out")
    h.leave(NativeExit.STOPPED)
    h.label("on")
    handler = h.value(f"inttoptr i64 {h.word_at(place, RECORD_HANDLER)} to ptr")
    h.tail(handler)
    return h.text()


def undecoded(functions: dict[str, Compiled]) -> str:
    """Decode from here on, then look the record up again: here it may be the copy of a single step."""
    h = Handler("h.undecoded")
    pc = h.pc()
    h.put("pc", pc)
    python_decodes = h.value(f"icmp eq i64 {h.get('decode_base')}, 0")
    h.emit(f"br i1 {python_decodes}, label %leave, label %decode")
    h.label("leave")
    h.leave(NativeExit.UNDECODED)
    h.label("decode")
    given = ", ".join(f"i64 {v}" for v in (h.get("code_table"), h.get("code_host"), h.value(f"and i64 {pc}, 4095")))
    h.emit(f"call fastcc void @{functions['decode_block'].symbol}(ptr %st, {given})")
    h.put("next_pc", pc)
    h.emit("%many = icmp sgt i64 %ic, 0")
    h.emit("br i1 %many, label %again, label %last")
    h.label("again")
    h.tail("@h.resume")
    h.label("last")
    h.tail("@h.budget")
    return h.text()


def simple_joints(functions: dict[str, Compiled]) -> list[str]:
    """Page ends, single steps, undefined instructions, and the way in."""
    page_end = Handler("h.page_end")
    page_end.jump_pc(page_end.pc(), ic="%ic")
    step_end = Handler("h.step_end")
    step_end.put("next_pc", step_end.pc())
    step_end.tail("@h.budget")
    undefined = Handler("h.undefined")
    undefined.put("pc", undefined.pc())
    undefined.instret()
    undefined.emit("%ic1 = add i64 %ic, -1")
    undefined.emit(f"call fastcc void @{functions['raise_illegal'].symbol}(ptr %st)")
    undefined.tail("@h.resume", ic="%ic1")
    return [undecoded(functions), page_end.text(), step_end.text(), undefined.text(), way_in()]


def way_in() -> str:
    """Enter a hart, with the host's floating-point unit as IEEE 754 wants it: a library may have left it otherwise."""
    kept = LAYOUT.fields["host_subnormals"].index * 8
    return f"""declare void @llvm.x86.sse.stmxcsr(ptr)
declare void @llvm.x86.sse.ldmxcsr(ptr)
define void @run(ptr %st, i64 %ic) nounwind {{
  %was = alloca i32
  %own = alloca i32
  call void @llvm.x86.sse.stmxcsr(ptr %was)
  store i32 {MXCSR}, ptr %own
  call void @llvm.x86.sse.ldmxcsr(ptr %own)
  %kept = getelementptr inbounds i8, ptr %st, i64 {kept}
  store i64 1, ptr %kept, align 8
  call {CC} void @h.resume(ptr %st, ptr null, i64 %ic, ptr null)
  store i64 0, ptr %kept, align 8
  call void @llvm.x86.sse.ldmxcsr(ptr %was)
  ret void
}}"""

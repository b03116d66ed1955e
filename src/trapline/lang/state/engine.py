"""The engines' own words: caches, addresses of this process, results in passing."""

from __future__ import annotations

from trapline.lang.layout import Kind
from trapline.lang.state.words import LAYOUT, REGIONS, SAMPLES, STEP_SLOTS


class EngineWords:
    """The engines' own words: caches, addresses of this process, results in passing."""

    # The native engine's own words: translation sets, decoded code, callbacks, and the instruction budget.
    # A snapshot leaves them out: add here what is an address of this process or a cache of the engine.
    LAYOUT.kind = Kind.HOST
    tlb_base, tlb_ptr, ctx_next = LAYOUT.words(3)
    big_first = LAYOUT.array(2)  # by bit 63 of the address: the span of the large pages in the translation sets
    big_last = LAYOUT.array(2)
    guest_tables_of = LAYOUT.array(2)  # the hgatp and menvcfg under which the places of VS-stage tables were found
    ctx_set = LAYOUT.array(32)  # by ctx_now: the host address of its translation set, 0: not known, always so with MPRV
    ctx_used = LAYOUT.array(16)
    ctx_keys = LAYOUT.array(64)
    ctx_wanted = LAYOUT.array(4)
    region_info = LAYOUT.array(REGIONS)  # host address of one word a page: its table of records, or 1: may be written
    code_table, code_k, code_host, fetch_uncached = LAYOUT.words(4)
    next_hart = LAYOUT.word()  # host address of the engine's next hart; 0: none
    fn_device_load, fn_device_store, fn_forget_code, fn_transform, fn_memset, fn_host = LAYOUT.words(6)
    # Devices whose registers native code serves: host addresses of their state and of the functions, 0: Python does.
    region_io = LAYOUT.array(REGIONS + 1)  # the last is WATCHER's, which is always Python's
    region_load = LAYOUT.array(REGIONS + 1)
    region_store = LAYOUT.array(REGIONS + 1)
    region_calm = LAYOUT.array(REGIONS + 1)  # 1: every read is calm
    far_value, far_place = LAYOUT.words(2)  # what far_load read of a device, and the host address of that word
    ic_base, ic_margin, ic_left, ic_end, native_exit = LAYOUT.words(5)
    inexact_known = LAYOUT.word()  # 0; regions are made as if it was 1 where they have seen that NX is set
    host_subnormals = LAYOUT.word()  # 1: what runs has told the host's floating-point unit to keep subnormal numbers
    # Copies of records, and two that come back to the budget: the last copy may be of either length.
    step_record = LAYOUT.array(2 * (STEP_SLOTS + 2), align=2)
    step_handlers = LAYOUT.array(256)
    call_failed = LAYOUT.word()
    fn_serve = LAYOUT.word()  # engine.running asks Python
    clock_moved = LAYOUT.word()  # 1: native code was left because ic_end is nearer (machine.devices.clint)
    decode_base = LAYOUT.word()  # the instruction table of engine.decode_table; 0: Python decodes
    # Compiled regions: where they lie, what they call, and where the hart was at each sampling point.
    jit_low, jit_high, fn_goto, fn_budget, fn_resume = LAYOUT.words(5)
    # 1: there is no more room for them; the hart leaves native code at the next sampling point
    jit_full = LAYOUT.word()
    jit_waits = LAYOUT.word()  # 1: the threads that compile start at the second sample; the first is taken at once
    sample_at, sample_count = LAYOUT.words(2)  # the instret of the next sample, and how many were taken
    # Host address of the record to which the last jump went that looked at the budget, and the mode's index there.
    run_start, run_mode = LAYOUT.words(2)
    sample_record = LAYOUT.array(SAMPLES)  # run_start at each sampling point
    sample_pc = LAYOUT.array(SAMPLES)  # its virtual address, and the index of the mode
    sample_mode = LAYOUT.array(SAMPLES)
    cold_function = LAYOUT.array(64)  # C functions that regions call
    # host address of regions to be put in at the next sampling point (engine.code_bytes); 0: none
    offers = LAYOUT.word()

    LAYOUT.kind = Kind.STATE
    # The instret at which the board's schedule has this hart come back, 0: it does not say.
    turn_end = LAYOUT.word(kind=Kind.HOST)

    # The pages that a checkpoint has kept (engine.undo_log), 0: there is none.
    undo_base, fn_memcpy = LAYOUT.words(2, kind=Kind.HOST)

    # The address of the explicit access under way, for the transformed instruction's Addr. Offset.
    access_va = LAYOUT.word(kind=Kind.PASSING)

    # Ways out of native code. attention: 1 look up the next pc again, 2 leave.
    attention, exit_reason, exit_arg = LAYOUT.words(3, kind=Kind.PASSING)

    # Second results of subset functions that have more than one.
    LAYOUT.kind = Kind.PASSING
    walk_gpa, walk_pte, walk_level, walk_page, walk_large = LAYOUT.words(5)
    walk_guest_pte, walk_guest_level = LAYOUT.words(2)  # of the G-stage
    scratch = LAYOUT.array(8)
    fw_event = LAYOUT.word()  # what the hosted firmware did with its last trap
    attempted = LAYOUT.word()  # what the function of an attempt returned

"""What is counted, and what waits for a hart to come by."""

from __future__ import annotations

from trapline.lang.layout import Kind
from trapline.lang.state.words import LAYOUT, MOST_TIME, TRAP_CAUSES, TRAP_DESTINATIONS, TRAP_ORIGINS


class ObservationWords:
    """What is counted, and what waits for a hart to come by."""

    LAYOUT.kind = Kind.STATE
    # Counters, always on. Mode index: U 0, HS 1, M 3, VU 4, VS 5.
    trap_count = LAYOUT.array(TRAP_CAUSES * TRAP_ORIGINS * TRAP_DESTINATIONS, most=MOST_TIME)
    mode_instret = LAYOUT.array(8, most=MOST_TIME)  # instructions retired in each mode, up to the last change of mode
    mode_since = LAYOUT.word(most=MOST_TIME)  # instret at the last change of mode

    LAYOUT.kind = Kind.HOST
    # Whoever looks on: 0, and nothing looks.
    observe_base = LAYOUT.word()  # the tables of engine.observe.trips; 0: nobody observes
    stops_base = LAYOUT.word()  # the table of engine.observe.stops; 0: nobody waits for anything
    stop_traps = LAYOUT.word()  # 1: some traps are caught: none is fast
    # The entry that was hit, the address, the hosted level whose turn comes next (bit 0 M, bit 1 HS).
    stop_entry, stop_va, stop_then, fn_arm_code = LAYOUT.words(4)
    stop_pc = LAYOUT.word()  # of the instruction that made a watched access
    stop_amo = LAYOUT.word()  # address + 1 of a watched AMO whose store is still to come
    stop_pass_pc, stop_pass_at = LAYOUT.words(2)  # where the hart was looked at last: pc, instret + 1

    trace_base = LAYOUT.word(kind=Kind.HOST)  # the ring of engine.observe.trace; 0: nobody traces

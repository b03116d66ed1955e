"""A hart's run: the budget of native code, and why it comes back. The native engine's alone.

Schedules of several harts are compiled too and run each hart through here, so that a turn costs no Python. What only
the engine's Python can do (records of a new page, an instruction that cannot be cached, trouble) it is asked to do.
"""

from __future__ import annotations

from trapline.engine.compiler_names import MARGIN
from trapline.engine.records import NATIVE_LIMIT, SEMANTIC
from trapline.lang.control import EXIT_LIMIT, SERVE_CODE, SERVE_EXIT, enter_code, serve_run
from trapline.lang.functions import hosted, inline
from trapline.lang.state import Hart
from trapline.lang.values import U64, signed
from trapline.privilege.derived import update_derived
from trapline.privilege.interrupts import update_timers

_FOREVER = 1 << 62
_LEAST = 0xFFFF_FFFF_FFFF_FFFF


@inline
def settle(hart: Hart) -> None:
    """Notice the overflow of a counter behind the very instruction: whoever is left for may look at mip."""
    if hart.instret >= hart.hpm_due:
        update_derived(hart)


@inline
def next_budget(hart: Hart) -> U64:
    """Attempts until native code looks at its budget: up to the limit, a counter's overflow or the next sample.

    All ones: the few that are left are single steps.
    """
    end = hart.ic_end
    if hart.hpm_due < end:
        end = hart.hpm_due
    left = end - hart.instret
    turn = U64(_LEAST)
    if signed(left) > MARGIN:
        turn = left - MARGIN
        ahead = hart.sample_at - hart.instret
        if signed(ahead) < 0:
            ahead = U64(0)
        if ahead < turn:
            turn = ahead
    hart.ic_margin = left - turn
    hart.ic_base = hart.instret + turn
    return turn


@hosted
def run_hart(hart: Hart, limit: U64) -> U64:
    """Run until `limit` more attempts or another reason to leave (EXIT_*)."""
    if hart.time_offset != hart.timer_offset or hart.time_ratio != hart.timer_ratio:
        update_timers(hart)
        update_derived(hart)
    hart.ic_end = hart.instret + limit  # exits that native code handles may move it
    hart.attention = 0
    hart.clock_moved = 0
    for _ in range(_FOREVER):
        settle(hart)
        hart.next_pc = hart.pc
        enter_code(hart, next_budget(hart))
        settle(hart)
        if hart.jit_full != 0 or (hart.jit_waits != 0 and hart.sample_count > 1):
            serve_run(hart, SERVE_CODE)
        reason = hart.native_exit
        if reason != NATIVE_LIMIT and reason != SEMANTIC:
            reason = serve_run(hart, SERVE_EXIT)
            if reason != 0:
                return reason
        elif reason == NATIVE_LIMIT:
            if hart.instret >= hart.ic_end:
                return U64(EXIT_LIMIT)
        elif hart.clock_moved == 0 or hart.instret >= hart.ic_end:
            return hart.exit_reason
        else:
            hart.clock_moved = 0
    return U64(EXIT_LIMIT)

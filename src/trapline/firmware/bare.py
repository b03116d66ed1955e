"""A machine without hypervisor whose traps into M-mode the compiled firmware serves, as far as it goes alone."""

from __future__ import annotations

from trapline.firmware.handler import NOT_SERVED, serve_trap
from trapline.lang.control import EXIT_HOSTED_M, EXIT_LIMIT, EXIT_TIMER, run_engine
from trapline.lang.functions import hosted
from trapline.lang.state import Hart
from trapline.lang.values import U64
from trapline.privilege.derived import update_derived
from trapline.privilege.interrupts import timer_ahead, update_timers

_FOREVER = 1 << 62


@hosted
def run_bare(hart: Hart, limit: U64) -> U64:
    """Run `limit` more attempts, or up to what Python must see to: the reason (EXIT_*).

    Redirected and emulated traps stay here; SBI calls and interrupts of the machine are the caller's, and a hart that
    waits. The firmware's own counts (its PMU events, its statistics) do not move.
    """
    end = hart.instret + limit
    for _ in range(_FOREVER):
        until = timer_ahead(hart)
        if end < until:
            until = end
        reason = run_engine(hart, until - hart.instret)
        if reason == EXIT_HOSTED_M:
            if serve_trap(hart) == NOT_SERVED:
                return reason
        elif reason != EXIT_LIMIT and reason != EXIT_TIMER:
            return reason
        update_timers(hart)
        update_derived(hart)
        if hart.instret >= end:
            break
    return U64(EXIT_LIMIT)

"""Samples of where a hart runs, by which the second tier finds hot code: one each SAMPLE_PERIOD attempts or so."""

from __future__ import annotations

from trapline.engine.compiler_names import MARGIN, SAMPLE_PERIOD, UNEVEN, UNEVEN_STEP
from trapline.lang.functions import hosted
from trapline.lang.state import Hart
from trapline.lang.state.words import SAMPLES
from trapline.lang.values import U64, signed

_LEAST = SAMPLE_PERIOD - UNEVEN // 2


@hosted
def take_sample(hart: Hart, left: U64) -> U64:
    """Note where the run began that goes on just now, in the page that is current; return the next budget.

    `left`: attempts until the limit, more than MARGIN.
    """
    now = hart.ic_base + hart.ic_margin - left
    number = hart.sample_count & (SAMPLES - 1)
    # A loop whose length has a part in common with the period would always be met at the same few of its places.
    period = ((hart.sample_count * UNEVEN_STEP) & (UNEVEN - 1)) + _LEAST
    turn = left - MARGIN
    if period < turn:
        turn = period
    hart.sample_at = now + period
    hart.ic_base = now + turn
    hart.ic_margin = left - turn
    hart.sample_record[number] = hart.run_start
    hart.sample_pc[number] = (hart.run_start >> 3) + hart.code_k
    hart.sample_mode[number] = hart.run_mode
    hart.sample_count = hart.sample_count + 1
    return turn


@hosted
def sample_inside(hart: Hart, ic: U64) -> U64:
    """Take the sample that is due in a region, which goes on with the budget that is returned.

    It is the old one, below 0, where the region has to be left: at the limit, and for another that may be better.
    """
    left = ic + hart.ic_margin
    if signed(left) <= MARGIN or hart.jit_full != 0 or hart.offers != 0:
        return ic
    return take_sample(hart, left)

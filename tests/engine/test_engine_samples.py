"""Samples of where a guest runs meet every part of a loop, whatever its length."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.engine.harness import Bench
from trapline.lang.state.words import LAYOUT, SAMPLES


@pytest.mark.parametrize(("long", "short"), [(51, 3), (54, 6), (70, 4)])
def test_samples_meet_the_short_part_of_a_loop(long: int, short: int) -> None:
    """A loop that jumps after a long part and after a short one: samples fall into both, by their lengths."""
    bench = Bench(
        "native",
        f"""
        la s2, first
        la s3, second
        first: {"addi a0, a0, 1; " * (long - 1)} jalr zero, 0(s3)
        second: {"addi a0, a0, 1; " * (short - 1)} jalr zero, 0(s2)
        """,
    )
    bench.run(20_000 * SAMPLES)
    at = LAYOUT.fields["sample_pc"].index
    counts = Counter(bench.hart.mem[at + 1 : at + SAMPLES - 16])  # but for the first, which is of the beginning
    fair = SAMPLES * short / (long + short)
    assert fair / 2 < counts[int(bench.hart.x[19])] < fair * 2


# One loop with two places that are jumped back to: either is the head of a region that has the other inside.
TWO_HEADS = """
    li a3, 4
    outer: addi a0, a0, 1
    addi a1, a1, 1
    inner: addi a2, a2, 1
    and a4, a2, a3
    bnez a4, inner
    j outer
"""


def test_a_loop_stays_in_its_region() -> None:
    """A region takes samples itself: the run goes on in it, and all samples are of the place where it was entered."""
    bench = Bench("forced", TWO_HEADS)
    bench.run(20_000 * 64)
    count, at = int(bench.hart.sample_count), LAYOUT.fields["sample_pc"].index
    assert count in range(62, 67)
    assert len(set(bench.hart.mem[at + 2 : at + count])) == 1
    plain = Bench("native", TWO_HEADS)
    plain.run(20_000 * 64)
    assert bench.state() == plain.state()


def test_a_region_is_left_when_their_memory_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop comes out of its region when the memory of regions is to be emptied."""
    bench = Bench("forced", TWO_HEADS)
    bench.run(20_000 * 4)
    monkeypatch.setattr(bench.engine.tier.area, "full", True)
    bench.hart.jit_full = 1
    before = int(bench.hart.instret)
    bench.run(20_000 * 64)
    assert int(bench.hart.instret) - before == 20_000 * 64
    assert int(bench.hart.jit_full) == 0

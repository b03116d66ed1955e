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

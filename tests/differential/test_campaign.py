"""Campaigns on the common executor."""

from __future__ import annotations

from tests.differential.campaign_jobs import killed_at_3

from trapline.verify.campaign import VARIANTS, results


def test_a_stream_whose_process_is_killed_is_a_failure_with_its_command() -> None:
    """kill -9 costs a campaign that stream alone: the others come in order, and its result says how to run it."""
    done = list(results(range(6), VARIANTS, 2, run=killed_at_3))
    assert [(r.seed, r.instructions) for r in done] == [(n, 0 if n == 3 else 10) for n in range(6)]
    assert done[3].differences == (
        "the worker was killed by signal 9",
        "benchmarks/campaign --explain 3 --variant plain --blocks 64 --length 250",
    )

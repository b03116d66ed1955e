"""What a search keeps, to change it into others."""

from __future__ import annotations

import pytest

from trapline.fuzz.image import CODE
from trapline.fuzz.search import LOOKED_FIRST, LOOKED_SHARE, News, Plan, Search
from trapline.isa.assemble import assemble
from trapline.lab.settings import settings
from trapline.policies import load_policy


@pytest.mark.parametrize("nested", [False, True])
def test_a_program_with_a_new_edge_of_the_hosted_levels_is_kept(nested: bool) -> None:
    """Two exits that are known, one behind the other for the first time, make their program part of the corpus."""
    plan = Plan(settings("proposed"), nested=load_policy("proposed") if nested else None)
    search = Search(plan)
    world = search.world(plan.isas[0])
    nothing, device, nowhere = (assemble(text, CODE) for text in ("nop", "lw zero, 0(sp)", "lw zero, 0(s2)"))
    for known in (nothing, device, nowhere) * 2:  # once for its route, once for its edges
        search._batch(world, [known], 0, News())
    before = list(search.corpus)
    search._batch(world, [device, nothing, nowhere], 0, News())
    assert search.corpus == before
    pairs = [device + nowhere, nowhere + device]
    for pair in pairs:
        search._batch(world, [nothing, pair, nothing], 0, News())
    kept = search.corpus[len(before) :]
    assert kept  # not always both: two edges may share a bit
    assert kept == [pair for pair in pairs if pair in kept]


def test_the_corpus_grows_and_costs_a_share() -> None:
    """A search finds new edges in its first batches, and runs no more programs again for that than their share."""
    search = Search(Plan(settings("proposed"), seed=1))
    for _ in range(16):
        search.step(128)
    assert len(search.corpus) > 12
    search._looked = 1 << 20
    kept = len(search.corpus)
    search.step(128)
    assert len(search.corpus) == kept
    assert LOOKED_FIRST + LOOKED_SHARE * search._ran < search._looked

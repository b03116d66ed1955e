"""Calls through registers inside regions."""

from __future__ import annotations

from tests.engine.harness import BASE, Bench
from trapline.engine.jit.region import Former
from trapline.engine.jit.source import Pages
from trapline.engine.jit.template import kept_templates

PROGRAM = """
    la s1, double
    la s2, increment
    li s0, 2000
again:
    jalr ra, 0(s1)
    jalr ra, 0(s2)
    mv t0, s1
    mv s1, s2
    mv s2, t0
    addi s0, s0, -1
    bnez s0, again
end:
    j end
double:
    add a0, a0, a0
    xor a0, a0, s0
    ret
increment:
    addi a0, a0, 1
    ret
"""


def places(bench: Bench) -> tuple[int, list[int]]:
    """The address of the loop, and those of both functions."""
    x = bench.hart.x
    return BASE + 20, sorted((int(x[9]), int(x[18])))


def test_hot_places_are_what_is_called() -> None:
    """A region takes hot places that nothing leads to for what its calls through registers call."""
    bench = Bench("native", PROGRAM)
    bench.run(100)
    code = bench.engine.code
    page = next(iter(code.by_table.values()))
    head, called = places(bench)
    hot = [place - head for place in [*called, head + 4]]
    region = Former(Pages(page, head), code.decoder.search, kept_templates(True)).form(head - BASE, hot=hot)
    assert region is not None
    assert region.called == [place - BASE for place in called]


def test_results_are_the_same_with_what_is_called_inside() -> None:
    """A region that holds what it calls leaves the hart at the same state after any number of attempts."""
    plain, tiered = Bench("native", PROGRAM), Bench("tiered", PROGRAM)
    for bench in (plain, tiered):
        bench.run(100)
    head, called = places(tiered)
    tier, page = tiered.engine.tier, next(iter(tiered.engine.code.by_table.values()))
    tier.start()
    for place in [*called, head]:
        tier.heat.note(page.table + (place - BASE) * 8, tiered.hart, place, 3)
    tier.make(page.table + (head - BASE) * 8)
    assert page.regions
    for attempts in (3000, 1, 4001, 20, 9000):
        for bench in (plain, tiered):
            bench.run(attempts)
        assert tiered.state() == plain.state()

"""Tables that a loop looks small numbers up in."""

from __future__ import annotations

import pytest

from tests.engine.harness import BASE, Bench
from trapline.engine.jit.bases import Base, bases
from trapline.engine.jit.region import Former
from trapline.engine.jit.source import Pages
from trapline.engine.jit.template import kept_templates

PROGRAM = """
    la s1, table
    li s0, 300
    la s2, table
again:
    addi a0, a0, 7
    {index}
    add a5, a5, s1
    lbu a4, 0(a5)
    xor a0, a0, a4
    ld a3, 0(s2)
    addi s2, s2, 8
    addi s0, s0, -1
    bnez s0, again
end:
    j end
    .balign 8
table:
"""
SMALL = [
    "andi a5, a0, 63",
    "lbu a5, 5(s1)",
    "srliw a5, a0, 22",
    "srli a5, a0, 54",
    "andi a5, a0, 7\n    slli a5, a5, 3",
]
LARGE = ["mv a5, a4", "srli a5, a0, 50", "andi a5, a0, 63\n    slli a5, a5, 8", "andi a5, a0, 9\n    sub a5, a5, a4"]


def base_of(load: str, index: str = "mv a5, a4") -> Base:
    """What is known of the base of the load."""
    bench = Bench("native", PROGRAM.format(index=index))
    bench.run(100)
    code = bench.engine.code
    page = next(iter(code.by_table.values()))
    region = Former(Pages(page, BASE), code.decoder.search, kept_templates(True)).form(0)
    assert region is not None
    known = bases(region)
    return next(
        known[p]
        for b in region.blocks.values()
        for p, f in b.code
        if f.instruction.name == load and p in known and f.operands["rs1"] in (15, 18)
    )


@pytest.mark.parametrize("index", SMALL)
def test_a_small_number_is_looked_up_in_the_page_of_its_table(index: str) -> None:
    """A register that stays plus a number below the size of half a page keeps the page of the table."""
    assert base_of("lbu", index) == Base(steady=True, chased=False, table=9)


@pytest.mark.parametrize("index", LARGE)
def test_a_number_that_may_be_large_is_no_place_in_a_small_table(index: str) -> None:
    """An address that may be far from the table's has no kept page."""
    assert base_of("lbu", index).table is None


@pytest.mark.parametrize("index", [*SMALL, *LARGE[:1]])
def test_results_are_the_same_with_look_ups(index: str) -> None:
    """A region with look-ups leaves the hart at the same state after any number of attempts."""
    plain, tiered = (Bench(kind, PROGRAM.format(index=index)) for kind in ("native", "tiered"))
    for bench in (plain, tiered):
        bench.run(60)
    tier, page = tiered.engine.tier, next(iter(tiered.engine.code.by_table.values()))
    tier.start()
    for offset in (0, 20, 22, 24, 26, 28, 30):
        tier.heat.note(page.table + offset * 8, tiered.hart, BASE + offset, 3)
        tier.make(page.table + offset * 8)
    assert page.regions
    for attempts in (300, 1, 401, 20, 3000):
        for bench in (plain, tiered):
            bench.run(attempts)
        assert tiered.state() == plain.state()

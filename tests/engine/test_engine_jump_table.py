"""Jumps through tables (`switch`, computed `goto`) inside regions."""

from __future__ import annotations

import pytest

from tests.engine.harness import BASE, Bench
from trapline.engine.jit.region import Former
from trapline.engine.jit.source import Pages
from trapline.engine.jit.surroundings import read_data
from trapline.engine.jit.template import kept_templates

CASES = "".join(f"case{n}:\n    addi a0, a0, {n + 1}\n    xor a0, a0, s0\n    j next\n" for n in range(6))
DISTANCES = "".join(f"    .word case{n} - table\n" for n in range(6))
ADDRESSES = "".join(f"    .dword case{n}\n" for n in range(6))
PROGRAM = """
    la a2, table
    li s0, 6000
    li a7, 6
next:
    addi s0, s0, -1
    beqz s0, end
    mul a5, s0, s0
    add a5, a5, a0
    remu a5, a5, a7
    slli a5, a5, {shift}
    add a5, a5, a2
    {load} a5, 0(a5)
    {add}
    jr a5
end:
    j end
{cases}
    .balign 8
table:
{table}
"""
KINDS = {
    "distances": PROGRAM.format(shift=2, load="lw", add="add a5, a5, a2", cases=CASES, table=DISTANCES),
    "addresses": PROGRAM.format(shift=3, load="ld", add="", cases=CASES, table=ADDRESSES),
}


def start(bench: Bench) -> tuple[int, int]:
    """The offsets of the loop and of its jump through the table, after a run that met every case."""
    bench.run(400)
    page = next(iter(bench.engine.code.by_table.values()))
    data = page.content(0, 512)
    search = bench.engine.code.decoder.search
    head = next(o for o in range(0, 64, 2) if data[o : o + 2] == b"\x7d\x14" or data[o : o + 4] == b"\x13\x04\xf4\xff")
    jump = next(
        o
        for o in range(head, 128, 2)
        if (found := search(int.from_bytes(data[o : o + 2], "little"))) and found.instruction.name == "jalr"
    )
    return head, jump


@pytest.mark.parametrize("kind", KINDS)
def test_the_cases_of_a_table_are_in_the_region(kind: str) -> None:
    """A region holds every case that ran of a table of distances or addresses, also without a sample in any of them."""
    bench = Bench("native", KINDS[kind])
    head, jump = start(bench)
    code, hart = bench.engine.code, bench.hart
    page = next(iter(code.by_table.values()))
    pages = Pages(page, BASE + head, read=lambda va, size: read_data(hart, page.host, va, size))
    region = Former(pages, code.decoder.search, kept_templates(True)).form(head)
    assert region is not None
    assert len(region.switched[jump]) == 6
    assert set(region.switched[jump]) <= region.blocks.keys()


@pytest.mark.parametrize("kind", KINDS)
def test_results_are_the_same_with_the_cases_inside(kind: str) -> None:
    """A region with a table's cases leaves the hart at the same state after any number of attempts."""
    plain, tiered = Bench("native", KINDS[kind]), Bench("tiered", KINDS[kind])
    head, _ = start(plain)
    start(tiered)
    tier, page = tiered.engine.tier, next(iter(tiered.engine.code.by_table.values()))
    tier.start()
    tier.heat.note(page.table + head * 8, tiered.hart, BASE + head, 3)
    tier.make(page.table + head * 8)
    assert page.regions
    for attempts in (3000, 1, 4001, 20, 9000, 30000):
        for bench in (plain, tiered):
            bench.run(attempts)
        assert tiered.state() == plain.state()

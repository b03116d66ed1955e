"""Loops of regions, and what is known of the base registers of accesses in them."""

from __future__ import annotations

import pytest

from tests.engine.harness import BASE, Bench
from trapline.engine.jit.bases import bases, natural_loops
from trapline.engine.jit.region import Former, Region
from trapline.engine.jit.source import Pages
from trapline.engine.jit.template import kept_templates

# What is called stands behind the loop; `fill` makes the addresses that the loop walks through from loaded ones.
PROGRAM = """
fill:
    auipc s1, 1
    ld a0, 0(s1)
    add a0, a0, s1
    li s0, 40
    {enter}
top:
    add t1, t1, t2
middle:
    lw t2, 0(a0)
    {call}
    addi a0, a0, 4
    addi s0, s0, -1
    bnez s0, top
end:
    j end
function:
    addi a1, a1, 1
    ret
"""


def region_of(enter: str, call: str = "nop") -> Region:
    """The region of a program that has run, whose head is its beginning."""
    bench = Bench("native", PROGRAM.format(enter=enter, call=call))
    bench.run(400)
    code = bench.engine.code
    page = next(iter(code.by_table.values()))
    region = Former(Pages(page, BASE), code.decoder.search, kept_templates(True)).form(0)
    assert region is not None
    return region


def names(region: Region, loop: set[int]) -> list[str]:
    """The instructions of a loop."""
    return [found.instruction.name for start in sorted(loop) for _, found in region.blocks[start].code]


@pytest.mark.parametrize("enter", ["j middle", "nop", "beqz t3, middle"])
def test_a_loop_is_its_blocks_wherever_it_is_entered(enter: str) -> None:
    """The blocks of a loop are the same where a jump enters it in its middle, and where it is entered at its top."""
    region = region_of(enter)
    loop = next(loop for loop in natural_loops(region) if len(names(region, loop)) > 1)
    assert names(region, loop) == ["add", "lw", "addi", "addi", "addi", "bne"]


@pytest.mark.parametrize("enter", ["j middle", "nop", "beqz t3, middle"])
def test_a_pointer_that_walks_is_not_chased(enter: str) -> None:
    """A register to which a loop adds a constant is not taken for a loaded address because one was loaded in front."""
    region = region_of(enter)
    place = next(p for b in region.blocks.values() for p, f in b.code if f.instruction.name == "lw")
    assert not bases(region)[place].chased


def test_what_is_called_belongs_to_a_loop() -> None:
    """A loop that calls holds what it calls, also where it is entered in its middle."""
    region = region_of("j middle", "jal ra, function")
    loop = max(natural_loops(region), key=len)
    assert "jalr" in names(region, loop)

"""Regions that go over to other pages and other modes do exactly what the interpreter does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.call_runs import calls_beside, calls_with_switches, everything
from tests.engine.harness import Bench
from tests.engine.page_calls import program


@pytest.mark.parametrize("virtual", [False, True], ids=["U", "VU"])
@pytest.mark.parametrize("seed", [0, 1, 4])
@pytest.mark.usefixtures("region_size")
def test_calls_across_pages_and_modes(seed: int, virtual: bool) -> None:
    """Programs whose pages are swapped, patched and called, with every block compiled before it runs."""
    plain, forced = Bench("native"), Bench("forced")
    for bench in (plain, forced):
        program(bench, seed, virtual=virtual)
        bench.run(16_000)
    assert everything(forced) == everything(plain)
    regions = [r for page in forced.engine.code.by_table.values() for r in page.regions]
    assert any(len({id(part) for part, _ in region.parts}) > 1 for region in regions)


# 10: five pages, and a change of mode early on; 31: LLVM 22 ends its process over a region of average size.
@pytest.mark.parametrize("seed", [10, *range(20, 24), 31])
@pytest.mark.usefixtures("region_size")
def test_they_may_come_and_go(seed: int) -> None:
    """The same with regions taken out and put in at random places between slices of random length."""
    assert not calls_with_switches(seed, 10_000)[1]


@pytest.mark.parametrize("seed", range(30, 34))
def test_regions_are_made_beside_the_guest(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with regions compiled and kept by threads while the program runs, and found by a second machine."""
    monkeypatch.setenv("TRAPLINE_CACHE", str(tmp_path))
    monkeypatch.setattr("trapline.engine.jit.heat.HOT_SAMPLES", 2)
    first = calls_beside(seed, 4_000_000)
    second = calls_beside(seed, 4_000_000)
    assert not first.differs
    assert not second.differs
    assert first.compiled + second.found + second.compiled > 0


def test_the_reference_agrees() -> None:
    """The interpreter alone does what CPython does with such a program."""
    plain, reference = Bench("native"), Bench("reference")
    for bench in (plain, reference):
        program(bench, 5, virtual=True)
        bench.run(4000)
    assert plain.state() == reference.state()


def test_overlapping_instructions_meet_again() -> None:
    """Code that is read from the middle of an instruction too is compiled once from where both readings agree."""
    source = """
        li s0, 300
    again:
        andi t1, s0, 1
        bnez t1, inner
    outer:
        .half 0x02b7
    inner:
        .half 0x0985
        addi s2, s2, 5
        add s4, s4, t0
        addi s0, s0, -1
        bnez s0, again
    end: j end
    """
    plain, forced = Bench("native", source), Bench("forced", source)
    for bench in (plain, forced):
        bench.run(5000)
    assert forced.engine.tier.compiled
    assert forced.state() == plain.state()

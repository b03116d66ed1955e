"""Code that is kept from run to run, code that is taken before it is decoded, and fences over it."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest

from tests.engine.harness import BASE, SIZE, Bench
from trapline.engine.code import CodePage
from trapline.engine.jit.store import RegionStore
from trapline.engine.native import NativeEngine
from trapline.isa.assemble import assemble

HALVES = """
    li s0, 400
again:
    andi t1, s0, 1
    beqz t1, even
    addi s1, s1, 3
even:
    addi s1, s1, 5
    addi s0, s0, -1
    bnez s0, again
end: j end
"""
RARE = """
    mv t0, s2
again:
    beqz t0, rare
back:
    addi s1, s1, 5
    addi t0, t0, -1
    bgez t0, again
end: j end
rare:
    addi s1, s1, 1000
    j back
"""


HEAD, RARELY = 4, 24  # offsets of `again` and `rare`


def kept_regions(monkeypatch: pytest.MonkeyPatch, bench: Bench, store: RegionStore) -> Any:
    """A tier for a bench's hart that finds regions in a store, and does nothing by itself."""
    bench.engine = NativeEngine(jit="force")
    bench.engine.attach(bench.hart)
    bench.regions.written = bench.engine.code_written
    bench.hart.decode_base = bench.engine.code.table
    tier = bench.engine.tier
    tier.start()
    tier.forced = False
    monkeypatch.setattr(tier, "store", lambda: store)
    return tier


def only_page(bench: Bench) -> CodePage:
    """The one page that was executed."""
    (page,) = bench.engine.code.by_table.values()
    return page


def test_a_kept_region_takes_code_that_is_not_decoded_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A region whose rare part has never run here is put in, and taken out by a change of that part."""
    store = RegionStore("any", Path(":memory:"))
    first, second = Bench("native", RARE), Bench("native", RARE)
    tier = kept_regions(monkeypatch, first, store)
    first.hart.x[18] = 20
    first.run(200)
    assert first.hart.x[9] == 20 * 5 + 1000 + 5
    assert tier.make(only_page(first).table + HEAD * 8)

    tier = kept_regions(monkeypatch, second, store)
    second.hart.x[18] = 1 << 30
    second.run(50)
    page = only_page(second)
    assert not page.used[RARELY]
    assert tier.install_kept(page.table + HEAD * 8)
    assert page.used[RARELY]
    assert len(page.regions) == 1

    second.write(BASE + RARELY, assemble("addi s1, s1, 7", 0))
    assert not page.regions
    second.hart.pc, second.hart.x[5], second.hart.x[9] = BASE + HEAD, 0, 0
    second.run(2)
    assert second.hart.x[9] == 7


def test_memory_that_goes_takes_its_code_along() -> None:
    """When a region of memory is removed, records and regions of its code go, and then the memory itself."""
    bench = Bench("forced", HALVES)
    bench.run(3000)
    assert bench.engine.code.by_info
    backing = weakref.ref(bench.regions.find(BASE).backing)
    bench.regions.remove(bench.regions.find(BASE))
    bench.regions.ram("other", BASE, SIZE)
    bench.regions.install(bench.hart)
    bench.engine.attach(bench.hart)
    assert not bench.engine.code.by_info
    assert not bench.engine.code.by_table
    gc.collect()
    assert backing() is None
    bench.write(BASE, assemble("addi s3, s3, 1\n j .-4", BASE))
    bench.hart.pc = BASE
    bench.run(1000)
    assert bench.hart.x[19] == 500


def test_stores_beside_code_stay_native() -> None:
    """Stores of data into a page with code, and a fence.i after each, forget nothing; a patch is seen."""
    source = """
        la s0, data
        la s2, patched
        li s1, 500
        li s4, 0
    again:
        sd s1, 0(s0)
        fence.i
    patched:
        addi s4, s4, 1
        addi s1, s1, -1
        bnez s1, again
        lw t0, 0(s2)
        li t1, 0x00100000
        add t0, t0, t1
        sw t0, 0(s2)
        fence.i
        li s1, 10
        bnez s4, again2
    again2:
        j again
        .balign 8
    data: .dword 0
    """
    bench = Bench("native", source)
    bench.run(6 + 500 * 5)
    assert bench.hart.x[20] == 500
    assert only_page(bench).epoch == 0
    bench.run(12 + 10 * 5 + 20)
    assert bench.hart.x[20] > 500 + 10


def test_a_place_without_time_is_remembered(tmp_path: Path) -> None:
    """What is wanted at the end of runs is known to the next, with the samples of all, until it has been met."""
    window = b"\x10\x00" + bytes(16)
    for samples in (200, 150):
        store = RegionStore("I", tmp_path / "r.sqlite")
        store.want(window, samples)
        store.close()
    again = RegionStore("I", tmp_path / "r.sqlite")
    assert again.wanted == {window: 350}
    assert not RegionStore("I M", tmp_path / "r.sqlite").wanted
    again.met(window)
    again.close()
    assert not RegionStore("I", tmp_path / "r.sqlite").wanted

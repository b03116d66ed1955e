"""Decoded code takes memory in proportion to the guest's, and forgetting the oldest changes nothing."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from trapline.engine.code import AHEAD, CODE_PAGE_BYTES, LEAST_PAGES, MOST_KNOWN, PAGE, CodeStore
from trapline.engine.compiler_names import step_index
from trapline.engine.jit.heat import MOST_PLACES
from trapline.engine.jit.source import Source
from trapline.engine.jit.store import MEMORY, MOST_FRESH, Identity, RegionStore
from trapline.engine.native import NativeEngine
from trapline.isa.assemble import assemble
from trapline.isa.decode import Decoder
from trapline.machine.machine import Machine

BASE = 0x8000_0000
# Fills pages with `addi a0, a0, N; ret`, calls each several times, rewrites them, and calls them again.
PROGRAM = """
 li s0, 0x80010000; li s2, 0x1000; li s5, 3
round:
 li s1, 0x80110000
 li t0, 0x00150513; li t1, 0x00008067
 slli t2, s5, 20; add t0, t0, t2
 mv s3, s0
fill:
 sw t0, 0(s3); sw t1, 4(s3); add s3, s3, s2; bltu s3, s1, fill
 fence.i
 li s4, 4
again:
 mv s3, s0
call:
 jalr ra, 0(s3); add s3, s3, s2; bltu s3, s1, call
 addi s4, s4, -1; bnez s4, again
 addi s5, s5, -1; bnez s5, round
 li t0, 0x100000; li t1, 0x5555; sw t1, 0(t0)
end: j end
"""


def run(tmp_path: Path, engine: NativeEngine | str, most: int | None = None) -> tuple[Machine, int]:
    """Run the program; return the machine, and the most pages that were decoded at a time."""
    path = tmp_path / "code.bin"
    path.write_bytes(assemble(PROGRAM, BASE))
    machine = Machine(memory=2 << 20, engine=engine)
    top = 0
    if most is not None:
        store = machine.engine.code
        store.most = most
        before = store.new_page

        def new_page(*words: object) -> object:
            nonlocal top
            found = before(*words)
            top = max(top, len(store.by_info))
            assert len(store.by_info) == len(store.by_table)
            return found

        store.new_page = new_page
    machine.load(path)
    result = machine.run(200_000)
    assert (result.reason, result.code) == ("exit", 0), result
    return machine, top


@pytest.mark.parametrize(("jit", "numbers"), [("off", (1, 2, 10, 100)), ("force", (10,)), ("fresh", (10,))])
def test_forgetting_pages_changes_nothing(tmp_path: Path, jit: str, numbers: tuple[int, ...]) -> None:
    """With room for few pages the same instructions run, with the same result, whatever is compiled of them."""
    wanted, _ = run(tmp_path, "native")
    for most in numbers:
        machine, top = run(tmp_path, NativeEngine(jit=jit), most)
        assert top <= most
        assert machine.position() == wanted.position()
        assert int(machine.harts[0].x[10]) == int(wanted.harts[0].x[10]) != 0


def test_tables_are_used_again(tmp_path: Path) -> None:
    """The memory of forgotten pages goes to new ones."""
    machine, _ = run(tmp_path, NativeEngine(jit="off"), 10)
    assert len(machine.engine.code._chunks) == 1


@pytest.mark.parametrize(("memory", "pages"), [(1 << 20, LEAST_PAGES), (256 << 20, 8192), (64 << 30, 1 << 15)])
def test_the_bound_follows_the_memory(memory: int, pages: int) -> None:
    """One page in eight may be decoded, between 84 MB and 1.3 GB of tables."""
    store = CodeStore(NativeEngine().symbols, step_index())
    store.size_for(memory >> 12)
    assert store.most == pages and store.most * CODE_PAGE_BYTES < 2 << 30


def test_known_instructions_are_bounded() -> None:
    """However many instructions a guest has, so many are remembered."""
    store = CodeStore(NativeEngine().symbols, step_index())
    store.set_decoder(Decoder(frozenset({"I"})))
    for bits in range(MOST_KNOWN + 100):
        store.memo[bits << 2] = (4, True, 0, 0, None, 0, 0)
    store.describe(0x13)
    assert len(store.memo) == 1


def test_a_dropped_page_can_be_decoded_anew() -> None:
    """Its info word says that nothing is decoded, and its table has a later epoch than what was made from it."""
    store = CodeStore(NativeEngine().symbols, step_index())
    store.most = 1
    words = (ctypes.c_uint64 * 2)()
    at, memory = ctypes.addressof(words), bytearray(4096)
    host = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    first = store.new_page(at, host, None)
    assert words[0] and store.make_room() and not words[0] and not store.by_info
    second = store.new_page(at + 8, host, None)
    assert second.table == first.table and second.epoch == first.epoch > 0


def test_places_of_samples_are_bounded() -> None:
    """However much code a guest has, the tier remembers so many places of it; those that are hot stay."""
    tier = NativeEngine(jit="fresh").tier
    assert tier is not None
    tier.heat.hot = {5}
    tier.heat.counts = dict.fromkeys(range(MOST_PLACES + 1), 1)
    tier.heat.places = dict.fromkeys(range(MOST_PLACES + 1))
    tier.done = {(n, 0) for n in range(MOST_PLACES + 1)}
    tier.heat.forget_cold()
    tier.look()
    assert list(tier.heat.counts) == list(tier.heat.places) == [5] and not tier.done


def test_compiled_code_that_is_remembered_is_bounded() -> None:
    """Code that changes all the time fills the memory for regions once, not for ever."""
    store = RegionStore("I", MEMORY)
    source = Source((), (), 0, (), (), ())
    for _ in range(20):
        store.add(source, Identity(b"digest", b""), bytes(MOST_FRESH // 10), 1)
    assert len(store._fresh) == len(store._rows) == 10


def test_tables_that_are_filled_ahead_are_those_of_new_pages() -> None:
    """Pages take what was filled before they came, one each, as blank as a table that is filled for them."""
    store = CodeStore(NativeEngine(jit="off").symbols, step_index())
    words = (ctypes.c_uint64 * (AHEAD + 3))()
    at = ctypes.addressof(words)
    first = store.new_page(at, PAGE, None)
    store.blank_ahead()
    store.blank_ahead()
    assert len(store._blanks) == AHEAD
    pages = [store.new_page(at + 8 * n, PAGE * (n + 1), None) for n in range(1, AHEAD + 3)]
    assert not store._blanks
    assert len({page.table for page in pages} | {first.table}) == AHEAD + 3
    assert {bytes(page.view.cast("B")) for page in pages} == {bytes(first.view.cast("B"))}

"""Compiled regions do exactly what the interpreter does, wherever they begin and whenever they come and go."""

from __future__ import annotations

import ctypes
import gc
import os
import random
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from tests.engine.harness import BASE, ENGINES, Bench
from tests.engine.test_engines import LOOP, PATCHES, around_patch
from tests.engine.tiers import compare_with_switches, differences
from trapline.engine.code import CodePage
from trapline.engine.jit.source import ANY, Pages, Source, window_of
from trapline.engine.jit.store import RegionStore, identify
from trapline.engine.native import NativeEngine
from trapline.verify.campaign import VARIANTS, Variant, generator
from trapline.verify.lockstep import make_machine


@pytest.mark.parametrize("limit", [1, 2, 3, 10, 97, 500, 2099, 2100, 2101, 4567])
def test_exact_counts(limit: int) -> None:
    """After any number of attempts a hart with regions stands where one without stands."""
    forced, plain = Bench("forced", LOOP), Bench("native", LOOP)
    forced.run(limit)
    plain.run(limit)
    assert forced.state() == plain.state()
    assert forced.engine.tier.compiled or limit < 10


def test_slices_do_not_matter() -> None:
    """The same attempts in slices of any length end in the same state, budgets that end inside regions included."""
    whole, parts = Bench("native", LOOP), Bench("forced", LOOP)
    whole.run(24_000)
    for size in (1, 2, 7, 90, 2100, 2500, 1300, 9000, 9000):
        parts.run(size)
    assert whole.state() == parts.state()


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: v.name)
@pytest.mark.parametrize("seed", [3, 4])
@pytest.mark.usefixtures("region_size")
def test_streams_with_regions_from_the_first_execution(variant: Variant, seed: int) -> None:
    """Random streams in every mode end in the same state, word for word, when each block is compiled before it runs."""
    elf = generator(variant).stream(seed, 4, 120).elf
    plain, forced = (make_machine(elf, variant.isa, NativeEngine(jit=jit)) for jit in ("off", "force"))
    plain.run(30_000)
    forced.run(30_000)
    assert forced.engine.tier is not None
    assert forced.engine.tier.failure is None
    assert forced.engine.tier.compiled > 5
    assert differences(plain, forced) == {}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.usefixtures("region_size")
def test_regions_may_come_and_go(seed: int) -> None:
    """Regions taken out and put in at random places between slices of random length change nothing."""
    _, found = compare_with_switches(50 + seed, VARIANTS[seed % len(VARIANTS)], random.Random(seed), 12_000)
    assert found == {}


@pytest.mark.parametrize("patch", [*PATCHES.values(), "sw t1, 0(t0)"], ids=[*PATCHES, "word"])
def test_a_patched_region_is_forgotten_at_once(patch: str) -> None:
    """A store into a region's bytes is seen by the next fetch."""
    hot = "li s0, 50\nagain: jal ra, patch\naddi s0, s0, -1\nbnez s0, again"
    source = around_patch(f"{hot}\n{patch}\njal ra, patch\njal ra, patch")
    forced, plain, reference = (Bench(e, source) for e in ("forced", "native", "reference"))
    for bench in (forced, plain, reference):
        bench.run(600)
    assert forced.state() == plain.state() == reference.state()


HOT = """
    li s0, 3000000
again:
    addi s1, s1, 3
    xor s2, s1, s0
    call inner
    addi s0, s0, -1
    bnez s0, again
end: j end
inner:
    add s3, s3, s2
    ret
"""


def test_hot_code_is_found_and_compiled_beside_the_guest() -> None:
    """A loop that runs for long is found by samples, compiled, and ends as without regions."""
    tiered, plain = Bench("tiered", HOT), Bench("native", HOT)
    tier = tiered.engine.tier
    deadline = time.monotonic() + 30
    plain.run(20_000)
    tiered.run(20_000)
    while tier.compiled + tier.found == 0 and time.monotonic() < deadline:
        tiered.run(200_000)
        plain.run(200_000)
    assert tier.failure is None
    assert tier.compiled + tier.found > 0
    for size in (100_000, 77, 300_001):
        tiered.run(size)
        plain.run(size)
    assert tiered.state() == plain.state()
    tier.close()


def test_a_machine_that_is_forgotten_leaves_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """When nothing refers to a machine any more, the threads that looked after its regions end."""
    monkeypatch.setitem(ENGINES, "tiered", "fresh")
    bench = Bench("tiered", HOT)
    tier = bench.engine.tier
    deadline = time.monotonic() + 30
    while tier.compiled == 0 and time.monotonic() < deadline:
        bench.run(200_000)
    assert tier.compiled
    threads = [tier._thread, tier._worker.thread]
    del bench, tier
    while any(thread.is_alive() for thread in threads) and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
    assert not any(thread.is_alive() for thread in threads)


# --- regions on disk ---


BACKING: list[Any] = []  # the memory of a_page's pages


def a_page(data: bytes) -> CodePage:
    """A page whose bytes are all decoded."""
    from trapline.engine.records import CODE_PAGE_BYTES

    memory = (ctypes.c_ubyte * 4096)(*data)
    BACKING.append(memory)
    page = CodePage(0, memoryview(bytearray(CODE_PAGE_BYTES)))
    page.host, page.owner = ctypes.addressof(memory), memory
    page.used[: len(data)] = b"\x01" * len(data)
    return page


def made_of(page: CodePage, covered: list[tuple[int, int]]) -> Source:
    """A region's source in one page, entered at its first byte."""
    content = tuple(page.content(*place) for place in covered)
    return Source((page,), ((0, 0),), ANY, (covered[0][0],), covered, content)


def keep(store: RegionStore, source: Source, code: bytes, instructions: int) -> None:
    """Add a region to a store."""
    identity = identify(source, source.pages[0].content(0, 4096), source.entries[0])
    store.add(source, identity, code, instructions)


def test_a_region_is_found_by_its_bytes(tmp_path: Path) -> None:
    """A kept region comes back for the same bytes at the same place, and for no others."""
    page, covered = a_page(bytes(range(64))), [(8, 40)]
    store = RegionStore("I M", tmp_path / "r.sqlite")
    keep(store, made_of(page, covered), b"code", 7)
    store.close()
    again = RegionStore("I M", tmp_path / "r.sqlite")
    assert again.find(Pages(page), 8) == (made_of(page, covered), b"code", made_of(page, covered).digest())
    assert again.find(Pages(page), 10) is None
    page.owner[39] = 0
    assert again.find(Pages(page), 8) is None
    page.owner[39] = 39
    page.used[20] = 0
    assert again.find(Pages(page), 8) is not None, "what is not decoded counts too"
    page.owner[20] = 0
    assert again.find(Pages(page), 8) is None
    again.close()
    assert RegionStore("I", tmp_path / "r.sqlite").find(Pages(a_page(bytes(range(64)))), 8) is None


def test_damaged_code_is_not_run(tmp_path: Path) -> None:
    """A row whose code does not fit its digest, and a file that is no database, are as if they were not there."""
    import sqlite3
    import zlib

    path, page = tmp_path / "r.sqlite", a_page(bytes(range(64)))
    store = RegionStore("I", path)
    keep(store, made_of(page, [(8, 40)]), b"code", 7)
    store.close()
    with sqlite3.connect(path) as file:
        file.execute("update regions set code = ?", (zlib.compress(bytes(16) + b"evil"),))
    assert RegionStore("I", path).find(Pages(page), 8) is None
    path.write_bytes(b"no database at all" * 400)
    store = RegionStore("I", path)
    assert store.find(Pages(page), 8) is None
    keep(store, made_of(page, [(8, 40)]), b"code", 7)
    store.close()
    source = made_of(page, [(8, 40)])
    assert RegionStore("I", path).find(Pages(page), 8) == (source, b"code", source.digest())


DAMAGE = {
    "code": "update regions set code = x'00112233'",
    "code is text": "update regions set code = 'text'",
    "code is a number": "update regions set code = 5",
    "covered is empty": "update regions set covered = x''",
    "covered is text": "update regions set covered = 'abc'",
    "covered is short": "update regions set covered = x'01ffff05000000'",
    "too many pages": "update regions set covered = x'ffffffffff' || covered",
    "window is text": "update regions set window = 'zz'",
    "window is empty": "update regions set window = x''",
    "instructions": "update regions set instructions = 'many'",
    "more instructions": "update regions set instructions = instructions + 1",
    "key is short": "update regions set key = x'00'",
    "key is a number": "update regions set key = rowid",
    "digest": "update regions set digest = null or 7",
    "no table": "drop table regions",
    "other columns": "drop table regions; create table regions (a)",
    "columns of before": "alter table regions drop column digest",
    "a view": "drop table regions; create view regions as select 1 as rowid, 2 as isa",
    "a trigger": "create trigger t before insert on regions begin select raise(abort, 'no'); end",
    "wanted": "drop table wanted; create table wanted (a)",
}


@pytest.mark.parametrize("statements", DAMAGE.values(), ids=DAMAGE)
def test_what_is_not_as_it_was_written_is_made_anew(statements: str, tmp_path: Path) -> None:
    """Rows and tables that are not what was written are no regions; the same region is kept again, and found then."""
    import sqlite3

    path, page = tmp_path / "r.sqlite", a_page(bytes(range(64)))
    other = a_page(bytes(range(100, 164)))
    source = made_of(page, [(8, 40)])
    store = RegionStore("I", path)
    keep(store, source, b"code", 7)
    store.close()
    file = sqlite3.connect(path)
    file.executescript(statements)
    file.close()
    store = RegionStore("I", path)
    assert store.find(Pages(page), 8) in (None, (source, b"code", source.digest()))
    keep(store, source, b"code", 7)
    keep(store, made_of(other, [(8, 40)]), b"more", 7)
    store.want(bytes(18), 40)
    store.close()
    again = RegionStore("I", path)
    assert again.find(Pages(page), 8) == (source, b"code", source.digest())
    assert again.find(Pages(other), 8) is not None
    assert again.wanted == {bytes(18): 40}
    again.close()


@pytest.mark.parametrize("kind", ["fifo", "link"])
def test_what_is_no_file_is_replaced(kind: str, tmp_path: Path) -> None:
    """A pipe or a device in the file's place goes; a folder stays, and regions live as long as the process."""
    path, page = tmp_path / "r.sqlite", a_page(bytes(range(64)))
    os.mkfifo(path) if kind == "fifo" else path.symlink_to("/dev/full")
    store = RegionStore("I", path)
    keep(store, made_of(page, [(8, 40)]), b"code", 7)
    store.close()
    assert path.is_file()
    assert RegionStore("I", path).find(Pages(page), 8) is not None
    folder = RegionStore("I", tmp_path)
    keep(folder, made_of(page, [(8, 40)]), b"code", 7)
    folder.flush()
    assert folder.find(Pages(page), 8) is not None


def test_the_file_is_bounded(tmp_path: Path) -> None:
    """The oldest regions go when the file outgrows its limit."""
    store, rng = RegionStore("I", tmp_path / "r.sqlite", limit=20_000), random.Random(1)
    pages = [a_page(i.to_bytes(4, "little") * 8) for i in range(20)]
    for page in pages:
        keep(store, made_of(page, [(0, 32)]), rng.randbytes(3000), 8)
    store.close()
    again = RegionStore("I", tmp_path / "r.sqlite")
    left = sum(again.find(Pages(page), 0) is not None for page in pages)
    assert 0 < left < 8
    assert window_of(pages[0], 0) != window_of(pages[1], 0)


WRITER = """
    import sys
    from pathlib import Path
    from tests.engine.test_engine_jit import a_page, keep, made_of
    from trapline.engine.jit.store import RegionStore
    store = RegionStore("I", Path(sys.argv[1]))
    for i in range(100_000):
        page = a_page((i + int(sys.argv[2])).to_bytes(4, "little") * 8)
        keep(store, made_of(page, [(0, 32)]), i.to_bytes(4, "little") * 500, i)
        if i % 7 == 0:
            store.flush()
            print(i, flush=True)
"""


def test_writers_may_be_killed_and_share_the_file(tmp_path: Path) -> None:
    """Two processes that write at once, one of them killed in the middle, leave a file that is whole."""
    path = tmp_path / "r.sqlite"
    code = textwrap.dedent(WRITER)
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(path), str(n * 1_000_000)], stdout=subprocess.PIPE, text=True)
        for n in range(2)
    ]
    written = []
    for writer in writers:
        assert writer.stdout is not None
        for _ in range(5):
            written.append(int(writer.stdout.readline()))
    for writer in writers:
        writer.kill()
        writer.communicate()
    store = RegionStore("I", path)
    for n, last in ((0, written[4]), (1, written[9])):
        for i in range(last):
            page = a_page((i + n * 1_000_000).to_bytes(4, "little") * 8)
            source = made_of(page, [(0, 32)])
            assert store.find(Pages(page), 0) == (source, i.to_bytes(4, "little") * 500, source.digest())


def test_regions_survive_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second machine with the same program finds the regions that the first compiled."""
    monkeypatch.setenv("TRAPLINE_CACHE", str(tmp_path))
    first = Bench("tiered", HOT)
    deadline = time.monotonic() + 30
    while not first.engine.tier.compiled and time.monotonic() < deadline:
        first.run(100_000)
    first.engine.tier.close()
    first.engine.tier.join()
    second = Bench("tiered", HOT)
    while not second.engine.tier.found and time.monotonic() < deadline:
        second.run(50_000)
    assert second.engine.tier.found
    assert second.hart.x[9] > 0
    assert BASE <= second.hart.pc < BASE + 4096
    second.engine.tier.close()
    second.engine.tier.join()

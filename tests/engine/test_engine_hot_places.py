"""Which places the second tier compiles."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.engine.harness import BASE, ENGINES, Bench
from trapline.engine.code import Installed
from trapline.engine.jit.growth import Growing, Growth, lies_in
from trapline.engine.jit.heat import (
    AGAIN,
    ALONE,
    GROWN_SAMPLES,
    HOT_SAMPLES,
    MOST_SAMPLES,
    ONE_OF,
    PART,
    RECORDS,
    RING,
    SHARE,
    STILL_SAMPLES,
    TOGETHER_SAMPLES,
    WARM_SAMPLES,
    WHOLE,
    Heat,
    Size,
)
from trapline.engine.jit.region import Former
from trapline.engine.jit.source import Pages, Source
from trapline.engine.jit.template import kept_templates
from trapline.engine.jit.worker import Worker
from trapline.engine.native import NativeEngine

FLAT = range(0x100000, 0x100000 + 8 * 100_000, 8)  # records of places that are met once each


class Samples:
    """A machine whose harts are told where to be met."""

    def __init__(self, cpus: int = 2) -> None:
        self.heat = Heat(lambda record: record & ~0xFFF, cpus)
        self.hart: Any = SimpleNamespace(sample_count=0, mem=[0] * (RECORDS + 4 * RING))
        self.flat = iter(FLAT)

    def fall(self, record: int, times: int = 1) -> list[tuple[int, bool]]:
        """Let samples fall into a place; what is to be looked at."""
        looked = []
        for _ in range(times):
            self.hart.mem[RECORDS + self.hart.sample_count % RING] = record
            self.hart.sample_count += 1
            looked += list(self.heat.samples(self.hart))
        return looked

    def fall_elsewhere(self, times: int) -> None:
        """Let samples fall where none fell before."""
        for _ in range(times):
            self.fall(next(self.flat))


@pytest.fixture
def samples() -> Samples:
    """A machine that was met nowhere yet."""
    return Samples()


def test_a_place_among_many_gets_a_smaller_region(samples: Samples) -> None:
    """The region of a place with a small share of the samples is small, as long as its share is."""
    samples.fall(0x1000, HOT_SAMPLES)
    assert samples.heat.size(0x1000) is WHOLE
    samples.fall_elsewhere(HOT_SAMPLES * (ONE_OF - 1))
    assert samples.heat.size(0x1000) is WHOLE
    samples.fall_elsewhere(1)
    assert samples.heat.size(0x1000) is PART
    samples.fall(0x1000, HOT_SAMPLES)
    assert samples.heat.size(0x1000) is WHOLE


@pytest.mark.parametrize("size", [PART, WHOLE])
@pytest.mark.parametrize(
    ("code", "most"), [("bnez a0, 1f\n1: add a0, a0, a1\n", "straight"), ("j 1f\n1: nop\n", "usual")]
)
def test_a_region_is_no_larger_than_said(size: Size, code: str, most: str) -> None:
    """Code that goes straight on is in a region up to one bound, code that jumps up to another."""
    bench = Bench("native", f"{code * 500}end: j end")
    bench.run(1100)
    store = bench.engine.code
    page = next(iter(store.by_table.values()))
    region = Former(Pages(page, BASE), store.decoder.search, kept_templates(True)).form(0, size)
    assert region is not None
    assert getattr(size, most) <= region.size <= getattr(size, most) + 1


def test_small_regions_have_short_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same place has less than half as much code where it is one of many, and the same results."""
    code = "".join(
        f"lw a{n % 8}, {4 * n}(sp)\nadd s{2 + n % 8}, s{2 + n % 8}, a{n % 8}\nbeqz a{n % 8}, end\n" for n in range(40)
    )
    lengths, states = [], []
    for size in (WHOLE, PART):
        monkeypatch.setattr(Heat, "size", lambda *_, size=size: size)
        bench = Bench("forced", f"auipc sp, 1\n{code}end: j end\n")
        bench.run(400)
        lengths.append(bench.engine.tier.area.end)
        states.append(bench.state())
    assert lengths[1] * 2 < lengths[0]
    assert states[0] == states[1]


GROWING = """
    li s0, -1
again:
    addi s1, s1, 3
    xor s2, s1, s0
    addi s0, s0, -1
    bnez s0, again
end: j end
"""


def test_a_small_region_of_what_is_hot_gets_a_larger_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A place that is no longer one of many gets the region of one that never was, and keeps it for the next run."""
    monkeypatch.setenv("TRAPLINE_CACHE", str(tmp_path))
    tiered, plain = Bench("tiered", GROWING), Bench("native", GROWING)
    tier = tiered.engine.tier
    size = Heat.size
    monkeypatch.setattr(Heat, "size", lambda *_: PART)
    assert run_until(tiered, plain, lambda: [r.small for r in regions(tiered)] == [True])
    monkeypatch.setattr(Heat, "size", size)
    assert run_until(tiered, plain, lambda: any(not r.small and is_entered(r) for r in regions(tiered)))
    entered = [region for region in regions(tiered) if is_entered(region)]
    assert [region.small for region in entered] == [False]
    assert tiered.state() == plain.state()
    tier.close()
    tier.join()
    again = Bench("tiered", GROWING)
    assert run_until(again, Bench("native", GROWING), lambda: bool(regions(again)))
    assert [region.small for region in regions(again)] == [False]
    assert again.engine.tier.compiled == 0
    again.engine.tier.close()


IN_PIECES = """
again:
    addi s0, s0, 1
    xor s1, s1, s0
    j 1f
    .space 64
1:  addi s2, s2, 3
    xor s2, s2, s0
    j 2f
    .space 64
2:  addi s3, s3, 5
    xor s3, s3, s2
    j again
"""


def test_a_region_that_hot_code_lies_outside_of_gets_a_larger_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop that lies in several regions, which lead to each other all the time, is in one of them in the end."""
    monkeypatch.setenv("TRAPLINE_CACHE", str(tmp_path))
    tiered, plain = Bench("tiered", IN_PIECES), Bench("native", IN_PIECES)
    size = Heat.size
    monkeypatch.setattr(Heat, "size", lambda *_: Size(3, 3, 3))
    assert run_until(tiered, plain, lambda: len([r for r in regions(tiered) if is_entered(r)]) >= 3)
    most = max(map(length, regions(tiered)))
    monkeypatch.setattr(Heat, "size", size)
    assert run_until(
        tiered, plain, lambda: any(length(r) > most and is_entered(r) and not r.small for r in regions(tiered))
    )
    assert tiered.state() == plain.state()
    tiered.engine.tier.close()


def length(region: Installed) -> int:
    """How many bytes a region was made from."""
    return sum(end - start for _, covered in region.parts for start, end in covered)


class Page:
    """A page of decoded code."""

    def __init__(self) -> None:
        self.table, self.epoch = id(self), 0
        self.regions: list[Installed] = []


def installed(page: Any, head: int, covered: list[tuple[int, int]], *, small: bool = False) -> Installed:
    """A region that one record leads into."""
    region = Installed(page, 0, [(page, covered)], (head,), small, {head: (1, 2)})
    page.regions.append(region)
    return region


def test_bytes_lie_in_others_however_they_are_cut() -> None:
    """Parts that touch are one; a byte outside, or on another page, is not within."""
    page, other = cast(Any, Page()), cast(Any, Page())
    whole = [(page, [(8, 12), (0, 8), (16, 20)])]
    assert lies_in([(page, [(4, 10)])], whole)
    assert lies_in([], whole)
    assert not lies_in([(page, [(4, 10), (12, 14)])], whole)
    assert not lies_in([(other, [(4, 10)])], whole)


@pytest.mark.parametrize("small", [True, False])
def test_a_region_grows_once(samples: Samples, small: bool) -> None:
    """One of few places gets another region if hot code lies outside it or if it is small, and only once."""
    page: Any = Page()
    region = installed(page, 0, [(0, 8)], small=small)
    growth = Growth(samples.heat)
    samples.fall(0x1000, GROWN_SAMPLES - 1)
    assert growth.due(0x1000, page, 0, lambda: [(page, 16)]) is None
    samples.fall(0x1000)
    assert growth.due(0x1000, page, 4, lambda: [(page, 16)]) is None  # nothing leads into a region there
    found = growth.due(0x1000, page, 0, lambda: [(page, 4)] if small else [(page, 4), (page, 16)])
    assert found == Growing(page, 0, region, () if small else ((page, 16),))
    assert growth.due(0x1000, page, 0, lambda: [(page, 16)]) is None


def test_a_region_without_hot_code_outside_stays(samples: Samples) -> None:
    """A place whose region holds all that is hot around it gets no other."""
    page: Any = Page()
    installed(page, 0, [(0, 8)])
    samples.fall(0x1000, GROWN_SAMPLES)
    assert Growth(samples.heat).due(0x1000, page, 0, lambda: [(page, 4)]) is None


@pytest.mark.parametrize(
    ("covered", "better"),
    [([(0, 20)], True), ([(0, 8), (16, 18)], True), ([(0, 16)], False), ([(2, 20)], False), ([(16, 20)], False)],
)
def test_what_takes_the_place_of_a_region(covered: list[tuple[int, int]], better: bool) -> None:
    """A larger region holds what the other holds, and hot code that it does not hold."""
    page: Any = Page()
    growing = Growing(page, 0, installed(page, 0, [(0, 8)]), ((page, 16),))
    content = tuple(bytes(end - start) for start, end in covered)
    assert growing.is_better(Source((page,), ((0, 0),), 63, (0,), covered, content)) is better


def regions(bench: Bench) -> list[Installed]:
    """The regions that a program's one page has."""
    return [region for page in bench.engine.code.by_table.values() for region in page.regions]


def is_entered(region: Installed) -> bool:
    """Whether some record leads into a region."""
    return any(region.page.view[head] == stub for head, (stub, _) in region.heads.items())


def run_until(tiered: Bench, plain: Bench, there: Callable[[], bool]) -> bool:
    """Run both until something is there; whether it came."""
    deadline = time.monotonic() + 30
    while not there() and time.monotonic() < deadline:
        for bench in (tiered, plain):
            bench.run(300_000)
    for bench in (tiered, plain):
        bench.run(100_001)
    return there()


def test_a_place_whose_region_went_is_counted_anew() -> None:
    """A hot place whose region has to go is not hot any more, and does not keep others from being compiled."""
    tier = NativeEngine(jit="fresh").tier
    assert tier is not None
    tier.heat.counts = {0x1000: 40, 0x2000: 33}
    tier.heat.hot = {0x1000, 0x2000}
    tier.code.removed.append((0x1000, (0,), 0.0))
    tier.settle()
    assert (tier.heat.hot, tier.heat.counts) == ({0x2000}, {0x2000: 33})


def test_a_loop_is_hot_soon(samples: Samples) -> None:
    """Where all samples fall into one place it is hot with the fewest that a place needs."""
    samples.fall(0x1000, HOT_SAMPLES - 1)
    assert not samples.heat.hot
    samples.fall(0x1000)
    assert samples.heat.hot == {0x1000}


def test_a_place_of_a_flat_program_needs_more(samples: Samples) -> None:
    """Beside many others a place is hot when it has its share of all samples."""
    samples.fall_elsewhere(SHARE * 100)
    samples.fall(0x1000, 100)
    assert not samples.heat.hot
    samples.fall(0x1000, 10)
    assert samples.heat.hot == {0x1000}


def test_a_place_with_many_samples_is_hot_whatever_its_share(samples: Samples) -> None:
    """However long the run was, so many samples are worth a region."""
    samples.fall_elsewhere(SHARE * MOST_SAMPLES * 2)
    samples.fall(0x1000, MOST_SAMPLES)
    assert samples.heat.hot == {0x1000}


def test_only_new_and_hot_places_are_looked_at(samples: Samples) -> None:
    """The first two samples of a place, the one that makes it hot, and later ones from time to time, without news."""
    assert [len(samples.fall(0x1000)) for _ in range(HOT_SAMPLES)] == [1, 1] + [0] * (HOT_SAMPLES - 3) + [1]
    assert samples.fall(0x1000, 2 * STILL_SAMPLES) == [(0x1000, False)] * 2


def test_samples_of_several_runs_make_a_place_hot(samples: Samples) -> None:
    """A place of a flat program is compiled when it has had enough samples in this and in earlier runs."""
    samples.fall_elsewhere(SHARE * MOST_SAMPLES)
    samples.fall(0x1000)
    samples.heat.remember(0x1000, TOGETHER_SAMPLES - 3)
    samples.fall(0x1000)
    assert not samples.heat.hot
    samples.fall(0x1000)
    assert samples.heat.hot == {0x1000}


def test_a_place_that_was_hot_at_the_end_of_a_run_is_hot_at_once_in_the_next(samples: Samples) -> None:
    """What had no time is remembered as hot; what is only warm with its samples; the rest is not."""
    samples.fall_elsewhere(SHARE * MOST_SAMPLES)
    samples.fall(0x1000, MOST_SAMPLES)
    samples.fall(0x2000, WARM_SAMPLES)
    samples.fall(0x3000, WARM_SAMPLES - 1)
    rest = samples.heat.rest()
    most = min(MOST_SAMPLES, TOGETHER_SAMPLES - 1)
    assert rest == {0x1000: TOGETHER_SAMPLES + most, 0x2000: WARM_SAMPLES}
    following = Samples()
    following.fall(0x1000)
    following.heat.remember(0x1000, rest[0x1000])
    assert following.heat.hottest() == 0x1000


def test_a_place_whose_code_changes_all_the_time_needs_more(samples: Samples) -> None:
    """Each time a region goes soon after it was compiled its page's places need twice as many samples."""
    samples.heat.went(0x1000, (0,), soon=True)
    samples.fall(0x1000, 2 * HOT_SAMPLES - 1)
    assert not samples.heat.hot
    samples.fall(0x1000)
    assert samples.heat.hot == {0x1000}


def test_one_cpu_is_for_the_guest() -> None:
    """Where the compiler has no CPU of its own a place must be four times as hot."""
    alone = Samples(cpus=1)
    alone.fall(0x1000, ALONE * HOT_SAMPLES - 1)
    assert not alone.heat.hot
    alone.fall(0x1000)
    assert alone.heat.hot == {0x1000}


def test_code_that_a_region_has_is_compiled_again_only_where_it_is_very_hot(monkeypatch: pytest.MonkeyPatch) -> None:
    """A place inside a region that is entered elsewhere must be four times as hot to become the head of another."""
    monkeypatch.setitem(ENGINES, "tiered", "fresh")
    bench = Bench("tiered", "li a0, 0\nagain:\naddi a0, a0, 1\nxor a1, a1, a0\nj again")
    bench.run(100)
    tier, page = bench.engine.tier, next(iter(bench.engine.code.by_table.values()))
    assert tier is not None
    tier.start()
    tier.heat = Heat(tier.code.table_of)
    head, inside = (page.table + offset * 8 for offset in [at for at in range(64) if page.used[at]][1:3])
    tier.heat.counts = {head: HOT_SAMPLES, inside: HOT_SAMPLES}
    assert tier.pays(head) and tier.pays(inside)
    assert tier.make(head)
    assert not tier.pays(inside)
    tier.heat.counts[inside] = AGAIN * HOT_SAMPLES
    assert tier.pays(inside)


class Slow:
    """A builder that works for a while, in its thread or in another process."""

    def __init__(self, work: float, apart: bool) -> None:
        self.work, self.apart, self.begun = work, apart, time.monotonic()

    def build(self, job: object) -> None:
        """Use CPU time; there is nothing to compile."""
        begun = time.thread_time()
        while self.spent(begun) < self.work:
            if self.apart:
                time.sleep(0.001)

    def spent(self, begun: float) -> float:
        """How long it has worked."""
        return self.seconds() if self.apart else time.thread_time() - begun

    def seconds(self) -> float:
        """Processor time of the other process."""
        return time.monotonic() - self.begun if self.apart else 0.0


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize(("work", "patience", "made"), [(0.05, 10.0, True), (30.0, 0.05, False)])
def test_a_region_is_waited_for_by_the_time_that_compiling_takes(
    work: float, patience: float, made: bool, apart: bool
) -> None:
    """What is nearly ready is waited for also on a busy host; what takes much longer is not."""
    builder: Any = Slow(work, apart)
    worker, job = Worker(builder), object()
    worker.submit(cast("Any", job))
    found = worker.wait(patience)
    assert (found is not None) == made == worker.idle
    builder.work = 0
    worker.end()

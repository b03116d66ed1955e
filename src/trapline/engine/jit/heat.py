"""How hot places are: samples by record, and how many of them a place needs before compiling it repays.

A region of a few hundred instructions takes LLVM about 0.1 s. What runs in few places gets that back at once, so a
place is compiled that has a share of all samples; a kernel that boots is flat, and most of its places never give back
what they take. Those are compiled when they have as many samples that they pay whatever else runs, in this run or,
with those of earlier ones (`RegionStore.wanted`), in a later one.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from trapline.dataclass import dataclass
from trapline.engine.jit.source import PAGE
from trapline.lang.state.words import LAYOUT, SAMPLES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trapline.lang.state import Hart

RING = SAMPLES
RECORDS, PCS, MODES = (LAYOUT.fields[f"sample_{name}"].index for name in ("record", "pc", "mode"))
KEPT_SAMPLES, HOT_SAMPLES = 2, 32  # of a place: for so many a kept region is looked for; fewer are never hot
GROWN_SAMPLES = 1024  # of a place that is not one of many any more, until it gets a larger one
ONE_OF = 20  # a place with less than one of so many samples gets a smaller region
SHARE = 50  # a place that has one of so many samples is hot
MOST_SAMPLES = 256  # and so is one with so many
WARM_SAMPLES, TOGETHER_SAMPLES = 32, 256  # so many in one run are remembered, and make a place hot together
AGAIN = 4  # so many times as hot must a place be whose code a region has already, which is entered elsewhere
ALONE = 4  # and every place where there is no other CPU for the compiler
STILL_SAMPLES = 64  # each time it has so many more it is looked at again: its code may be another
MOST_PATIENCE = 256
NEARLY = 16  # where a return leads is made with it if it has at least such a part of its samples
WINDOW_BITS, MOST_NEAR = 16, 32  # what a place calls through registers is looked for in its 64 KiB and those beside
MOST_PLACES = 1 << 17  # that are remembered, of all that samples fell into


@dataclass(frozen=True, slots=True)
class Size:
    """How many instructions a region holds at most: any, one that goes straight on, one with a jump to many places."""

    usual: int
    straight: int
    switch: int


WHOLE, PART = Size(300, 900, 600), Size(150, 200, 150)


class Heat:
    """The samples of a machine's harts. `table_of` tells the table of a record, `cpus` how many this process has."""

    def __init__(self, table_of: Callable[[int], int | None], cpus: int = 2) -> None:
        self.counts: dict[int, int] = {}
        self.before: dict[int, int] = {}  # samples of earlier runs, where there were any
        self.total = 0
        self.hot: set[int] = set()  # records with so many samples that they shall be compiled
        self.places: dict[int, tuple[Hart, int, int]] = {}  # by record: who was there last, its address, the mode
        self.windows: dict[int, set[int]] = {}  # records of places by 64 KiB of addresses
        self._later: dict[int, int] = {}  # by record that was hot: how many samples it has when it is looked at again
        self._patience: dict[int, int] = {}  # by table of records: how many times as hot its places must be
        self._seen: dict[int, int] = {}
        self._table_of, self._times = table_of, 1 if cpus > 1 else ALONE

    def clear(self) -> None:
        """Every place is looked at as if it was new."""
        self.total = 0
        for known in (self.counts, self.before, self.places, self.windows, self.hot, self._later):
            known.clear()

    def samples(self, hart: Hart) -> Iterator[tuple[int, bool]]:
        """Count a hart's new samples; the records to look at, and whether that is news.

        These are those that are new, and those that are hot (`hot`), which are looked at again from time to time.
        """
        count, seen = int(hart.sample_count), self._seen.get(id(hart), 0)
        if count == seen:
            return
        self._seen[id(hart)] = count
        self.total += count - seen
        self.forget_cold()
        counts, later, enough, words = self.counts, self._later, self.enough(), hart.mem
        for i in range(max(seen, count - RING), count):
            at = i % RING
            record = words[RECORDS + at]
            known = counts[record] = counts.get(record, 0) + 1
            if known < later.get(record, 0) or (KEPT_SAMPLES < known < enough and record not in self.before):
                continue
            news = record not in later
            if self.is_hot(record):
                later[record] = known + STILL_SAMPLES
                self.hot.add(record)
            elif known > KEPT_SAMPLES:
                continue
            self.note(record, hart, words[PCS + at], words[MODES + at])
            yield record, news

    def enough(self) -> int:
        """How many samples make a place hot just now."""
        return max(HOT_SAMPLES, min(self.total // SHARE, MOST_SAMPLES))

    def is_hot(self, record: int, times: int = 1) -> bool:
        """Whether a place has enough samples, or so many times as many; more if its code changes all the time."""
        times *= self._times
        if self._patience:
            times *= self._patience.get(self._table_of(record) or 0, 1)
        known, before = self.counts.get(record, 0), self.before.get(record, 0)
        return known >= self.enough() * times or (before > 0 and known + before >= TOGETHER_SAMPLES * times)

    def size(self, record: int) -> Size:
        """How large the region of a place may be: among many places LLVM's time is better spent on several of them."""
        return PART if self.counts.get(record, 0) * ONE_OF < self.total else WHOLE

    def is_one_of_few(self, record: int) -> bool:
        """Whether a place has so many samples, and such a share of them, that a small region is not enough for it."""
        return self.counts.get(record, 0) >= GROWN_SAMPLES and self.size(record) is WHOLE

    def remember(self, record: int, samples: int) -> None:
        """A place had so many samples in earlier runs."""
        self.before[record] = samples
        if self.is_hot(record):
            self.hot.add(record)

    def hottest(self) -> int:
        """Take the record that is compiled next."""
        best = max(self.hot, key=lambda record: self.counts.get(record, 0) + self.before.get(record, 0))
        self.hot.remove(best)
        return best

    def note(self, record: int, hart: Hart, pc: int, mode: int) -> None:
        """A hart was at a record, at this address and in this mode."""
        self.places[record] = hart, pc, mode
        self.windows.setdefault(pc >> WINDOW_BITS, set()).add(record)

    def around(self, record: int) -> tuple[int, ...]:
        """How far other places lie where the same hart was in the same mode, the hottest first."""
        hottest = heapq.nlargest(MOST_NEAR, self._near(record), key=lambda r: (self.counts.get(r, 0), r))
        return tuple(self.places[r][1] - self.places[record][1] for r in hottest)

    def busy_around(self, record: int) -> list[int]:
        """The records of those of them that have a fair part of the samples of a record."""
        enough = self.counts.get(record, 0) // NEARLY
        return [r for r in self._near(record) if self.counts.get(r, 0) >= enough]

    def _near(self, record: int) -> list[int]:
        if record not in self.places:
            return []
        hart, pc, mode = self.places[record]
        near = {r for window in (-1, 0, 1) for r in self.windows.get((pc >> WINDOW_BITS) + window, ())} - {record}
        return [r for r in near if r in self.places and self.places[r][0] is hart and self.places[r][2] == mode]

    def is_reached(self, record: int, va: int, mode: int) -> bool:
        """Whether a place in this mode, in the page of an address, has a fair part of the samples of a record."""
        page, enough = va // PAGE, self.counts.get(record, 0) // NEARLY
        near = (r for r in self.windows.get(va >> WINDOW_BITS, ()) if r in self.places)
        return any(
            self.places[r][1] // PAGE == page and self.places[r][2] == mode and self.counts.get(r, 0) >= enough
            for r in near
        )

    def forget_cold(self) -> None:
        """Forget places that are not hot if there are too many: what is hot among them will be again."""
        if len(self.counts) > MOST_PLACES:
            self.counts = {record: self.counts[record] for record in self.hot if record in self.counts}
            self.places = {record: self.places[record] for record in self.hot if record in self.places}
            for known in (self.windows, self.before, self._later):
                known.clear()

    def forget(self, table: int, entries: tuple[int, ...]) -> None:
        """The next samples of a region's heads are looked at as the first ones are."""
        for head in entries:
            self.counts.pop(table + head * 8, None)
            self._later.pop(table + head * 8, None)
            self.hot.discard(table + head * 8)

    def went(self, table: int, entries: tuple[int, ...], *, soon: bool) -> None:
        """A region went because its code changed, soon after it was put in or not."""
        self.forget(table, entries)
        if soon:
            self._patience[table] = min(2 * self._patience.get(table, 1), MOST_PATIENCE)
        else:
            self._patience.pop(table, None)

    def rest(self) -> dict[int, int]:
        """Places that are worth being remembered, with their samples; those that are hot shall be so from the start.

        Of these the hottest shall come first, so they have their samples in addition, below the next TOGETHER_SAMPLES.
        """
        warm = {record: known for record, known in self.counts.items() if known >= WARM_SAMPLES}
        most = TOGETHER_SAMPLES - 1
        return warm | {record: TOGETHER_SAMPLES + min(self.counts.get(record, 0), most) for record in self.hot}

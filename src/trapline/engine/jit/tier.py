"""The second tier: finds hot code by samples, compiles regions beside the running guest, and installs them.

Every SAMPLE_PERIOD attempts or so native code notes where the code began that ran just then (`sample_record`). A thread
counts those places, has the hottest compiled, and offers the region to the hart, which puts it in at a sampling point
by one store to the record of each head; the handler that was there stays in front of the region's code, for single
steps and for an instruction that gives up at the head.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import threading
import time
import weakref
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from trapline.engine import perf_map
from trapline.engine.code import Installed
from trapline.engine.jit.area import CODE_BYTES, CodeArea
from trapline.engine.jit.growth import Growth, gives_way
from trapline.engine.jit.heat import AGAIN, MOST_PLACES, TOGETHER_SAMPLES, Heat
from trapline.engine.jit.offer import Offer
from trapline.engine.jit.source import PAGE, Pages, window_of
from trapline.engine.jit.surroundings import Surroundings, is_linear, read_data, tables_at
from trapline.engine.jit.worker import Builder, Job, LostError, Made, Worker
from trapline.engine.records import RECORD_BYTES, RECORD_SLOTS, TABLE_BYTES
from trapline.lang.state.words import LAYOUT

if TYPE_CHECKING:
    from trapline.engine.code import CodePage, CodeStore
    from trapline.engine.jit.growth import Growing
    from trapline.engine.jit.source import Source
    from trapline.engine.jit.store import RegionStore
    from trapline.lang.state import Hart

QUICKLY = 1.0  # seconds: code that changes sooner than this after it was compiled has to be twice as hot the next time
FLUSH_SECONDS = 0.1  # between two flushes: code that never fits together must not be put in and out all the time
LAST_SECONDS, MOST_LOST = 0.5, 4  # for each run at whose end a region was unfinished, up to so many runs


def cold_numbers(symbols: dict[str, int]) -> dict[str, int]:
    """The C functions that regions may call, numbered as in the state's `cold_function`."""
    names = sorted(name for name in symbols if name.startswith("p."))
    assert len(names) <= LAYOUT.fields["cold_function"].count
    return {name: i for i, name in enumerate(names)}


class Tier:
    """Regions of one machine's code.

    Everything but `attach` and `close` runs in the tier's own thread, which finds and installs, beside another that
    compiles (jit.worker); or in the guest's where that is `forced` (every block is compiled when it is first decoded).
    `area_bytes` is the size of the memory for regions. When it is full, the thread of the harts empties it (`flush`).
    """

    def __init__(
        self,
        code: CodeStore,
        symbols: dict[str, int],
        *,
        forced: bool = False,
        keep: bool = True,
        area_bytes: int = CODE_BYTES,
    ) -> None:
        self.code, self.symbols, self.forced, self.keep, self.area_bytes = code, symbols, forced, keep, area_bytes
        self.cold = cold_numbers(symbols)
        self.area: CodeArea | None = None
        self.started = False
        self.heat = Heat(code.table_of, len(os.sched_getaffinity(0)))
        self.done: set[tuple[int, int]] = set()
        self.growth = Growth(self.heat)
        self.compiled = self.found = self.instructions = self.flushes = 0
        self.failure: BaseException | None = None
        self._flushed, self._flushed_at = False, 0.0  # what is known of places is of regions that are gone
        self._harts: list[Hart] = []
        self._asked = b""  # the window of the place that is compiled just now
        self._ready: list[tuple[Hart, Offer]] = []  # offers to make
        self._made: dict[int, list[Offer]] = {}  # by hart: those that it may look at just now
        self._open: list[tuple[Offer, Installed]] = []  # regions of which it is not known whether they are in
        self._builder = Builder(self.cold)
        self._worker: Worker | None = None
        self._store: RegionStore | None = None
        self._isa, self._stored_for = "", code.decoder
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._undecoded = symbols["h.undecoded"]
        self._take_offers = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64)(symbols["c.take_offers"])

    def attach(self, hart: Hart) -> None:
        """Give a hart the words that regions use, and watch its samples."""
        if any(hart is known for known in self._harts):
            return
        for name in ("goto", "budget", "resume"):
            setattr(hart, f"fn_{name}", self.symbols[f"h.{name}"])
        for name, number in self.cold.items():
            hart.cold_function[number] = self.symbols[name]
        self._harts.append(hart)
        if self.area is not None:
            self._point(hart, self.area)

    @staticmethod
    def _point(hart: Hart, area: CodeArea) -> None:
        hart.jit_low, hart.jit_high = area.base, area.base + area.size

    def start(self) -> None:
        """There is a sample: get a place for code, and the thread."""
        self.started = True
        try:
            self._start()
        except (OSError, RuntimeError, MemoryError) as error:  # no memory that may be executed, or no thread
            if self._worker is not None:
                self._worker.end()
            self.failure, self.area, self._worker = error, None, None

    def _start(self) -> None:
        from trapline.engine.jit import thread
        from trapline.engine.jit.apart import APART

        self.area = CodeArea(self.area_bytes)
        atexit.register(APART.end)  # which runs behind those that wait for its work
        for hart in self._harts:
            self._point(hart, self.area)
        if not self.forced:
            self._worker = Worker(self._builder)
            self._thread = threading.Thread(
                target=thread.work, args=(weakref.ref(self), self._stop, self._worker), daemon=True
            )
            self._thread.start()
            atexit.register(thread.end, self._stop, weakref.ref(self._thread), weakref.ref(self._worker.thread))

    def close(self) -> None:
        """End the threads."""
        self._stop.set()

    def join(self) -> None:
        """Wait for the thread's end: what it compiled is on disk then."""
        if self._thread is not None:
            self._thread.join()

    # --- when the area is full ---
    def ask_for_room(self) -> bool:
        """Have the harts come back for a flush if the area is full, but not at once after the last; whether it is."""
        if self.area is None or not self.area.full:
            return False
        if self.forced or time.monotonic() - self._flushed_at > FLUSH_SECONDS:
            for hart in self._harts:
                hart.jit_full = 1
        return True

    def flush(self) -> None:
        """Take all regions out and begin the area anew, in the harts' thread while no native code runs.

        What is hot is found again by its samples: the store has the code.
        """
        with self.code.lock:
            self.code.drop_all()
            if self.forced:
                self.code.forget_pages()
            if self.area is not None:
                self.area.empty()
            for hart in self._harts:
                hart.jit_full = 0
        self.flushes += 1
        self._flushed, self._flushed_at = True, time.monotonic()
        if self.forced:
            self.forget_places()

    def forget_places(self) -> None:
        """After a flush: every place is looked at as if it was new."""
        self._flushed = False
        self.heat.clear()
        self.done.clear()
        self.growth.grown.clear()

    # --- finding ---
    def look(self) -> bool:
        """Count new samples, and install what is kept; return whether there was a new place, or one became hot."""
        new = False
        if self._flushed:
            self.forget_places()
        self.settle()
        for known in (self.done, self.growth.grown):
            if len(known) > MOST_PLACES:
                known.clear()
        for hart in self._harts:
            for record, news in self.heat.samples(hart):
                new = new or news
                if record not in self.heat.hot and not self.install_kept(record):
                    self.recall(record)
        self.make_offers()
        return new

    def recall(self, record: int) -> None:
        """How hot a place was in earlier runs, if it is met for the first time."""
        if self.heat.counts.get(record) == 1 and (window := self.window(record)) in self.store().wanted:
            self.heat.remember(record, self.store().wanted[window])

    def settle(self) -> None:
        """See which regions are in, and which have gone since because their code changed."""
        still = []
        for offer, region in self._open:
            if offer.open:
                still.append((offer, region))
            elif offer.refused:
                self.refused(region)
        self._open = still
        while self.code.removed:
            table, entries, since = self.code.removed.popleft()
            self.heat.went(table, entries, soon=time.monotonic() - since < QUICKLY)

    def refused(self, region: Installed) -> None:
        """A region whose code had changed before it was in."""
        with self.code.lock:
            region.remove()
        self.heat.forget(region.page.table, region.entries)

    def make_offers(self) -> None:
        """Offer what is ready to harts that have looked at all that they were offered before."""
        later = []
        for hart in {id(hart): hart for hart, _ in self._ready}.values():
            chain = [offer for to, offer in self._ready if to is hart]
            if int(hart.offers) != 0:
                later += [(hart, offer) for offer in chain]
                continue
            for offer, following in pairwise(chain):
                offer.link(following)
            self._made[id(hart)] = chain
            hart.offers = chain[0].address
        self._ready = later

    def work(self) -> bool:
        """Look, take what the worker has made, and give it the hottest place; return whether there was anything new."""
        self.code.blank_ahead()
        new = self.look()
        worker = self._worker
        assert worker is not None
        if (result := worker.collect()) is not None:
            new = True
            self.store().met(self._asked)
            self.take(*result)
        self.failure = self.failure or worker.failure
        if self.ask_for_room():
            return new
        while worker.idle and self.heat.hot:
            best = self.heat.hottest()
            job = None if self.install_kept(best) or not self.pays(best) else self.job(best)
            if job is not None:
                self._asked = window_of(job.pages.found[0], job.head)
                worker.submit(job)
        return new

    def leave(self) -> None:
        """The run ends. What there was no time for comes first in the next; what came first waits no longer.

        A place has TOGETHER_SAMPLES more for each run that ended too soon: what is lost again and again is waited for
        longer, or each run would begin it anew.
        """
        worker = self._worker
        if worker is None:
            return
        store, late = self.store(), None
        if not worker.idle and self._asked in store.wanted:
            lost = min(store.wanted[self._asked] // TOGETHER_SAMPLES, MOST_LOST)
            late = worker.wait(LAST_SECONDS * max(lost, 1))
        if late is None and not worker.idle:
            store.want(self._asked, TOGETHER_SAMPLES)
        if late is not None:
            store.met(self._asked)
            self.take(*late)
        for record, samples in self.heat.rest().items():
            if (window := self.window(record)) is not None:
                store.want(window, samples if self.pays(record) else self.heat.counts.get(record, 0))

    def pays(self, record: int) -> bool:
        """Whether a place is so hot that compiling it pays: where a region has its code already, it must be hotter."""
        where = self.page_of(record)
        if where is None:
            return False
        page, offset = where
        with self.code.lock:
            again = any(region.covers(page, offset, offset + 2) for region in page.regions)
        return not again or self.heat.is_hot(record, AGAIN)

    def window(self, record: int) -> bytes | None:
        """By what the region of a record is looked up; None where no region can begin, or is to be made."""
        where = self.place(record)
        return None if where is None or (record, where[0].epoch) in self.done else window_of(*where)

    def page_of(self, record: int) -> tuple[CodePage, int] | None:
        """The page and the offset that a record stands for."""
        table = self.code.table_of(record)
        if table is None:
            return None
        slot = (record - table) // RECORD_BYTES
        page = self.code.by_table.get(table)
        return (page, slot * 2) if page is not None and slot < RECORD_SLOTS else None

    # --- making ---
    def pages(self, page: CodePage, record: int) -> Pages:
        """What is known of the pages around a place."""
        if record not in self.heat.places:
            return Pages(page)
        hart, pc, mode = self.heat.places[record]
        read = partial(read_data, hart, page.host)
        around = Surroundings(hart, partial(self.heat.is_reached, record))
        return Pages(page, pc, partial(self.resolve, hart), around, mode, read)

    def resolve(self, hart: Hart, va: int) -> CodePage | None:
        """The decoded page at a virtual address, if some translation set has it."""
        pages = map(self.code.by_table.get, tables_at(hart, va))
        return next((page for page in pages if page is not None), None)

    def make(self, record: int) -> bool:
        """Install the region of a record, a kept one or a new one; return whether there is one now."""
        if self.install_kept(record):
            return True
        job, made = self.job(record), False
        with contextlib.suppress(LostError):
            made = job is not None and self.take(job, self._builder.build(job))
        self.ask_for_room()
        return made

    def place(self, record: int) -> tuple[CodePage, int] | None:
        """The page and the offset of a record at which a region may begin: it is decoded, and no region's head."""
        where = self.page_of(record)
        if where is None or self.area is None or self.code.decoder is None:
            return None
        original = where[0].view[where[1]]
        return None if original == self._undecoded or original in self.area else where

    def install_kept(self, record: int) -> bool:
        """Install a kept region that fits."""
        where = self.place(record)
        if where is None or (record, where[0].epoch) in self.done:
            return False
        page, head = where
        assert self.area is not None
        if self.area.full or not (page.regions or self.store().has(window_of(page, head))):
            return False
        with self.code.lock:
            for region in page.regions:
                if region.page is page and head in region.entries:
                    return self.enter(region, record)
        kept = self.store().find(self.pages(page, record), head)
        if kept is None:
            return False
        entered = self.install(*kept, record)
        if kept[0].current and not (entered and head in kept[0].entries) and not self.area.full:
            self.done.add((record, page.epoch))  # it is entered elsewhere: there is nothing to compile here
        self.found += entered
        return entered

    def undone(self, record: int) -> tuple[CodePage, int] | None:
        """The place of a record of which nothing was made yet."""
        where = self.place(record)
        return None if where is None or (record, where[0].epoch) in self.done else where

    def growing(self, record: int) -> Growing | None:
        """The region at whose head a larger one shall be, if a record is one: once."""
        where = self.page_of(record)
        if where is None:
            return None
        with self.code.lock:
            return self.growth.due(
                record, *where, lambda: filter(None, map(self.page_of, self.heat.busy_around(record)))
            )

    def job(self, record: int) -> Job | None:
        """What there is to compile for a record, once."""
        growing = self.growing(record)
        if growing is not None:
            kept = self.store().find(self.pages(growing.page, record), growing.head, whole=True)
            if kept is not None and growing.is_better(kept[0]):
                self.found += self.install(*kept, record)
                return None
        where = self.undone(record) if growing is None else (growing.page, growing.head)
        if where is None or where[1] == PAGE - 2:
            return None
        assert self.code.decoder is not None
        self.done.add((record, where[0].epoch))
        linear = any(is_linear(hart) for hart in self._harts)
        hart = self.heat.places[record][0] if record in self.heat.places else self._harts[0]
        plain = hart.frm == 0
        pages, around = self.pages(where[0], record), self.heat.around(record)
        return Job(pages, where[1], self.code.decoder, linear, plain, around, self.heat.size(record), growing)

    def take(self, job: Job, made: Made | None) -> bool:
        """Install a region that was made, and keep it; return whether there is one now."""
        if made is None or job.decoder is not self.code.decoder:
            return False
        source = made.source
        record = source.pages[0].table + job.head * 8
        self.store().add(source, made.identity, made.code, made.instructions)
        if not self.install(source, made.code, made.identity.digest, record):
            if not source.current:
                self.done.discard((record, job.pages.epoch))
            return False
        self.compiled += 1
        self.instructions += made.instructions
        return True

    def install(self, source: Source, code: bytes, digest: bytes, record: int) -> bool:
        """Offer a region to the hart that was last at a record, unless code has changed meanwhile.

        Its bytes that no record is decoded from become code, too.
        """
        page = source.pages[0]
        with self.code.lock:
            if self.area is None or all(self.own_handler(page, e, source) is None for e in source.entries):
                return False
            if not source.current or any(self.code.by_table.get(part.table) is not part for part in source.pages):
                return False
            if source.digest() != digest:
                return False
            start = self.area.add([p.table for p in source.pages], code, len(source.entries))
            if start is None:
                return False
            region = Installed(page, start, source.parts(), source.entries, source.small)
            for part in {p.table: p for p in source.pages}.values():
                part.regions.append(region)
            entered = self.enter(region, record, source)
        perf_map.add([(start, len(code), f"region.{page.host:x}.{min(source.entries):x}")])
        return entered

    def own_handler(self, page: CodePage, head: int, new: Source | Installed) -> int | None:
        """The handler of a record that may lead into a region; None: it is undecoded, or leads into one that stays."""
        now = page.view[head]
        if now == self._undecoded:
            return None
        if self.area is None or now not in self.area:
            return now
        for region in page.regions:
            stub, own = region.heads.get(head, (0, 0))
            if stub == now and region.page is page:
                return own if gives_way(region, new) else None
        return None

    def enter(self, region: Installed, record: int, source: Source | None = None) -> bool:
        """Lead records of a region's entries into it, those that are decoded by now; return whether there were any.

        With a source, the region is new. Beside the guest this is an offer to the hart that was last at a record.
        """
        assert self.area is not None
        heads = []
        region.offers = [offer for offer in region.offers if offer.open]
        for head in region.entries:
            now, own = region.page.view[head], self.own_handler(region.page, head, source or region)
            if own is not None and not region.offers:
                stub = self.area.stub(own, region.code)
                if stub is not None:
                    region.heads[head] = stub, own
                    heads.append((region.page.table + head * 8, now, stub))
        if not heads:
            return bool(region.offers)
        offer = Offer(source, heads)
        region.offers.append(offer)
        hart = self.heat.places[record][0] if record in self.heat.places else self._harts[0]
        if threading.current_thread() is self._thread:
            self._ready.append((hart, offer))
            if source is not None:
                self._open.append((offer, region))
            return True
        before, hart.offers = int(hart.offers), offer.address
        self._take_offers(hart.address)
        hart.offers = before
        if not offer.taken and source is not None:
            self.refused(region)
        return offer.taken

    def drop(self, region: Installed) -> None:
        """Take a region out again."""
        heads = list(region.heads)
        self.code.drop([region])
        for head in heads:
            self.done.discard((region.page.table + head * 8, region.page.epoch))

    def store(self) -> RegionStore:
        """The kept regions for the decoder of now."""
        from trapline.engine.jit.store import RegionStore

        assert self.code.decoder is not None
        if self._store is not None and self._stored_for is self.code.decoder:
            return self._store
        isa, self._stored_for = " ".join(sorted(self.code.decoder.enabled)), self.code.decoder
        if self._store is None or isa != self._isa:
            if self._store is not None:
                self._store.close()
            self._isa = isa
            self._store = RegionStore(isa) if self.keep else RegionStore(isa, Path(":memory:"))
        return self._store


assert TABLE_BYTES % RECORD_BYTES == 0

"""The second tier: finds hot code by samples, compiles regions beside the running guest, and installs them.

Native code notes where it is every SAMPLE_PERIOD attempts (`sample_record`). A thread counts those places, compiles
the hottest, and puts a region in by one store to the record of its head; the handler that was there stays in front
of the region's code, for single steps and for an instruction that gives up at the head.
"""

from __future__ import annotations

import atexit
import ctypes
import mmap
import sys
import threading
import weakref
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trapline.engine import perf_map
from trapline.engine.code import Installed
from trapline.engine.jit.source import Pages
from trapline.engine.jit.ways import prefix_words
from trapline.engine.link import LinkError
from trapline.engine.tlb import EMPTY
from trapline.engine.tlb_layout import (
    CONTEXTS,
    DATA_ENTRIES,
    FETCH_AREA,
    FETCH_ENTRIES,
    LOAD_AREA,
    RECORD_BYTES,
    RECORD_SLOTS,
    SET_BYTES,
    TABLE_BYTES,
)
from trapline.lang.state import LAYOUT
from trapline.privilege.modes import MODE_HS, MODE_M, MODE_NAMES, MODE_VS, TO_HS, TO_M, TO_VS

if TYPE_CHECKING:
    from trapline.engine.code import CodePage, CodeStore
    from trapline.engine.jit.source import Source
    from trapline.engine.jit.store import RegionStore
    from trapline.engine.jit.templates import Template
    from trapline.lang.state import Hart

CODE_BYTES = 64 << 20
RING = LAYOUT.fields["sample_record"].count
THRESHOLD = 5  # samples that make a place hot
FLUSH_AFTER = 20  # looks without a sample
BUSY, IDLE = 0.001, 0.02  # seconds between looks at the samples
SWITCH_INTERVAL = 0.0001  # seconds: a guest that asks for Python must not wait for the compiler


def cold_numbers(symbols: dict[str, int]) -> dict[str, int]:
    """The C functions that regions may call, numbered as in the state's `cold_function`."""
    names = sorted(name for name in symbols if name.startswith("p."))
    assert len(names) <= LAYOUT.fields["cold_function"].count
    return {name: i for i, name in enumerate(names)}


class CodeArea:
    """Executable memory that is only ever added to."""

    def __init__(self, size: int = CODE_BYTES) -> None:
        self.memory = mmap.mmap(-1, size, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self.base = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        self.size, self.end = size, 0

    def __contains__(self, address: int) -> bool:
        return self.base <= address < self.base + self.size

    def add(self, words: list[int], code: bytes) -> int | None:
        """Place a region's code with these words in front of its first instruction; return where that is."""
        start = (self.end + 31) & ~31
        if start + len(code) > self.size:
            return None
        entry = start + 8 * prefix_words(len(words))
        self.memory[start : start + len(code)] = code
        for n, word in enumerate(words, 1):
            self.memory[entry - 8 * n : entry - 8 * n + 8] = word.to_bytes(8, sys.byteorder)
        self.end = start + len(code)
        return self.base + entry


class Tier:
    """Regions of one machine's code.

    Everything but `attach` and `close` runs in the tier's own thread, or in the guest's where that is `forced`
    (every block is compiled when it is first decoded).
    """

    def __init__(self, code: CodeStore, symbols: dict[str, int], *, forced: bool = False, keep: bool = True) -> None:
        self.code, self.symbols, self.forced, self.keep = code, symbols, forced, keep
        self.cold = cold_numbers(symbols)
        self.area: CodeArea | None = None
        self.started = False
        self.counts: dict[int, int] = {}
        self.done: set[tuple[int, int]] = set()
        self.places: dict[int, tuple[Hart, int, int]] = {}  # by record: who was there last, its address, the mode
        self.compiled = self.found = self.instructions = 0
        self.failure: BaseException | None = None
        self._seen: dict[int, int] = {}
        self._harts: list[Hart] = []
        self._templates: dict[str, Template] = {}
        self._compiler: Any = None
        self._store: RegionStore | None = None
        self._isa = ""
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._undecoded = symbols["h.undecoded"]

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
        self.area = CodeArea()
        for hart in self._harts:
            self._point(hart, self.area)
        if not self.forced:
            self._thread = threading.Thread(target=_work, args=(weakref.ref(self), self._stop), daemon=True)
            self._thread.start()
            atexit.register(_end, self._stop, weakref.ref(self._thread))

    def close(self) -> None:
        """End the thread."""
        self._stop.set()

    def join(self) -> None:
        """Wait for the thread's end: what it compiled is on disk then."""
        if self._thread is not None:
            self._thread.join()

    # --- finding ---
    def look(self) -> bool:
        """Count new samples; return whether there were any."""
        new = False
        for hart in self._harts:
            count, seen = int(hart.sample_count), self._seen.get(id(hart), 0)
            if count == seen:
                continue
            new = True
            self._seen[id(hart)] = count
            for i in range(max(seen, count - RING), count):
                record = int(hart.sample_record[i % RING])
                self.places[record] = hart, int(hart.sample_pc[i % RING]), int(hart.sample_mode[i % RING])
                known = self.counts[record] = self.counts.get(record, 0) + 1
                if known < THRESHOLD:
                    self.make(record, compiling=False)
        return new

    def step(self) -> bool:
        """Compile the hottest place, if one is hot; return whether there was one."""
        best = max(self.counts, key=self.counts.__getitem__, default=None)
        if best is None or self.counts[best] < THRESHOLD:
            return False
        del self.counts[best]
        self.make(best)
        return True

    def page_of(self, record: int) -> tuple[CodePage, int] | None:
        """The page and the offset that a record stands for."""
        table = self.code.table_of(record)
        if table is None:
            return None
        slot = (record - table) // RECORD_BYTES
        return (self.code.by_table[table], slot * 2) if slot < RECORD_SLOTS else None

    # --- making ---
    def pages(self, page: CodePage, record: int) -> Pages:
        """What is known of the pages around a place."""
        if record not in self.places:
            return Pages(page)
        hart, pc, mode = self.places[record]
        return Pages(page, pc, partial(self.resolve, hart), partial(handler_of, hart), mode)

    def resolve(self, hart: Hart, va: int) -> CodePage | None:
        """The decoded page at a virtual address, if some translation set has it."""
        at = FETCH_AREA + (va >> 12) % FETCH_ENTRIES * 32
        for number in range(CONTEXTS):
            tag, table = (ctypes.c_uint64 * 2).from_address(int(hart.tlb_base) + number * SET_BYTES + at)
            if tag == va and table in self.code.by_table:
                return self.code.by_table[table]
        return None

    def make(self, record: int, *, compiling: bool = True) -> bool:
        """Install the region of a record, a kept one or a new one; return whether there is one now."""
        where = self.page_of(record)
        if where is None or self.code.decoder is None:
            return False
        page, head = where
        original = page.view[head]
        if original == self._undecoded or self.area is None or original in self.area:
            return False
        pages = self.pages(page, record)
        kept = self.store().find(pages, head)
        if kept is not None:
            self.found += 1
            return self.install(kept[0], head, kept[1])
        if not compiling or (record, page.epoch) in self.done:
            return False
        self.done.add((record, page.epoch))
        return self.compile(pages, head)

    def compile(self, pages: Pages, head: int) -> bool:
        """Compile a region and install it."""
        from trapline.engine.jit.region import Former
        from trapline.engine.jit.translate import translate

        assert self.code.decoder is not None
        usable = self.templates()
        region = Former(pages, self.code.decoder.search, usable).form(head)
        if region is None:
            return False
        if self._compiler is None:
            from trapline.engine.jit.compile import Compiler

            self._compiler = Compiler()
        try:
            text = translate(region, usable, self.cold, linear=any(is_linear(hart) for hart in self._harts))
            code = self._compiler.compile(text)
        except LinkError:
            return False
        source = region.source()
        if not self.install(source, head, code):
            if not source.current:
                self.done.discard((source.pages[0].table + head * 8, source.epochs[0]))
            return False
        self.compiled += 1
        self.instructions += region.size
        self.store().add(source, head, code, region.size)
        return True

    def install(self, source: Source, head: int, code: bytes) -> bool:
        """Enter a region at its head's record, unless decoded code has been forgotten meanwhile."""
        page = source.pages[0]
        with self.code.lock:
            original = page.view[head]
            if not source.current or original == self._undecoded or self.area is None or original in self.area:
                return False
            start = self.area.add([original, *[p.table for p in source.pages[1:]]], code)
            if start is None:
                return False
            region = Installed(page, head, start, original, source.parts())
            for part in {p.table: p for p in source.pages}.values():
                part.regions.append(region)
            page.view[head] = start
        perf_map.add([(start, len(code), f"region.{page.host:x}.{head:x}")])
        return True

    def drop(self, page: CodePage, head: int) -> None:
        """Take a region out again: its head's own handler comes back."""
        with self.code.lock:
            for region in [r for r in page.regions if r.page is page and r.head == head]:
                region.remove()
        self.done.discard((page.table + head * 8, page.epoch))

    def store(self) -> RegionStore:
        """The kept regions for the decoder of now."""
        from trapline.engine.jit.store import RegionStore

        assert self.code.decoder is not None
        isa = " ".join(sorted(self.code.decoder.enabled))
        if self._store is None or isa != self._isa:
            if self._store is not None:
                self._store.close()
            self._isa, self._templates = isa, {}
            self._store = RegionStore(isa) if self.keep else RegionStore(isa, Path(":memory:"))
        return self._store

    def templates(self) -> dict[str, Template]:
        """The templates for the decoder of now."""
        if not self._templates:
            from trapline.engine.jit.templates import kept_templates

            assert self.code.decoder is not None
            self._templates = kept_templates("C" in self.code.decoder.enabled)
        return self._templates

    def work(self) -> bool:
        """Count samples and compile what is hot; return whether there was anything new."""
        new = self.look()
        interval = sys.getswitchinterval()
        try:
            while not self._stop.is_set() and self.step():
                sys.setswitchinterval(SWITCH_INTERVAL)
                self.look()
        finally:
            sys.setswitchinterval(interval)
        return new


def is_linear(hart: Hart) -> bool:
    """Whether nearly all pages that a hart has cached for loads lie at one distance from the host's memory."""
    if hart.tlb_ptr == 0:
        return False
    words = (ctypes.c_uint64 * (2 * DATA_ENTRIES)).from_address(int(hart.tlb_ptr) + LOAD_AREA)
    far = Counter(distance for tag, distance in zip(words[::2], words[1::2], strict=True) if tag != EMPTY)
    return bool(far) and far.most_common(1)[0][1] * 10 >= far.total() * 9


def handler_of(hart: Hart) -> tuple[int, int] | None:
    """Virtual address and mode of the handler to which most of a hart's ecalls have gone."""
    calls = [0, 0, 0]
    for cause in (8, 9, 10, 11):
        for mode in MODE_NAMES:
            for to in (TO_M, TO_HS, TO_VS):
                calls[to] += int(hart.trap_count[cause << 5 | mode << 2 | to])
    if not any(calls):
        return None
    to = calls.index(max(calls))
    return int((hart.mtvec, hart.stvec, hart.vstvec)[to]) & ~3, (MODE_M, MODE_HS, MODE_VS)[to]


def _work(reference: weakref.ref[Tier], stop: threading.Event) -> None:
    """Look, compile, sleep, until the tier is gone or told to stop."""
    pause, quiet, store = BUSY, 0, None
    while not stop.wait(pause):
        tier = reference()
        if tier is None:
            break
        try:
            new = tier.work()
            store = tier._store
            quiet = 0 if new else quiet + 1
            if quiet == FLUSH_AFTER and store is not None:
                store.flush()
        except Exception as error:
            tier.failure = error  # the guest goes on in the interpreter
            break
        pause = BUSY if new else min(IDLE, pause * 2)
        del tier
    if store is not None:
        store.close()


def _end(stop: threading.Event, thread: weakref.ref[threading.Thread]) -> None:
    stop.set()
    running = thread()
    if running is not None:
        running.join()


assert TABLE_BYTES % RECORD_BYTES == 0

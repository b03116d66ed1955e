"""Stops in decoded code: the records of their instructions get a handler that looks at them (compiler.joints: h.stop).

A page with such a record is the interpreter's: no region is made of it or entered in it. Where a virtual page lies is
found when the fetch translation of the page is filled, so a stop may be set where nothing is mapped yet.
"""

from __future__ import annotations

import ctypes
import mmap
from typing import TYPE_CHECKING

from trapline.engine.observe import stops as layout
from trapline.engine.records import NOWHERE, RECORD_BYTES, STEP_BIT, STEP_NUMBER, STOPS
from trapline.engine.stop_points import hashed, written_csr

if TYPE_CHECKING:
    from trapline.engine.code import CodePage, CodeStore
    from trapline.engine.stop_points import Stops

PAGE = 4096
_FIRST_PLACES = 1 << 10


class StopRecords:
    """Puts stops into the records of one engine, and takes them out again."""

    def __init__(self, stops: Stops, code: CodeStore) -> None:
        self.stops, self.code = stops, code
        self.handler, self.undecoded = code.symbols["h.stop"], code.symbols["h.undecoded"]
        self.twins: list[int] = []  # handlers of single steps, by number
        self._pages: dict[int, set[int]] = {}  # by table: numbers of the virtual pages that lead there
        self._armed: dict[int, dict[int, int]] = {}  # by table: handlers by offset
        self._block, self._used = mmap.mmap(-1, _FIRST_PLACES * layout.RECORD_BYTES), 0
        self._words = memoryview(self._block).cast("Q")
        code.on_new_page = self.made

    # --- what the engine tells ---
    def found(self, page: CodePage, va: int) -> None:
        """A fetch translation leads to a page, or (NOWHERE) some of it was decoded."""
        if va != NOWHERE:
            if not self._leads(va >> 12):
                return
            self._pages.setdefault(page.table, set()).add(va >> 12)
        if va == NOWHERE and self.stops.covers and not self.stops.csr_entries and page.table in self._armed:
            self._arm_new(page)
        else:
            self.arm(page)

    def made(self, page: CodePage) -> None:
        """A page has a new table."""
        self._pages.pop(page.table, None)
        self._armed.pop(page.table, None)
        page.put(STOPS, 0)
        if self.stops.at_hosts or self.stops.ranges or self.stops.csr_entries:
            self.arm(page)

    def refresh(self) -> None:
        """Other stops are set now."""
        for hart in self.stops.harts:
            self._tell(int(hart.stops_base))
        for page in list(self.code.by_table.values()):
            self.arm(page)

    def _tell(self, base: int) -> None:
        if base:
            words = (ctypes.c_uint64 * 8).from_address(base)
            words[layout.RECORDS // 8] = ctypes.addressof(ctypes.c_char.from_buffer(self._block))
            words[layout.RECORD_MASK // 8] = len(self._block) // layout.RECORD_BYTES - 1

    def _leads(self, number: int) -> bool:
        if number in self.stops.on_code:
            return True
        first, end = number << 12, (number + 1) << 12
        return any(low < end and first < high for low, high, by_host in self.stops.ranges if not by_host)

    # --- records ---
    def arm(self, page: CodePage) -> None:
        """Make the records of a page those of the stops of now."""
        wanted = self._wanted(page)
        armed = self._armed.setdefault(page.table, {})
        for offset in [o for o in armed if o not in wanted]:
            if page.view[offset] == self.handler:
                page.view[offset] = armed[offset]
            del armed[offset]
        mine = bool(wanted) or bool(self.stops.csr_entries) or self._may(page)
        page.put(STOPS, int(mine))
        if not mine:
            del self._armed[page.table]
            return
        if page.regions:
            with self.code.lock:
                gone = list(page.regions)
                self.code.drop(gone)
                self.code.removed.extend((region.page.table, region.entries, region.since) for region in gone)
        for offset, entry in wanted.items():
            known = page.view[offset]
            if known == self.undecoded:
                armed.pop(offset, None)
                continue
            if known != self.handler:
                armed[offset] = self._put(page, offset)
            self._note(page.table + offset * RECORD_BYTES // 2, armed[offset], entry)

    def _arm_new(self, page: CodePage) -> None:
        """Every record of a page is to have a stop: give one to those that were decoded since the last time."""
        armed = self._armed[page.table]
        for at, handler in enumerate(page.view[0:PAGE:2].tolist()):
            if handler != self.handler and handler != self.undecoded:
                armed[2 * at] = self._put(page, 2 * at)
                self._note(page.table + at * RECORD_BYTES, armed[2 * at], 0)

    def _may(self, page: CodePage) -> bool:
        """Whether instructions that are decoded later may get a stop."""
        return any(self._leads(number) for number in self._pages.get(page.table, ())) or any(
            by_host and low < page.host + PAGE and page.host < high for low, high, by_host in self.stops.ranges
        )

    def _wanted(self, page: CodePage) -> dict[int, int]:
        """Offsets of the page with stops, and the entry of a caught CSR or 0."""
        stops, host = self.stops, page.host
        wanted = {at - host: 0 for at in stops.at_hosts if host <= at < host + PAGE}
        spans = [(low - host, high - host) for low, high, by_host in stops.ranges if by_host]
        for number in self._pages.get(page.table, ()):
            wanted.update(dict.fromkeys(stops.on_code.get(number, ()), 0))
            spans += [(low - (number << 12), high - (number << 12)) for low, high, by in stops.ranges if not by]
        for low, high in spans:
            wanted.update(dict.fromkeys(range(max(low, 0) + 1 & ~1, min(high, PAGE), 2), 0))
        wanted = {offset: entry for offset, entry in wanted.items() if offset & 1 == 0}
        if stops.csr_entries:
            wanted.update(self._csr_writes(page))
        return wanted

    def _csr_writes(self, page: CodePage) -> dict[int, int]:
        data, found = page.content(0, PAGE), {}
        for offset in range(0, PAGE - 2, 2):
            if data[offset] & 0x7F == 0x73 and page.view[offset] != self.undecoded:
                entry = self.stops.csr_entries.get(written_csr(int.from_bytes(data[offset : offset + 4], "little")))
                if entry is not None:
                    found[offset] = entry
        return found

    def _put(self, page: CodePage, offset: int) -> int:
        """Put the handler of stops into a record; return the one that it would have, which runs this alone."""
        view = page.view
        for before in (offset - 4, offset - 2):
            if before >= 0:
                self._alone(page, before)
        self._alone(page, offset)
        handler, view[offset] = view[offset], self.handler
        return handler

    def _alone(self, page: CodePage, offset: int) -> None:
        """Let a record run its own instruction, without its successor's."""
        view = page.view
        number = view[offset + 1] >> STEP_BIT & 0xFF
        if number and view[offset] not in (self.handler, self.undecoded):
            view[offset] = self.twins[number]
            view[offset + 1] &= ~STEP_NUMBER

    # --- their table ---
    def _note(self, record: int, handler: int, entry: int) -> None:
        """Note what native code does at a record with a stop that is none for it."""
        if 2 * (self._used + 1) > len(self._block) // layout.RECORD_BYTES:
            self._grow()
        mask = len(self._block) // layout.RECORD_BYTES - 1
        slot = hashed(record) & mask
        while self._words[slot * 4] not in (0, record):
            slot = slot + 1 & mask
        self._used += self._words[slot * 4] == 0
        at = slot * 4
        self._words[at], self._words[at + 1], self._words[at + 2] = record, handler, entry

    def _grow(self) -> None:
        old, self._used = self._words, 0
        self._block = mmap.mmap(-1, 2 * len(self._block))
        self._words = memoryview(self._block).cast("Q")
        for hart in self.stops.harts:
            self._tell(int(hart.stops_base))
        for at in range(0, len(old), 4):
            if old[at]:
                self._note(old[at], old[at + 1], old[at + 2])

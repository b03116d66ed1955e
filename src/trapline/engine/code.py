"""Decoded code: a table of records for each physical page that is executed."""

from __future__ import annotations

import ctypes
import mmap
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from trapline.dataclass import dataclass, field
from trapline.engine import decode_table
from trapline.engine.code_bytes import EMPTY
from trapline.engine.decode_table import ENDING, fused_handlers
from trapline.engine.records import (
    ANYWHERE,
    BLOCK_LIMIT,
    CODE_COUNT,
    CODE_PAGE_BYTES,
    DATA_STORES,
    DATA_STORES_AT_FIRST,
    DECODED,
    EPOCH,
    FIRST_DATA_STORES,
    FIRST_HART,
    HELD,
    IMMEDIATE_BIT,
    NO_HALF,
    OPERAND_BIT,
    PAGE_HOST,
    PLACES,
    RECORD_BYTES,
    RECORD_SLOTS,
    STEP_BIT,
    STORED_AT,
    STRADDLE_SLOT,
    TABLE_BYTES,
    UNDECODED,
    USED,
    X0_SINK,
)
from trapline.isa.decode import Decoder
from trapline.lang.host_pages import HUGE, anonymous

if TYPE_CHECKING:
    from trapline.engine.jit.offer import Offer
    from trapline.isa.decode import Decoded

PAGE = 4096
CHUNK = 2 * HUGE
TABLES_PER_CHUNK = CHUNK // CODE_PAGE_BYTES
AHEAD = 32  # tables that are filled before a page needs them
LEAST_PAGES, MOST_PAGES = 2048, 1 << 15  # of a guest that are decoded at a time: 76 MB and 1.2 GB of tables
MOST_KNOWN = 1 << 16  # instructions that are remembered
GUEST_PAGES = 8  # one in so many pages of its memory, between these
_NATIVE = {n: ctypes.CFUNCTYPE(ctypes.c_uint64, *[ctypes.c_uint64] * n) for n in (2, 4, 5)}
_WORD = struct.Struct("<I").unpack_from

# What is known of some instruction bits: length, whether straight-line code ends here, handler address
# and operand word; for a branch also its distance, and handler and word where the target is in the page.
Known = tuple[int, bool, int, int, int | None, int, int]


Covered = list[tuple[int, int]]


@dataclass(slots=True, eq=False)
class Installed:
    """A compiled region that is in, or offered: the page in which it is entered, and its address.

    `parts` are the pages that it was made from, with the first and end offsets of its bytes there. It can be entered
    at `entries`, offsets in the page, and is at `heads`: what stands in their records, and the handlers before that.
    """

    page: CodePage
    code: int
    parts: list[tuple[CodePage, Covered]]
    entries: tuple[int, ...]
    small: bool = False  # a larger one may take its place
    heads: dict[int, tuple[int, int]] = field(default_factory=dict)
    offers: list[Offer] = field(default_factory=list)  # those that may still be open
    since: float = field(default_factory=time.monotonic)

    def remove(self) -> None:
        """Give the heads their own handlers back."""
        for offer in self.offers:
            offer.withdraw()
        for head, (stub, original) in self.heads.items():
            if self.page.view[head] == stub:
                self.page.view[head] = original
        self.heads.clear()
        for page, _ in self.parts:
            if self in page.regions:
                page.regions.remove(self)

    def covers(self, page: CodePage, first: int, end: int) -> bool:
        """Whether it was made from any of these bytes of a page."""
        return any(
            start < end and first < stop for part, covered in self.parts if part is page for start, stop in covered
        )


class CodePage:
    """The records of one page, and of which of its bytes they are."""

    __slots__ = ("host", "info", "memory", "owner", "regions", "table", "used", "view", "words")

    def __init__(self, table: int, memory: memoryview) -> None:
        self.host, self.info, self.table, self.memory = 0, 0, table, memory
        self.owner: object = None  # of the memory of its bytes
        self.view = memory[:TABLE_BYTES].cast("Q")
        self.used = memory[USED:PAGE_HOST]
        self.words = memory[PAGE_HOST:].cast("Q")
        self.regions: list[Installed] = []  # those that are made from bytes of this page

    @property
    def epoch(self) -> int:
        """Grows whenever decoded code is forgotten."""
        return int(self.words[EPOCH - PAGE_HOST >> 3])

    def put(self, word: int, value: int) -> None:
        """Set a word of the page's (records)."""
        self.words[word - PAGE_HOST >> 3] = value

    def content(self, first: int, end: int) -> bytes:
        """Bytes of the page as they are in memory now."""
        return ctypes.string_at(self.host + first, end - first)

    def clear(self) -> None:
        """None of its bytes is code."""
        self.used[:] = bytes(PAGE)
        self.put(CODE_COUNT, 0)
        self.put(EPOCH, self.epoch + 1)


class CodeStore:
    """Allocates, fills and invalidates the record tables of one machine."""

    def __init__(self, symbols: dict[str, int], steps: dict[tuple[str, int], int]) -> None:
        self.symbols, self.steps = symbols, steps
        self.by_table: dict[int, CodePage] = {}
        self.by_info: dict[int, CodePage] = {}
        self.first_hart = 0  # address of the state of the first of the harts that run this code
        # Regions whose code has changed, for the tier: the table of their page, their entries, when they came.
        self.removed: deque[tuple[int, tuple[int, ...], float]] = deque(maxlen=4096)
        self.decoder: Decoder | None = None
        self.table, self._table_memory = 0, anonymous(PAGE)  # what native code decodes by
        self.memo: dict[int, Known] = {}
        self._fused = fused_handlers(symbols)
        self._odd = 2  # bit 1 of a target is an error without 16-bit instructions
        self.most = LEAST_PAGES
        self._free: list[tuple[int, memoryview]] = []
        self._blanks: list[CodePage] = []  # pages to come: nothing is decoded, and nothing known but their tables
        self._mark_code = _NATIVE[5](symbols["c.mark_code"])
        self._release_code = _NATIVE[2](symbols["c.release_code"])
        self._forget_bytes = _NATIVE[4](symbols["c.forget_bytes"])
        self._chunks: list[mmap.mmap] = []
        self._bases: list[int] = []
        self.on_new_page: Callable[[CodePage], None] | None = None
        self.lock = threading.RLock()  # between those who forget code and the thread that installs regions
        blank = bytearray(TABLE_BYTES)
        words = memoryview(blank).cast("Q")
        for slot in range(RECORD_SLOTS):
            words[2 * slot] = symbols["h.undecoded"]
        for slot in range(RECORD_SLOTS, TABLE_BYTES // RECORD_BYTES):
            words[2 * slot] = symbols["h.page_end"]
        self._blank = bytes(blank)

    def _blank_page(self) -> CodePage:
        with self.lock:
            if not self._free:
                chunk = anonymous(CHUNK)
                self._chunks.append(chunk)
                base = ctypes.addressof(ctypes.c_char.from_buffer(chunk))
                self._bases.append(base)
                whole = memoryview(chunk)
                for i in range(TABLES_PER_CHUNK):
                    part = whole[i * CODE_PAGE_BYTES : (i + 1) * CODE_PAGE_BYTES]
                    self._free.append((base + i * CODE_PAGE_BYTES, part))
            table, memory = self._free.pop()
        memory[:TABLE_BYTES] = self._blank
        return self._to_come(table, memory)

    def _to_come(self, table: int, memory: memoryview) -> CodePage:
        """The page that will have a table in which nothing is decoded."""
        page = CodePage(table, memory)
        page.put(UNDECODED, self.symbols["h.undecoded"])
        page.put(DATA_STORES, FIRST_DATA_STORES)
        page.put(DATA_STORES_AT_FIRST, FIRST_DATA_STORES)
        for place in range(PLACES):
            page.put(STORED_AT + 8 * place, EMPTY)
        return page

    def blank_ahead(self) -> None:
        """Fill tables for pages to come, in another thread than the harts': the host clears ten pages for each."""
        while len(self._blanks) < AHEAD:
            self._blanks.append(self._blank_page())

    def new_page(self, info: int, host: int, owner: object) -> CodePage:
        """Make an empty table for the page at a host address, in memory of an owner, and enter it at its info word."""
        page = self._blanks.pop() if self._blanks else self._blank_page()
        page.host, page.info, page.owner = host, info, owner
        word = ctypes.c_uint64.from_address(info)
        page.put(PAGE_HOST, host)
        page.put(FIRST_HART, self.first_hart)
        page.put(ANYWHERE, int(word.value != 0))
        self.by_table[page.table] = self.by_info[info] = page
        word.value = page.table
        if self.on_new_page is not None:
            self.on_new_page(page)
        return page

    def size_for(self, pages: int) -> None:
        """The guest has so many pages of memory: bound how many of them are decoded at a time."""
        self.most = max(self.most, min(MOST_PAGES, pages // GUEST_PAGES))

    def make_room(self) -> bool:
        """Before a new page: if there are too many, forget the oldest eighth, and return that it was so.

        Pages that regions are made from are hot: they go only if there are no others. Translations must go, too.
        """
        if len(self.by_info) < self.most:
            return False
        wanted = max(1, self.most // 8)
        with self.lock:
            cold = [info for info, page in self.by_info.items() if not page.regions][:wanted]
            for info in cold if len(cold) > wanted // 2 else list(self.by_info)[:wanted]:
                self._drop(info)
        return True

    def _drop(self, info: int) -> None:
        """Forget a page altogether; another takes its table."""
        page = self.by_info.pop(info)
        self.forget(page)
        del self.by_table[page.table]
        ctypes.c_uint64.from_address(info).value = 0
        self._blanks.append(self._to_come(page.table, page.memory))

    def table_of(self, record: int) -> int | None:
        """The table that a record is in."""
        for base in self._bases:
            if base <= record < base + TABLES_PER_CHUNK * CODE_PAGE_BYTES:
                return base + (record - base) // CODE_PAGE_BYTES * CODE_PAGE_BYTES
        return None

    def describe(self, bits: int) -> Known:
        """Look an instruction up, and remember it."""
        assert self.decoder is not None
        found = self.decoder.search(bits)
        symbols = self.symbols
        if found is None or found.instruction.function is None:
            known: Known = 4 if bits & 3 == 3 else 2, True, symbols["h.undefined"], 0, None, 0, 0
        else:
            word, imm = pack(found)
            length, ends = found.length, found.instruction.flow in ENDING
            name = f"{found.instruction.name}_{length}"
            step = self.steps.get((found.instruction.name, length))
            if step is not None:
                far = word | (imm * 8 & 0xFFFFFFFF) << IMMEDIATE_BIT
                near = symbols[f"h.{name}f" if imm > 0 else f"h.{name}b"]
                known = length, ends, symbols[f"h.{name}"], far, imm, near, far | step << STEP_BIT
            else:
                address = self._handler(name, found, imm)
                known = length, ends, address, word | (imm & 0xFFFFFFFF) << IMMEDIATE_BIT, None, 0, 0
        if len(self.memo) >= MOST_KNOWN:
            self.memo.clear()
        self.memo[bits] = known
        return known

    def _handler(self, name: str, found: Decoded, imm: int) -> int:
        symbols = self.symbols
        if "csr" in found.operands:
            special = f"h.{name}@{imm:x}"
            if f"{special}r" in symbols and found.operands["rs1"] == 0:
                return symbols[f"{special}r"]
            if special in symbols:
                return symbols[special]
        return symbols.get(f"h.{name}") or symbols[f"s.{name}"]

    def set_decoder(self, decoder: Decoder) -> None:
        """Decode for another set of extensions from now on."""
        self.decoder = decoder
        self._odd = 0 if "C" in decoder.enabled else 2
        self.table, self._table_memory = decode_table.shared(decoder, self.symbols, self.steps)
        self.forget_all()

    def decode_block(self, page: CodePage, offset: int) -> None:
        """Decode from a page offset until straight-line code ends."""
        data = page.content(0, PAGE) + b"\0\0"
        undecoded, view, memo, odd = self.symbols["h.undecoded"], page.view, self.memo, self._odd
        start, fused, last, last_address = offset, self._fused, 0, 0
        for _ in range(BLOCK_LIMIT):
            # A record is two words for each two bytes of the page: its index is the page offset.
            if offset >= PAGE or view[offset] != undecoded:
                break
            (bits,) = _WORD(data, offset)
            if bits & 3 != 3:
                bits &= 0xFFFF
            elif offset == PAGE - 2:
                view[offset + 1] = NO_HALF << IMMEDIATE_BIT
                view[offset] = self.symbols["h.straddle"]
                offset = PAGE
                break
            length, ends, address, word, distance, near, near_word = memo.get(bits) or self.describe(bits)
            if distance is not None and 0 <= (target := offset + distance) < PAGE and target & odd == 0:
                address, word = near, near_word
            view[offset + 1] = word
            view[offset] = address
            pair = fused.get((last_address, address))
            if pair is not None:
                view[last] = pair[0]
                view[last + 1] |= pair[1]
            last, last_address = offset, address
            offset += length
            if ends:
                break
        self._mark_code(0, page.table, start, offset, DECODED)

    def decode_straddle(self, page: CodePage, half: int) -> None:
        """Decode the instruction that starts in the page's last two bytes and ends with `half`."""
        low = int.from_bytes(page.content(PAGE - 2, PAGE), "little")
        bits = low | half << 16
        known = self.memo.get(bits) or self.describe(bits)
        view = page.view
        view[2 * STRADDLE_SLOT] = known[2]
        view[2 * STRADDLE_SLOT + 1] = known[3]
        view[2 * (RECORD_SLOTS - 1) + 1] = half << IMMEDIATE_BIT

    def change(self, page: CodePage, first: int, end: int) -> None:
        """Bytes of a page change: forget the instructions and the regions that they are part of."""
        if bytes(page.used[first:end]) == bytes(end - first):
            return
        with self.lock:
            gone = [region for region in page.regions if region.covers(page, first, end)]
            self.drop(gone)
            self.removed.extend((region.page.table, region.entries, region.since) for region in gone)
            self._forget_bytes(0, page.table, first, end)

    def drop(self, regions: list[Installed]) -> None:
        """Take regions out; their bytes are held by others alone."""
        with self.lock:
            for region in regions:
                region.remove()
            for page in {part.table: part for region in regions for part, _ in region.parts}.values():
                self._release_code(0, page.table)
                for region in page.regions:
                    for part, covered in region.parts:
                        for start, end in covered if part is page else ():
                            self._mark_code(0, page.table, start, end, HELD)

    def drop_all(self) -> None:
        """Take all regions out."""
        with self.lock:
            self.drop(list({id(region): region for page in self.by_table.values() for region in page.regions}.values()))

    def forget(self, page: CodePage) -> None:
        """Return a page to the undecoded state, in place."""
        with self.lock:
            gone = list(page.regions)
            self.drop(gone)
            self.removed.extend((region.page.table, region.entries, region.since) for region in gone)
            page.view.cast("B")[:] = self._blank
            page.clear()

    def keep(self, infos: list[range]) -> None:
        """Forget the pages whose info words are not in these ranges: their memory may be gone."""
        for info in [i for i in self.by_info if not any(i in words for words in infos)]:
            page = self.by_info.pop(info)
            self.forget(page)
            del self.by_table[page.table]

    def forget_all(self) -> None:
        """Forget all decoded code (the set of extensions changed, or memory was replaced)."""
        self.memo.clear()
        self.forget_pages()

    def forget_pages(self) -> None:
        """Return all pages to the undecoded state."""
        for page in self.by_table.values():
            self.forget(page)


def pack(found: Decoded) -> tuple[int, int]:
    """The register bytes of a record and its immediate."""
    operands = found.operands
    rd = operands.get("rd", 0)
    if rd == 0 and "rd" in operands and found.instruction.function is not None and not found.instruction.is_float("rd"):
        rd = X0_SINK
    imm = 0
    for name in ("imm", "uimm", "shamt", "csr", "rm"):
        if name in operands and name in found.instruction.operands:
            imm = operands[name]
            break
    if "rs3" in found.instruction.operands:
        imm |= operands["rs3"] << 8
    return rd | operands.get("rs1", 0) << OPERAND_BIT["rs1"] | operands.get("rs2", 0) << OPERAND_BIT["rs2"], imm

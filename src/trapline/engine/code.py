"""Decoded code: a table of records for each physical page that is executed."""

from __future__ import annotations

import ctypes
import mmap
import struct
import sys
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from trapline.engine import decode_table
from trapline.engine.decode_table import ENDING, X0_SINK, fused_handlers
from trapline.engine.tlb_layout import (
    BLOCK_LIMIT,
    CODE_PAGE_BYTES,
    NO_HALF,
    PAGE_HOST,
    RECORD_BYTES,
    RECORD_SLOTS,
    SNAPSHOT,
    STRADDLE_SLOT,
    TABLE_BYTES,
    USED,
    WRITTEN_KEPT,
)
from trapline.isa.decode import Decoder
from trapline.lang.host_pages import HUGE, anonymous

if TYPE_CHECKING:
    from trapline.isa.decode import Decoded

PAGE = 4096
CHUNK = 2 * HUGE
TABLES_PER_CHUNK = CHUNK // CODE_PAGE_BYTES
LEAST_PAGES, MOST_PAGES = 2048, 1 << 15  # of a guest that are decoded at a time: 84 MB and 1.3 GB of tables
MOST_KNOWN = 1 << 16  # instructions that are remembered
GUEST_PAGES = 8  # one in so many pages of its memory, between these
_NATIVE_3, _NATIVE_4 = (ctypes.CFUNCTYPE(ctypes.c_uint64, *[ctypes.c_uint64] * n) for n in (3, 4))
_WORD = struct.Struct("<I").unpack_from

# What is known of some instruction bits: length, whether straight-line code ends here, handler address
# and operand word; for a branch also its distance, and handler and word where the target is in the page.
Known = tuple[int, bool, int, int, int | None, int, int]


Covered = list[tuple[int, int]]


@dataclass(slots=True, eq=False)
class Installed:
    """A compiled region that is in: the page in which it is entered, and its address.

    `parts` are the pages that it was made from, with the first and end offsets of its bytes there. It can be entered
    at `entries`, offsets in the page, and is at `heads`: what stands in their records, and the handlers before that.
    """

    page: CodePage
    code: int
    parts: list[tuple[CodePage, Covered]]
    entries: tuple[int, ...]
    heads: dict[int, tuple[int, int]] = field(default_factory=dict)

    def remove(self) -> None:
        """Give the heads their own handlers back."""
        for head, (stub, original) in self.heads.items():
            if self.page.view[head] == stub:
                self.page.view[head] = original
        self.heads.clear()
        for page, _ in self.parts:
            if self in page.regions:
                page.regions.remove(self)


class CodePage:
    """The records of one page, and the bytes that they were decoded from (`used` is 0xff for these)."""

    __slots__ = ("epoch", "host", "info", "memory", "owner", "regions", "snapshot", "table", "used", "view")

    def __init__(
        self, host: int, info: int, table: int, memory: memoryview, owner: object = None, epoch: int = 0
    ) -> None:
        self.host, self.info, self.table, self.owner, self.memory = host, info, table, owner, memory
        self.view = memory[:TABLE_BYTES].cast("Q")
        self.snapshot, self.used = memory[SNAPSHOT:USED], memory[USED:PAGE_HOST]
        self.epoch = epoch  # of the table: grows whenever decoded code is forgotten
        self.regions: list[Installed] = []  # those that are made from bytes of this page

    def content(self, first: int, end: int) -> bytes:
        """Bytes of code: as they were when records were decoded from them, all others as they are in memory now."""
        used, then = bytes(self.used[first:end]), bytes(self.snapshot[first:end])
        if 0 not in used:
            return then
        now, order = ctypes.string_at(self.host + first, end - first), sys.byteorder
        mask, old, new = (int.from_bytes(part, order) for part in (used, then, now))
        return (old & mask | new & ~mask).to_bytes(end - first, order)

    def adopt(self, first: int, data: bytes) -> None:
        """Take bytes as content: what is decoded from them is the same from now on, and fence.i compares them."""
        self.snapshot[first : first + len(data)] = data
        self.used[first : first + len(data)] = b"\xff" * len(data)


class CodeStore:
    """Allocates, fills and invalidates the record tables of one machine."""

    def __init__(self, symbols: dict[str, int], steps: dict[tuple[str, int], int]) -> None:
        self.symbols, self.steps = symbols, steps
        self.by_table: dict[int, CodePage] = {}
        self.by_info: dict[int, CodePage] = {}
        self.dirty: set[int] = set()
        self.decoder: Decoder | None = None
        self.table, self._table_memory = 0, anonymous(PAGE)  # what native code decodes by
        self.memo: dict[int, Known] = {}
        self._fused = fused_handlers(symbols)
        self._odd = 2  # bit 1 of a target is an error without 16-bit instructions
        self.most = LEAST_PAGES
        self._free: list[tuple[int, memoryview, int]] = []  # tables with the epochs that they have come to
        self._page_changed = _NATIVE_3(symbols["c.page_changed"])
        self._forget_changed = _NATIVE_4(symbols["c.forget_changed"])
        self._chunks: list[mmap.mmap] = []
        self._bases: list[int] = []
        self.lock = threading.RLock()  # between those who forget code and the thread that installs regions
        blank = bytearray(TABLE_BYTES)
        words = memoryview(blank).cast("Q")
        for slot in range(RECORD_SLOTS):
            words[2 * slot] = symbols["h.undecoded"]
        for slot in range(RECORD_SLOTS, TABLE_BYTES // RECORD_BYTES):
            words[2 * slot] = symbols["h.page_end"]
        self._blank = bytes(blank)

    def new_page(self, info: int, host: int, owner: object) -> CodePage:
        """Make an empty table for the page at a host address, in memory of an owner, and enter it at its info word."""
        if not self._free:
            chunk = anonymous(CHUNK)
            self._chunks.append(chunk)
            base = ctypes.addressof(ctypes.c_char.from_buffer(chunk))
            self._bases.append(base)
            whole = memoryview(chunk)
            for i in range(TABLES_PER_CHUNK):
                part = whole[i * CODE_PAGE_BYTES : (i + 1) * CODE_PAGE_BYTES]
                self._free.append((base + i * CODE_PAGE_BYTES, part, 0))
        table, memory, epoch = self._free.pop()
        page = CodePage(host, info, table, memory, owner, epoch)
        memory[:TABLE_BYTES] = self._blank
        ctypes.c_uint64.from_address(table + PAGE_HOST).value = host
        self.by_table[table] = self.by_info[info] = page
        ctypes.c_uint64.from_address(info).value = table | 1
        self.dirty.add(info)
        return page

    def size_for(self, pages: int) -> None:
        """The guest has so many pages of memory: bound how many of them are decoded at a time."""
        self.most = max(self.most, min(MOST_PAGES, pages // GUEST_PAGES))

    def make_room(self) -> bool:
        """Before a new page: if there are too many, forget the oldest eighth, and return that it was so.

        Pages that regions are made from are hot: they go only if there are no others. Fetch translations must go, too.
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
        self.dirty.discard(info)
        ctypes.c_uint64.from_address(info).value = 0
        self._free.append((page.table, page.memory, page.epoch))

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
                far = word | (imm * 8 & 0xFFFFFFFF) << 32
                near = symbols[f"h.{name}f" if imm > 0 else f"h.{name}b"]
                known = length, ends, symbols[f"h.{name}"], far, imm, near, far | step << 24
            else:
                address = self._handler(name, found, imm)
                known = length, ends, address, word | (imm & 0xFFFFFFFF) << 32, None, 0, 0
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
        self.table, self._table_memory = decode_table.build(decoder, self.symbols, self.steps)
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
                view[offset + 1] = NO_HALF << 32
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
        page.snapshot[start:offset] = data[start:offset]
        page.used[start:offset] = b"\xff" * (offset - start)

    def decode_straddle(self, page: CodePage, half: int) -> None:
        """Decode the instruction that starts in the page's last two bytes and ends with `half`."""
        low = int.from_bytes(page.content(PAGE - 2, PAGE), "little")
        bits = low | half << 16
        known = self.memo.get(bits) or self.describe(bits)
        view = page.view
        view[2 * STRADDLE_SLOT] = known[2]
        view[2 * STRADDLE_SLOT + 1] = known[3]
        view[2 * (RECORD_SLOTS - 1) + 1] = half << 32

    def refresh(self, page: CodePage) -> bool:
        """Forget the decoded instructions whose bytes have changed; return whether there were any."""
        if not self._page_changed(0, page.table, page.host):
            return False
        with self.lock:
            page.epoch += 1
            if page.regions:
                drop_regions(page, changes(page))
            self._forget_changed(0, page.table, page.host, self.symbols["h.undecoded"])
        return True

    def forget(self, page: CodePage) -> None:
        """Return a page to the undecoded state, in place."""
        with self.lock:
            page.epoch += 1
            for region in list(page.regions):
                region.remove()
            page.view.cast("B")[:] = self._blank
            page.used[:] = bytes(PAGE)

    def keep(self, infos: list[range]) -> None:
        """Forget the pages whose info words are not in these ranges: their memory may be gone."""
        for info in [i for i in self.by_info if not any(i in words for words in infos)]:
            page = self.by_info.pop(info)
            self.forget(page)
            del self.by_table[page.table]
            self.dirty.discard(info)

    def forget_all(self) -> None:
        """Forget all decoded code (the set of extensions changed, or memory was replaced)."""
        self.memo.clear()
        for page in self.by_table.values():
            self.forget(page)

    def synchronise(self, infos: set[int] | None) -> list[int]:
        """fence.i: compare what may have been written (None: everything) and forget what changed.

        Return the info words of the pages that may still be written without notice: a few, or none.
        """
        written = self.dirty | (set(self.by_info) if infos is None else infos)
        kept = [info for info in written if info in self.by_info]
        for info in kept:
            self.refresh(self.by_info[info])
        self.dirty.clear()
        if len(kept) <= WRITTEN_KEPT:
            return kept
        for info in kept:
            ctypes.c_uint64.from_address(info).value = self.by_info[info].table
        return []


def changes(page: CodePage) -> bytes:
    """Return a page's bytes that records were decoded from and that have changed: 0 for all others."""
    order = sys.byteorder
    now = int.from_bytes(ctypes.string_at(page.host, PAGE), order)
    then = int.from_bytes(page.snapshot, order)
    return ((now ^ then) & int.from_bytes(page.used, order)).to_bytes(PAGE, order)


def drop_regions(page: CodePage, changed: bytes) -> None:
    """Take out the regions that hold changed bytes of a page, and those whose heads have other handlers by now."""
    for region in list(page.regions):
        covered = [ranges for part, ranges in region.parts if part is page]
        if all(region.page.view[head] != stub for head, (stub, _) in region.heads.items()) or any(
            changed.count(0, start, end) != end - start for ranges in covered for start, end in ranges
        ):
            region.remove()


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
    return rd | operands.get("rs1", 0) << 8 | operands.get("rs2", 0) << 16, imm

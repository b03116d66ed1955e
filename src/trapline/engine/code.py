"""Decoded code: a table of records for each physical page that is executed."""

from __future__ import annotations

import ctypes
import mmap
from typing import TYPE_CHECKING

from trapline.engine.tlb_layout import RECORD_BYTES, RECORD_SLOTS, STRADDLE_SLOT, TABLE_BYTES
from trapline.isa.decode import Decoder

if TYPE_CHECKING:
    from trapline.isa.decode import Decoded

PAGE = 4096
TABLES_PER_CHUNK = 32
BLOCK_LIMIT = 256
ENDS = frozenset({"jal", "jalr", "mret", "sret"})
X0_SINK = 32


class CodePage:
    """The records of one page, and the bytes that they were decoded from."""

    __slots__ = ("host", "info", "seen", "snapshot", "table", "view")

    def __init__(self, host: int, info: int, table: int, view: memoryview) -> None:
        self.host, self.info, self.table, self.view = host, info, table, view
        self.snapshot = bytearray(PAGE)
        self.seen: list[tuple[int, int]] = []


class CodeStore:
    """Allocates, fills and invalidates the record tables of one machine."""

    def __init__(self, symbols: dict[str, int], steps: dict[tuple[str, int], int]) -> None:
        self.symbols, self.steps = symbols, steps
        self.by_table: dict[int, CodePage] = {}
        self.by_info: dict[int, CodePage] = {}
        self.dirty: set[int] = set()
        self.decoder: Decoder | None = None
        self.memo: dict[int, tuple[int, str, int, int, bool]] = {}
        self._free: list[tuple[int, memoryview]] = []
        self._chunks: list[mmap.mmap] = []
        blank = bytearray(TABLE_BYTES)
        words = memoryview(blank).cast("Q")
        for slot in range(RECORD_SLOTS):
            words[2 * slot] = symbols["h.undecoded"]
        for slot in range(RECORD_SLOTS, TABLE_BYTES // RECORD_BYTES):
            words[2 * slot] = symbols["h.page_end"]
        self._blank = bytes(blank)

    def new_page(self, host: int, info: int) -> CodePage:
        """Make an empty table for the page at a host address and enter it at its info word."""
        if not self._free:
            chunk = mmap.mmap(-1, TABLES_PER_CHUNK * TABLE_BYTES)
            self._chunks.append(chunk)
            base = ctypes.addressof(ctypes.c_char.from_buffer(chunk))
            whole = memoryview(chunk)
            for i in range(TABLES_PER_CHUNK):
                part = whole[i * TABLE_BYTES : (i + 1) * TABLE_BYTES]
                self._free.append((base + i * TABLE_BYTES, part))
        table, view = self._free.pop()
        page = CodePage(host, info, table, view.cast("Q"))
        view[:] = self._blank
        self.by_table[table] = self.by_info[info] = page
        ctypes.c_uint64.from_address(info).value = table | 1
        self.dirty.add(info)
        return page

    def _describe(self, bits: int) -> tuple[int, str, int, int, bool]:
        """Length, handler name, operand word, immediate, and whether straight-line code ends here."""
        assert self.decoder is not None
        found = self.decoder.decode(bits)
        if found is None or found.instruction.function is None:
            return (4 if bits & 3 == 3 else 2), "", 0, 0, True
        word, imm = pack(found)
        name = f"{found.instruction.name}_{found.length}"
        if "csr" in found.operands:
            special = f"{name}@{imm:x}"
            if f"h.{special}r" in self.symbols and found.operands["rs1"] == 0:
                name = f"{special}r"
            elif f"h.{special}" in self.symbols:
                name = special
        return found.length, name, word, imm, found.instruction.name in ENDS

    def record(self, bits: int, offset: int, *, inside: bool) -> tuple[int, int, int, bool]:
        """Length, handler address, operand word and end mark of the instruction at a page offset."""
        known = self.memo.get(bits)
        if known is None:
            known = self.memo[bits] = self._describe(bits)
        length, name, word, imm, ends = known
        if not name:
            return length, self.symbols["h.undefined"], 0, True
        step = self.steps.get((name[:-2], length))
        if step is not None:
            target = offset + imm
            if inside and 0 <= target < PAGE and (target & 2 == 0 or self.short):
                kind = "f" if imm > 0 else "b"
                return length, self.symbols[f"h.{name}{kind}"], word | step << 24 | (imm * 8 & 0xFFFFFFFF) << 32, ends
            return length, self.symbols[f"h.{name}"], word | (imm * 8 & 0xFFFFFFFF) << 32, ends
        address = self.symbols.get(f"h.{name}") or self.symbols[f"s.{name}"]
        return length, address, word | (imm & 0xFFFFFFFF) << 32, ends

    @property
    def short(self) -> bool:
        """Whether 16-bit aligned targets are legal."""
        assert self.decoder is not None
        return "C" in self.decoder.enabled

    def decode_block(self, page: CodePage, offset: int) -> None:
        """Decode from a page offset until straight-line code ends."""
        data = ctypes.string_at(page.host, PAGE)
        undecoded, view = self.symbols["h.undecoded"], page.view
        for _ in range(BLOCK_LIMIT):
            slot = offset >> 1
            if offset >= PAGE or view[2 * slot] != undecoded:
                return
            bits = int.from_bytes(data[offset : offset + 4], "little")
            if bits & 3 == 3 and offset == PAGE - 2:
                view[2 * slot + 1] = 0xFFFF << 32
                view[2 * slot] = self.symbols["h.straddle"]
                self._remember(page, data, offset, 2)
                return
            length, address, word, ends = self.record(bits if bits & 3 == 3 else bits & 0xFFFF, offset, inside=True)
            view[2 * slot + 1] = word
            view[2 * slot] = address
            self._remember(page, data, offset, length)
            if ends:
                return
            offset += length

    def decode_straddle(self, page: CodePage, half: int) -> None:
        """Decode the instruction that starts in the page's last two bytes and ends with `half`."""
        low = int.from_bytes(ctypes.string_at(page.host + PAGE - 2, 2), "little")
        _, address, word, _ = self.record(low | half << 16, PAGE - 2, inside=False)
        view = page.view
        view[2 * STRADDLE_SLOT] = address
        view[2 * STRADDLE_SLOT + 1] = word
        view[2 * (RECORD_SLOTS - 1) + 1] = half << 32

    @staticmethod
    def _remember(page: CodePage, data: bytes, offset: int, length: int) -> None:
        page.snapshot[offset : offset + length] = data[offset : offset + length]
        page.seen.append((offset, length))

    def stale(self, page: CodePage) -> bool:
        """Whether any decoded instruction's bytes have changed."""
        data, old = ctypes.string_at(page.host, PAGE), page.snapshot
        return any(data[o : o + n] != old[o : o + n] for o, n in page.seen)

    def forget(self, page: CodePage) -> None:
        """Return a page to the undecoded state, in place."""
        page.view.cast("B")[:] = self._blank
        page.seen.clear()

    def forget_all(self) -> None:
        """Forget all decoded code (the set of extensions changed, or memory was replaced)."""
        self.memo.clear()
        for page in self.by_table.values():
            self.forget(page)

    def synchronise(self, infos: set[int] | None) -> None:
        """fence.i: compare what may have been written (None: everything) and forget what changed."""
        for info in self.dirty | (set(self.by_info) if infos is None else infos):
            page = self.by_info.get(info)
            if page is not None:
                if self.stale(page):
                    self.forget(page)
                ctypes.c_uint64.from_address(info).value = page.table
        self.dirty.clear()


def pack(found: Decoded) -> tuple[int, int]:
    """The register bytes of a record and its immediate."""
    operands = found.operands
    rd = operands.get("rd", 0)
    if rd == 0 and "rd" in operands and found.instruction.function is not None and writes_x(found):
        rd = X0_SINK
    imm = 0
    for name in ("imm", "uimm", "shamt", "csr", "rm"):
        if name in operands and name in found.instruction.operands:
            imm = operands[name]
            break
    if "rs3" in found.instruction.operands:
        imm |= operands["rs3"] << 8
    return rd | operands.get("rs1", 0) << 8 | operands.get("rs2", 0) << 16, imm


def writes_x(found: Decoded) -> bool:
    """Whether rd is an integer register."""
    return not found.instruction.text.partition(" ")[2].startswith("frd")

"""Stops as people set them, and the block of engine.observe.stops that is made of them; one for an engine's harts."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

from trapline.dataclass import dataclass, field
from trapline.engine.observe import stops as layout
from trapline.engine.stop_arguments import (
    ALL_MODES,
    csr_number,
    known,
    masked,
    mode_bits,
    mode_numbers,
    passed,
    stop_cause,
)
from trapline.lang.control import EXIT_HOSTED_HS, EXIT_HOSTED_M
from trapline.lang.functions import Trap
from trapline.lang.given import Named, require_kind, whole
from trapline.lang.values import U64
from trapline.privilege.causes import INTERRUPT, trap_index
from trapline.privilege.csr_numbers import CSR_BY_NAME
from trapline.privilege.derived import update_derived
from trapline.privilege.protection import region_of
from trapline.privilege.translation import ACCESS_FETCH, translate

if TYPE_CHECKING:
    from trapline.lang.state import Hart

COVER_PLACES = 1 << 21  # of 32 bytes, taken as they are used
_GOLDEN, _MASK = 0x9E37_79B9_7F4A_7C15, 0xFFFF_FFFF_FFFF_FFFF
_TRAP_BITS = 64 * 8 * 4

Kind = Literal["code", "watch", "trap", "csr"]
_LEVELS = ("M", "HS", "VS")


@dataclass(eq=False, slots=True)
class Stop:
    """One stop. Made by the methods of `Stops`, which say what the fields mean."""

    kind: Kind
    address: int = 0
    size: int = 1
    how: int = layout.EXECUTE
    physical: bool = False
    modes: int = ALL_MODES
    space: tuple[int, int] = (0, 0)
    guest: tuple[int, int] = (0, 0)
    ignore: int = 0
    traps: frozenset[int] = frozenset()
    name: str = ""
    action: Callable[[Any], object] | None = None  # of a hook (session.hooks): asked whether the run ends here
    _words: memoryview | None = field(default=None, repr=False)
    _count: int = 0

    def __repr__(self) -> str:
        where = {"trap": f"{len(self.traps)} ways of traps", "csr": self.name}.get(self.kind, f"{self.address:#x}")
        size = f", {self.size} bytes" if self.kind == "watch" else ""
        return f"<Stop on {self.kind}: {where}{size}, {self.count} times>"

    @property
    def count(self) -> int:
        """How often it was hit, those that did not end the run included."""
        return self._count if self._words is None else self._words[layout.COUNT // 8]

    def restart(self, count: int) -> None:
        """Count on from there; where it is counted in words, from the next `place` on."""
        self._count = count

    def place(self, words: memoryview | None) -> None:
        """Count in these words from now on."""
        self._count, self._words = self.count, words
        if words is not None:
            words[layout.COUNT // 8] = self._count


@dataclass(frozen=True, slots=True)
class Stopped:
    """A hart that came back for a stop: its number, the address that was executed, accessed or trapped at.

    `pc` is that of the instruction which made a watched access; the hart is behind it.
    """

    stop: Stop
    hart: int
    address: int
    pc: int

    def describe(self) -> str:
        """One line."""
        written = f"write of {self.stop.name or hex(self.stop.address)}"
        what = {"code": "breakpoint", "watch": "watchpoint", "trap": "trap", "csr": written}
        return f"{what[self.stop.kind]} at {self.address:#x} on hart {self.hart}"


class Records(Protocol):
    """What an engine that keeps decoded code does with stops on code."""

    def refresh(self) -> None:
        """Other stops are set now."""


class Stops(Named):
    """The stops of the harts that an engine runs. `counting` ones never end a run; `ignore` so many hits do not.

    `modes` are names (U, HS, M, VU, VS), all without; `space` and `guest` are (mask, value) of satp (vsatp where V=1)
    and hgatp. Addresses are virtual unless `physical`, which means the hart's own, also under a guest.
    """

    def __init__(self) -> None:
        self.harts: list[Hart] = []
        self.records: Records | None = None
        self.changed = False
        self.on_code: dict[int, list[int]] = {}  # by number of the virtual page: offsets
        self.at_hosts: list[int] = []  # host addresses of code
        self.ranges: list[tuple[int, int, bool]] = []  # of code: first, end, by host address
        self.csr_entries: dict[int, int] = {}
        self._stops: list[Stop] = []
        self._by_entry: dict[int, Stop] = {}
        self._block: mmap.mmap | None = None
        self._cover: mmap.mmap | None = None
        self._complete = True

    def __iter__(self) -> Iterator[Stop]:
        return iter(tuple(self._stops))

    def __len__(self) -> int:
        return len(self._stops)

    def attach(self, hart: Hart) -> None:
        """A hart that these stops are for."""
        if all(known is not hart for known in self.harts):
            self.harts.append(hart)
            self.changed = self.changed or bool(self._stops)

    # --- setting ---
    def breakpoint(
        self,
        address: int,
        *,
        physical: bool = False,
        modes: Sequence[str] = (),
        space: tuple[int, int] = (0, 0),
        guest: tuple[int, int] = (0, 0),
        ignore: int = 0,
        counting: bool = False,
    ) -> Stop:
        """Come back before the instruction at an address is executed."""
        whole("address", address)
        where = mode_bits(modes), masked(space), masked(guest)
        return self.add(Stop("code", address, 1, layout.EXECUTE, physical, *where, passed(ignore, counting)))

    def watch(
        self,
        address: int,
        size: int,
        *,
        read: bool = False,
        write: bool = False,
        execute: bool = False,
        physical: bool = False,
        modes: Sequence[str] = (),
        space: tuple[int, int] = (0, 0),
        guest: tuple[int, int] = (0, 0),
        ignore: int = 0,
        counting: bool = False,
    ) -> Stop:
        """Come back behind an access to any of `size` bytes, or before code there is executed.

        What hosted firmware and KVM do for a guest is no access. ValueError for no bytes or no kind of access.
        """
        how = bool(read) * layout.READ | bool(write) * layout.WRITE | bool(execute) * layout.EXECUTE
        require_kind("address", address, int)
        require_kind("size", size, int)
        if size < 1 or address < 0 or address + size > 1 << 64 or how == 0:
            raise ValueError("a watched range has at least one byte, below 2^64, and a kind of access")
        if physical and execute and (read or write):
            raise ValueError("a physical range of code is not one of data, too")
        where = mode_bits(modes), masked(space), masked(guest)
        return self.add(Stop("watch", address, size, how, physical, *where, passed(ignore, counting)))

    def catch_trap(
        self,
        causes: Iterable[str | int] = (),
        *,
        origins: Sequence[str] = (),
        destinations: Sequence[str] = (),
        ignore: int = 0,
        counting: bool = False,
    ) -> Stop:
        """Come back when the hart has taken a trap, before its handler.

        `causes` are names, or as in xcause, 0 to 31 and bit 63 for interrupts; `origins` are modes, `destinations` M,
        HS, VS; all without. ValueError for others.
        """
        require_kind("causes", causes, Iterable)
        given = [causes] if isinstance(causes, str) else causes
        wanted = frozenset(
            trap_index(cause, origin, destination)
            for cause in ([stop_cause(cause) for cause in given] or [*range(32), *(INTERRUPT | n for n in range(32))])
            for origin in mode_numbers(origins)
            for destination in [_LEVELS.index(name) for name in known("level", destinations, _LEVELS)] or range(3)
        )
        return self.add(Stop("trap", ignore=passed(ignore, counting), traps=wanted))

    def catch_csr(self, csr: str | int, *, modes: Sequence[str] = (), ignore: int = 0, counting: bool = False) -> Stop:
        """Come back before an instruction that writes a CSR, by the name or number that the instruction has.

        In VS-mode that of vsatp is satp. Traps and hosted software write without an instruction.
        """
        number = csr_number(csr)
        name = next((name for name, known in CSR_BY_NAME.items() if known == number), "")
        return self.add(Stop("csr", number, modes=mode_bits(modes), ignore=passed(ignore, counting), name=name))

    def add(self, stop: Stop) -> Stop:
        """Set a stop; it holds from the next run on."""
        self._stops.append(stop)
        self.changed = True
        return stop

    def remove(self, stop: Stop) -> None:
        """Take a stop away. ValueError if it is not set."""
        self._stops.remove(stop)
        self.changed = True

    def cover(self, places: int = COVER_PLACES) -> None:
        """Count every instruction that begins, by pc and mode, in a table of so many places (a power of two)."""
        self._cover = mmap.mmap(-1, places * layout.COVER_BYTES)
        self.watch(0, (1 << 64) - 1, execute=True, counting=True)

    @property
    def covers(self) -> bool:
        """Whether every instruction is counted."""
        return self._cover is not None

    def covered(self) -> tuple[dict[tuple[int, int], int], int]:
        """How often each (mode index, pc) began, and how many had no place in the table, since `cover` was called."""
        if self._cover is None:
            return {}, 0
        words = memoryview(self._cover).cast("Q")
        step = layout.COVER_BYTES // 8
        found = {
            (words[at + 1], words[at] - 1): words[at + 2] for at in range(0, len(words), step) if words[at]
        }  # fmt: skip
        lost = memoryview(self._block).cast("Q")[layout.COVER_LOST // 8] if self._block is not None else 0
        return found, lost

    def clear(self) -> None:
        """Take all stops away."""
        self._stops.clear()
        self.changed = True

    @contextlib.contextmanager
    def counting(self) -> Iterator[None]:
        """In the block no stop ends a run: all of them count. Afterwards they are as before, their counts too."""
        before = [(stop, stop.ignore) for stop in self._stops]
        with self.recounted():
            for stop, _ in before:
                stop.ignore = layout.EVER
            self.changed = True
            try:
                yield
            finally:
                for stop, ignore in before:
                    stop.ignore = ignore

    @contextlib.contextmanager
    def recounted(self) -> Iterator[None]:
        """What is hit in the block is not counted when it is over."""
        before = [(stop, stop.count) for stop in self._stops]
        try:
            yield
        finally:
            for stop, count in before:
                stop.place(None)
                stop.restart(count)
            self.changed = True

    def hit(self, hart: Hart, number: int) -> Stopped:
        """Why a hart, which is called by this number, came back with EXIT_BREAK."""
        return Stopped(self._by_entry[int(hart.stop_entry)], number, int(hart.stop_va), int(hart.stop_pc))

    # --- the block ---
    def apply(self) -> None:
        """Let the harts know the stops of now."""
        if not self.changed:
            return
        self.changed = False
        for stop in self._by_entry.values():
            stop.place(None)
        self._by_entry.clear()
        self.on_code, self.at_hosts, self.ranges, self.csr_entries = {}, [], [], {}
        base = self._make_block() if self._stops else 0
        caught = any(stop.kind == "trap" for stop in self._stops)
        for hart in self.harts:
            hart.stops_base, hart.stop_traps = base, int(caught)
            hart.stop_entry = 0
            hart.call(update_derived)
            hart.on_flush_translations()
        if self.records is not None:
            self.records.refresh()

    def _make_block(self) -> int:
        exact = [s for s in self._stops if s.kind == "code"]
        ranges = [s for s in self._stops if s.kind == "watch"]
        traps = [s for s in self._stops if s.kind == "trap"]
        csrs = [s for s in self._stops if s.kind == "csr"]
        if len(ranges) > layout.MOST_RANGES:
            raise ValueError(f"at most {layout.MOST_RANGES} ranges are watched")
        places = 16
        while places < 2 * len(exact):
            places *= 2
        after = layout.HASH + places * layout.ENTRY_BYTES
        bitmaps = after + (len(ranges) + len(traps) + len(csrs)) * layout.ENTRY_BYTES
        block = mmap.mmap(-1, bitmaps + len(traps) * _TRAP_BITS // 8)
        words = memoryview(block).cast("Q")
        base = ctypes.addressof(ctypes.c_char.from_buffer(block))
        self._block, maker = block, _Maker(self, words, base)
        if self._cover is not None:
            maker.set(layout.COVER, ctypes.addressof(ctypes.c_char.from_buffer(self._cover)))
            maker.set(layout.COVER_MASK, len(self._cover) // layout.COVER_BYTES - 1)
        maker.exact(exact, places - 1)
        at = maker.ranges(ranges, after)
        at = maker.traps(traps, at, bitmaps)
        maker.csrs(csrs, at)
        return base

    def place(self, stop: Stop, words: memoryview, base: int, at: int) -> None:
        """`stop` stands `at` so many bytes into the block."""
        stop.place(words[at // 8 : (at + layout.ENTRY_BYTES) // 8])
        self._by_entry[base + at] = stop

    def host_of(self, pa: int) -> int:
        """The host address of a byte of memory, or 0."""
        for hart in self.harts[:1]:
            for i in range(int(hart.region_count)):
                offset = pa - int(hart.region_base[i])
                if 0 <= offset < int(hart.region_size[i]) and int(hart.region_host[i]):
                    return int(hart.region_host[i]) + offset
        return 0

    # --- an engine without records ---
    def before(self, hart: Hart) -> bool:
        """Whether the run comes back before the instruction at pc."""
        asked = self.at_hosts or self._cover is not None or any(by_host for _, _, by_host in self.ranges)
        host = _host_of_code(hart) if asked else U64(0)
        entry = self._csr_entry(hart) if self.csr_entries else 0
        return stop_at(hart, hart.pc, host, U64(entry))

    def _csr_entry(self, hart: Hart) -> int:
        from trapline.privilege.memory import fetch

        try:
            bits = int(fetch(hart))
        except Trap:
            return 0
        return self.csr_entries.get(written_csr(bits), 0)


stop_at = layout.stop_at


class _Maker:
    """Fills a block."""

    def __init__(self, stops: Stops, words: memoryview, base: int) -> None:
        self.stops, self.words, self.base = stops, words, base

    def set(self, at: int, value: int) -> None:
        self.words[at // 8] = value & _MASK

    def entry(self, stop: Stop, at: int, key: int, last: int, kind: int) -> None:
        values = {
            layout.KEY: key,
            layout.KIND: kind,
            layout.LAST: last,
            layout.MODES: stop.modes,
            layout.SPACE_MASK: stop.space[0],
            layout.SPACE: stop.space[1],
            layout.GUEST_MASK: stop.guest[0],
            layout.GUEST: stop.guest[1],
            layout.IGNORE: stop.ignore,
            layout.WATCHED: stop.how,
        }
        for offset, value in values.items():
            self.set(at + offset, value)
        self.stops.place(stop, self.words, self.base, at)

    def exact(self, found: list[Stop], mask: int) -> None:
        self.set(layout.HASH_MASK, mask)
        for stop in found:
            key = self.stops.host_of(stop.address) if stop.physical else stop.address
            if stop.physical:
                self.stops.at_hosts.append(key)
            else:
                self.stops.on_code.setdefault(key >> 12, []).append(key & 4095)
                self.set(layout.CODE_PAGES + (key >> 12 & layout.FILTER) * 8, 1)
            slot = hashed(key) & mask
            while self.words[(layout.HASH + slot * layout.ENTRY_BYTES + layout.KIND) // 8]:
                slot = slot + 1 & mask
            kind = layout.PHYSICAL if stop.physical else layout.VIRTUAL
            self.entry(stop, layout.HASH + slot * layout.ENTRY_BYTES, key, key, kind)

    def ranges(self, found: list[Stop], at: int) -> int:
        self.set(layout.RANGE_COUNT, len(found))
        self.set(layout.RANGES, self.base + at)
        for stop in found:
            code = stop.how & layout.EXECUTE != 0
            first = self.stops.host_of(stop.address) if stop.physical and code else stop.address
            kind = layout.PHYSICAL if stop.physical else layout.VIRTUAL
            self.entry(stop, at, first, first + stop.size - 1, kind)
            if code:
                self.stops.ranges.append((first, first + stop.size, stop.physical))
            if code and not stop.physical:
                self._mark(layout.CODE_PAGES, stop)
            if stop.how & (layout.READ | layout.WRITE):
                self._mark(layout.DATA_PAGES, stop)
            at += layout.ENTRY_BYTES
        return at

    def _mark(self, table: int, stop: Stop) -> None:
        first, last = stop.address >> 12, stop.address + stop.size - 1 >> 12
        for number in range(first, min(last, first + layout.FILTER) + 1):
            self.set(table + (number & layout.FILTER) * 8, 1)

    def traps(self, found: list[Stop], at: int, bitmaps: int) -> int:
        self.set(layout.TRAP_COUNT, len(found))
        self.set(layout.TRAPS, self.base + at)
        for stop in found:
            self.entry(stop, at, self.base + bitmaps, 0, layout.VIRTUAL)
            for index in stop.traps:
                self.words[bitmaps // 8 + (index >> 6)] |= 1 << (index & 63)
            at, bitmaps = at + layout.ENTRY_BYTES, bitmaps + _TRAP_BITS // 8
        return at

    def csrs(self, found: list[Stop], at: int) -> None:
        self.set(layout.ANY_CSR, int(bool(found)))
        for stop in found:
            self.entry(stop, at, stop.address, 0, layout.VIRTUAL)
            self.stops.csr_entries[stop.address] = self.base + at
            at += layout.ENTRY_BYTES


def hashed(key: int) -> int:
    """engine.observe.stops.mixed."""
    return (key * _GOLDEN & _MASK) >> 32


def written_csr(bits: int) -> int:
    """The number of the CSR that an instruction writes, or -1."""
    how = bits >> 12 & 7
    if bits & 0x7F != 0x73 or how & 3 == 0 or (how & 2 and bits >> 15 & 31 == 0):
        return -1
    return bits >> 20 & 0xFFF


def hosted_then(hart: Hart) -> int:
    """The reason to leave for a hosted level that a stop came before (EXIT_HOSTED_M, EXIT_HOSTED_HS), once; 0: none."""
    then = int(hart.stop_then)
    if then:
        hart.stop_then = 0
    return (0, EXIT_HOSTED_M, EXIT_HOSTED_HS)[then]


def _host_of_code(hart: Hart) -> U64:
    try:
        pa = translate(hart, hart.pc, U64(ACCESS_FETCH), hart.priv, hart.virt, U64(0))
    except Trap:
        return U64(0)
    region = region_of(hart, pa)
    if int(region) >= int(hart.region_count) or hart.region_host[region] == 0:
        return U64(0)
    return U64(hart.region_host[region] + (pa - hart.region_base[region]))

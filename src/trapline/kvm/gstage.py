"""The G-stage page table of a VM, built lazily in simulated physical memory (gstage.c, mmu.c).

Hypervisor chapter, two-stage address translation: Sv39x4, Sv48x4, Sv57x4; the root table has four
times the entries. Leaves have U set, as every guest access counts as a user access, and A and D
preset, so that hardware never needs to update them.
"""

from __future__ import annotations

from typing import ClassVar

from trapline.kvm.exits.map_native import FRESH
from trapline.privilege.pte import PPN_MASK, PPN_SHIFT, PTE_LEAF, PTE_V, PTE_W
from trapline.session.regions import Region
from trapline.session.state.plain_types import U64

PAGE_SHIFT, PAGE = 12, 4096
ROOT_SIZE = 4 * PAGE

MODES = {8: ("sv39x4", 3), 9: ("sv48x4", 4), 10: ("sv57x4", 5)}
MODE_NUMBERS = {name: number for number, (name, _) in MODES.items()}


class TableMemory:
    """Pages for page tables out of one region of hypervisor memory."""

    snapshot_types: ClassVar = {"_free": list[U64]}

    def __init__(self, region: Region) -> None:
        if region.backing is None:
            raise ValueError(f"{region.describe()} has no memory for page tables")
        self.region = region
        self.words = region.backing.view.cast("Q")
        self._next = region.base
        self._free: list[int] = []

    def after_restore(self) -> None:
        """Refuse pages that are none of this region's."""
        for address in (self._next, *self._free):
            if address % PAGE or not self.region.base <= address <= self.region.end:
                raise ValueError(f"a page of page tables at {address:#x}, not in {self.region.describe()}")
        if len(set(self._free)) != len(self._free) or self.region.end in self._free:
            raise ValueError("a free page of page tables that is none, or twice free")

    def page(self) -> int:
        """Return the physical address of a zeroed page."""
        if self._free:
            address = self._free.pop()
            start = (address - self.region.base) >> 3
            self.region.will_write(address, PAGE)
            self.words[start : start + PAGE // 8] = memoryview(bytes(PAGE)).cast("Q")
            return address
        return self._take(PAGE)

    def root(self) -> int:
        """Return the physical address of a zeroed, aligned 16 KiB root table."""
        self._next += -self._next % ROOT_SIZE
        return self._take(ROOT_SIZE)

    def reserve(self, size: int) -> int:
        """Return the physical address of memory for tables that somebody else keeps, aligned as a root table."""
        self._next += -self._next % ROOT_SIZE
        return self._take(size)

    def free(self, address: int) -> None:
        """Give a page back."""
        self._free.append(address)

    def _take(self, size: int) -> int:
        if self._next + size > self.region.end:
            raise MemoryError(f"hypervisor memory for page tables is exhausted ({self.region.size:#x} bytes)")
        address = self._next
        self._next += size
        return address

    @property
    def free_pages(self) -> tuple[int, ...]:
        """The pages that were given back."""
        return tuple(self._free)

    def entries(self, address: int, size: int) -> list[int]:
        """Return the entries of a table that are not zero."""
        start = (address - self.region.base) >> 3
        return [entry for entry in self.words[start : start + size // 8].tolist() if entry]

    def read(self, address: int) -> int:
        """Read a page table entry."""
        return self.words[(address - self.region.base) >> 3]

    def write(self, address: int, value: int) -> None:
        """Write a page table entry."""
        self.region.will_write(address, 8)
        self.words[(address - self.region.base) >> 3] = value


class GStage:
    """One VM's G-stage table."""

    snapshot_skips = ("mode", "levels", "root")

    def __init__(self, memory: TableMemory, mode: int) -> None:
        if mode not in MODES:
            raise ValueError(
                f"unknown hgatp mode {mode!r} (known: {', '.join(f'{n} {m[0]}' for n, m in MODES.items())})"
            )
        self.memory = memory
        self.mode = mode
        self.levels = MODES[mode][1]
        self.root = memory.root()
        self.leaves = [0] * self.levels  # how many map 4 KiB, 2 MiB, 1 GiB, ...
        self.splits = 0

    def after_restore(self) -> None:
        """Refuse tables that are no tree in this region, and leaves through which a guest could write to them."""
        seen, todo = {self.root}, [(self.root, self.levels - 1)]
        region = self.memory.region
        while todo:
            table, level = todo.pop()
            size = PAGE << 9 * level
            for entry in self.memory.entries(table, ROOT_SIZE if table == self.root else PAGE):
                address = (entry >> PPN_SHIFT & PPN_MASK) << PAGE_SHIFT
                if not entry & PTE_V:
                    continue
                if entry & PTE_LEAF:
                    if address < region.end and region.base < address + size:
                        raise ValueError(f"the guest has page tables mapped, at {address:#x}")
                elif level == 0 or address in seen or not region.base <= address < region.end:
                    raise ValueError(f"no table of page tables at {address:#x}")
                else:
                    seen.add(address)
                    todo.append((address, level - 1))
        if seen & set(self.memory.free_pages):
            raise ValueError("a table of page tables is a free page")

    @property
    def mapped_pages(self) -> int:
        """How many 4 KiB pages are mapped, in whatever size."""
        return sum(count << 9 * level for level, count in enumerate(self.leaves))

    @property
    def gpa_bits(self) -> int:
        """Width of a guest physical address."""
        return PAGE_SHIFT + 9 * self.levels + 2

    def hgatp(self, vmid: int) -> int:
        """Return the value of hgatp for this table."""
        return self.mode << 60 | vmid << 44 | self.root >> PAGE_SHIFT

    def index(self, gpa: int, level: int) -> int:
        """Return the index of `gpa` in a table of `level` (0 is the table of 4 KiB leaves)."""
        bits = 11 if level == self.levels - 1 else 9
        return gpa >> (PAGE_SHIFT + 9 * level) & (1 << bits) - 1

    def find(self, gpa: int) -> tuple[int, int, int]:
        """Return (address, level, entry) of the leaf that maps `gpa`, or of the entry where the walk ends."""
        table = self.root
        for level in range(self.levels - 1, -1, -1):
            address = table + 8 * self.index(gpa, level)
            entry = self.memory.read(address)
            if not entry & PTE_V or entry & PTE_LEAF or level == 0:
                return address, level, entry
            table = (entry >> PPN_SHIFT & PPN_MASK) << PAGE_SHIFT
        raise AssertionError("a walk ends at level 0")

    def map(self, gpa: int, hpa: int, level: int, *, writable: bool) -> bool:
        """Map the block of `level` that holds `gpa`; return whether the entry changed."""
        size = PAGE << 9 * level
        if gpa % size or hpa % size:
            raise ValueError(f"gpa {gpa:#x} and hpa {hpa:#x} are not aligned to {size:#x}")
        address = self._entry(gpa, level)
        old = self.memory.read(address)
        new = hpa >> PAGE_SHIFT << PPN_SHIFT | (FRESH if writable else FRESH & ~PTE_W)
        if old == new:
            return False
        if old & PTE_V and not old & PTE_LEAF:
            self._free_table(old, level - 1)
        if not (old & PTE_V and old & PTE_LEAF):
            self.leaves[level] += 1
        self.memory.write(address, new)
        return True

    def unmap(self, gpa: int, size: int) -> int:
        """Remove every mapping inside [gpa, gpa + size), splitting larger blocks; return how many entries went."""
        gone, at, end = 0, gpa, gpa + size
        while at < end:
            address, level, entry = self.find(at)
            block = PAGE << 9 * level
            if entry & PTE_V:
                if at % block or at + block > end:
                    self._split(address, level, entry)
                    continue
                self.memory.write(address, 0)
                self.leaves[level] -= 1
                gone += 1
            at = (at // block + 1) * block
        return gone

    def write_protect(self, gpa: int, size: int) -> int:
        """Take W away from every mapping inside the range, splitting larger blocks; return how many changed."""
        changed, at, end = 0, gpa, gpa + size
        while at < end:
            address, level, entry = self.find(at)
            block = PAGE << 9 * level
            if entry & PTE_V and level:
                self._split(address, level, entry)
                continue
            if entry & PTE_W:
                self.memory.write(address, entry & ~PTE_W)
                changed += 1
            at = (at // block + 1) * block
        return changed

    def _entry(self, gpa: int, level: int) -> int:
        """Return the address of the entry at `level`, making the tables above it."""
        table = self.root
        for at in range(self.levels - 1, level, -1):
            address = table + 8 * self.index(gpa, at)
            entry = self.memory.read(address)
            if entry & PTE_LEAF:
                self._split(address, at, entry)
                entry = self.memory.read(address)
            elif not entry & PTE_V:
                entry = self.memory.page() >> PAGE_SHIFT << PPN_SHIFT | PTE_V
                self.memory.write(address, entry)
            table = (entry >> PPN_SHIFT & PPN_MASK) << PAGE_SHIFT
        return table + 8 * self.index(gpa, level)

    def _split(self, address: int, level: int, entry: int) -> None:
        """Replace a block by a table of the next smaller blocks."""
        table = self.memory.page()
        step = 1 << 9 * (level - 1) << PPN_SHIFT
        for n in range(512):
            self.memory.write(table + 8 * n, entry + n * step)
        self.memory.write(address, table >> PAGE_SHIFT << PPN_SHIFT | PTE_V)
        self.leaves[level] -= 1
        self.leaves[level - 1] += 512
        self.splits += 1

    def _free_table(self, entry: int, level: int) -> None:
        """Give back a table that a larger block replaces, and the tables below it."""
        table = (entry >> PPN_SHIFT & PPN_MASK) << PAGE_SHIFT
        for n in range(512):
            below = self.memory.read(table + 8 * n)
            if below & PTE_V and below & PTE_LEAF:
                self.leaves[level] -= 1
            elif below & PTE_V:
                self._free_table(below, level - 1)
        self.memory.free(table)

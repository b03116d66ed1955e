"""A hart with RAM in a ctypes buffer, and page tables built in it."""

from __future__ import annotations

import ctypes

from trapline.lang.functions import Trap
from trapline.lang.state import Hart
from trapline.lang.values import U64
from trapline.privilege.csr import check_csr, csr_read, csr_write, effective_csr
from trapline.privilege.csr_numbers import CSR_BY_NAME
from trapline.privilege.derived import update_derived
from trapline.privilege.isa_string import DEFAULT_ISA, add_imsic, configure
from trapline.privilege.modes import MODE_BY_NAME
from trapline.privilege.reset import reset
from trapline.privilege.translation import translate

RAM = 0x8000_0000
RAM_SIZE = 0x20_0000
V, R, W, X, U, G, A, D = 1, 2, 4, 8, 16, 32, 64, 128
RWX = V | R | W | X | A | D
USER_RWX = RWX | U
NAPOT, PBMT_IO = 1 << 63, 2 << 61


class Board:
    """One hart, RAM at 0x80000000, and a bump allocator for page tables at its end."""

    def __init__(self, isa: str = DEFAULT_ISA, guests: int | None = None) -> None:
        self.isa, self.guests = isa, guests
        self.hart = Hart()
        configure(self.hart, isa)
        if guests is not None:
            add_imsic(self.hart, guests)
        reset(self.hart, 0, RAM)
        self.buffer = ctypes.create_string_buffer(RAM_SIZE + 4096)
        host = -(-ctypes.addressof(self.buffer) // 4096) * 4096
        self.host = host
        self.region(RAM, RAM_SIZE, 1, host)
        self._next = RAM + RAM_SIZE

    def region(self, base: int, size: int, kind: int, host: int = 0, *, noexec: bool = False) -> None:
        """Declare one more memory region."""
        h = self.hart
        index = int(h.region_count)
        h.region_base[index], h.region_size[index], h.region_host[index] = base, size, host
        h.region_kind[index], h.region_noexec[index] = kind, int(noexec)
        h.region_count = index + 1

    def mode(self, name: str) -> Hart:
        """Put the hart into a mode by name."""
        index = MODE_BY_NAME[name]
        self.hart.priv, self.hart.virt = index & 3, index >> 2
        update_derived(self.hart)
        return self.hart

    def read64(self, pa: int) -> int:
        """A doubleword of RAM."""
        return ctypes.c_uint64.from_address(self.host + pa - RAM).value

    def write64(self, pa: int, value: int) -> None:
        """Store a doubleword of RAM."""
        ctypes.c_uint64.from_address(self.host + pa - RAM).value = value & (1 << 64) - 1

    def buffer_bytes(self) -> bytes:
        """All of RAM."""
        return ctypes.string_at(self.host, RAM_SIZE)

    def table(self, pages: int = 1) -> int:
        """A zeroed page table, aligned to its size."""
        size = 4096 * pages
        self._next = (self._next - size) & ~(size - 1)
        return self._next

    def map(
        self, root: int, levels: int, va: int, pa: int, flags: int, *, level: int = 0, widened: bool = False
    ) -> int:
        """Map one page (of `level`) and return the physical address of its leaf PTE."""
        table = root
        for at in range(levels - 1, -1, -1):
            mask = 0x7FF if widened and at == levels - 1 else 0x1FF
            place = table + (va >> (12 + 9 * at) & mask) * 8
            if at == level:
                self.write64(place, pa >> 12 << 10 | flags)
                return place
            if self.read64(place) == 0:
                self.write64(place, self.table() >> 12 << 10 | V)
            table = self.read64(place) >> 10 << 12 & (1 << 56) - 1
        raise AssertionError("no such level")

    def translate(self, va: int, access: int = 0, *, hlvx: int = 0) -> int:
        """Translate in the hart's present mode."""
        h = self.hart
        return int(translate(h, U64(va), U64(access), h.priv, h.virt, U64(hlvx)))

    def fault(self, va: int, access: int = 0, *, hlvx: int = 0) -> Trap:
        """The trap that a translation raises."""
        try:
            pa = self.translate(va, access, hlvx=hlvx)
        except Trap as trap:
            assert trap.tval == va
            return trap
        raise AssertionError(f"{va:#x} translates to {pa:#x}")

    def read(self, csr: str) -> int:
        """Read exactly this register."""
        return int(csr_read(self.hart, U64(CSR_BY_NAME[csr])))

    def write(self, csr: str, value: int) -> None:
        """Write exactly this register."""
        csr_write(self.hart, U64(CSR_BY_NAME[csr]), U64(value))

    def access(self, csr: str, write: int = 0) -> int:
        """0 if an instruction may access the register, else the exception code."""
        try:
            check_csr(self.hart, U64(CSR_BY_NAME[csr]), U64(write))
        except Trap as trap:
            return trap.cause
        return 0

    def effective(self, csr: str) -> int:
        """The register that an instruction reaches by this name."""
        return int(effective_csr(self.hart, U64(CSR_BY_NAME[csr])))


def cause_of(function: object, *args: object) -> int:
    """0, or the exception code that a guard raises."""
    try:
        function(*args)  # type: ignore[operator]
    except Trap as trap:
        return trap.cause
    return 0

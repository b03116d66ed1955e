"""The memory pages of IMSIC interrupt files (AIA spec 1.0, chapter 3): writing an identity there is an MSI.

The files themselves are in the hart's state (privilege.imsic).
"""

from __future__ import annotations

from collections.abc import Sequence

from trapline.lang.state import Hart
from trapline.privilege.imsic import imsic_message

PAGE = 0x1000
SETEIPNUM_LE, SETEIPNUM_BE = 0, 4


class ImsicWindow:
    """The files of one level: `first` of each hart, and `guests` files of guests behind it.

    Harts are 2**bits pages apart; pages without a file read as zero and ignore writes.
    """

    snapshot_skips = ("_first", "_guests", "_pages")

    def __init__(self, harts: Sequence[Hart], first: int, guests: int = 0) -> None:
        self._harts, self._first, self._guests = harts, first, guests
        self._pages = 1 << guests.bit_length()

    @property
    def size(self) -> int:
        """Bytes of the window."""
        return len(self._harts) * self._pages * PAGE

    def message(self, offset: int, identity: int) -> None:
        """An MSI from a device: a 32-bit little-endian write."""
        page, register = divmod(offset, PAGE)
        index, file = divmod(page, self._pages)
        if register == SETEIPNUM_BE:
            identity = int.from_bytes((identity & 0xFFFF_FFFF).to_bytes(4, "little"), "big")
        elif register != SETEIPNUM_LE:
            return
        if index < len(self._harts) and file <= self._guests:
            self._harts[index].call(imsic_message, self._first + file, identity & 0xFFFF_FFFF)

    def load(self, hart: Hart, offset: int, size: int) -> int:
        """Every register reads as zero."""
        return 0

    def store(self, hart: Hart, offset: int, size: int, value: int) -> None:
        """A hart's write; only aligned words mean anything."""
        if size == 4 and offset % 4 == 0:
            self.message(offset, value)

"""Memory of a machine as Python has sequences: `machine.mem[0x8000_0000:0x8000_0010]`."""

from __future__ import annotations

from typing import Protocol

from trapline.lang.given import Named, require_kind, short, whole


class Bytes(Protocol):
    """What can be read and written by physical address."""

    def read(self, address: int, size: int) -> bytes:
        """Copy bytes out; ValueError where there is no memory."""

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Copy bytes in."""


class Memory(Named):
    """Bytes by physical address (a guest's by guest physical address): an index is one byte, a slice is bytes.

    A write is a loader's: protection does not matter, decoded code follows. ValueError where there is no memory.
    """

    def __init__(self, held: Bytes) -> None:
        self._held = held
        self._complete = True

    def __getitem__(self, where: int | slice) -> int | bytes:
        if isinstance(where, slice):
            address, size = _range(where)
            return self._held.read(address, size)
        return self._held.read(whole("address", where), 1)[0]

    def __setitem__(self, where: int | slice, value: int | bytes | bytearray | memoryview) -> None:
        if isinstance(where, slice):
            address, size = _range(where)
            if not isinstance(value, bytes | bytearray | memoryview):
                raise TypeError(f"[{address:#x}:{address + size:#x}] takes bytes, not {short(value)}")
            if len(value) != size:
                raise ValueError(f"[{address:#x}:{address + size:#x}] takes {size} bytes, not {len(value)}")
            self._held.write(address, value)
        else:
            if not isinstance(value, int) or not 0 <= value < 256:
                raise ValueError(f"a byte is 0 to 255, not {short(value)}")
            self._held.write(whole("address", where), bytes((value,)))

    def word(self, address: int, size: int = 8) -> int:
        """Read `size` bytes, little endian, zero-extended."""
        return int.from_bytes(self._held.read(whole("address", address), whole("size", size, 1)), "little")

    def put_word(self, address: int, value: int, size: int = 8) -> None:
        """Write `size` bytes, little endian; ValueError if the value has more."""
        require_kind("value", value, int)
        if value < 0 or value >> 8 * whole("size", size, 1, 4096):
            raise ValueError(f"{short(value)} does not fit into {size} bytes")
        self._held.write(whole("address", address), value.to_bytes(size, "little"))


def _range(where: slice) -> tuple[int, int]:
    if where.step not in (None, 1) or where.start is None or where.stop is None:
        raise ValueError("a range of memory is [first:end], both given")
    start = whole("first", where.start)
    return start, whole("end", where.stop, start, 1 << 64) - start

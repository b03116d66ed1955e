"""Memory of a machine as Python has sequences: `machine.mem[0x8000_0000:0x8000_0010]`."""

from __future__ import annotations

from typing import Protocol


class Bytes(Protocol):
    """What can be read and written by physical address."""

    def read(self, address: int, size: int) -> bytes:
        """Copy bytes out; ValueError where there is no memory."""
        ...

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Copy bytes in."""
        ...


class Memory:
    """Bytes by physical address (a guest's by guest physical address): an index is one byte, a slice is bytes.

    A write is a loader's: protection does not matter, decoded code follows. ValueError where there is no memory.
    """

    def __init__(self, held: Bytes) -> None:
        self._held = held

    def __getitem__(self, where: int | slice) -> int | bytes:
        if isinstance(where, slice):
            address, size = _range(where)
            return self._held.read(address, size)
        return self._held.read(where, 1)[0]

    def __setitem__(self, where: int | slice, value: int | bytes | bytearray | memoryview) -> None:
        if isinstance(where, slice):
            address, size = _range(where)
            if isinstance(value, int) or len(value) != size:
                raise ValueError(f"[{address:#x}:{address + size:#x}] takes {size} bytes")
            self._held.write(address, value)
        else:
            if not isinstance(value, int) or not 0 <= value < 256:
                raise ValueError(f"a byte is 0 to 255, not {value!r}")
            self._held.write(where, bytes((value,)))

    def word(self, address: int, size: int = 8) -> int:
        """Read `size` bytes, little endian, zero-extended."""
        return int.from_bytes(self._held.read(address, size), "little")

    def put_word(self, address: int, value: int, size: int = 8) -> None:
        """Write `size` bytes, little endian; ValueError if the value has more."""
        if not 0 <= value < 1 << 8 * size:
            raise ValueError(f"{value:#x} does not fit into {size} bytes")
        self._held.write(address, value.to_bytes(size, "little"))


def _range(where: slice) -> tuple[int, int]:
    if where.step not in (None, 1) or where.start is None or where.stop is None or where.stop < where.start:
        raise ValueError("a range of memory is [first:end], both given")
    return where.start, where.stop - where.start

"""Writing a small ELF executable: what `audit --out` leaves behind."""

from __future__ import annotations

import struct
from collections.abc import Sequence

EM_RISCV, ET_EXEC, PT_LOAD = 243, 2, 1
RVC, DOUBLE_FLOAT = 1, 4
_HEADER, _SEGMENT = 64, 56
_PAGE = 0x1000


def elf(entry: int, segments: Sequence[tuple[int, bytes]], *, compressed: bool = True) -> bytes:
    """Return an RV64 executable that loads each (physical address, bytes)."""
    flags = DOUBLE_FLOAT | (RVC if compressed else 0)
    count = len(segments)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01" + bytes(9), ET_EXEC, EM_RISCV, 1, entry, _HEADER, 0, flags, _HEADER, _SEGMENT, count,
        64, 0, 0,
    )  # fmt: skip
    headers, body = bytearray(), bytearray()
    start = -(-(_HEADER + count * _SEGMENT) // _PAGE) * _PAGE
    for address, data in segments:
        offset = start + len(body)
        headers += struct.pack("<IIQQQQQQ", PT_LOAD, 7, offset, address, address, len(data), len(data), _PAGE)
        body += data + bytes(-len(data) % _PAGE)
    padding = bytes(start - _HEADER - len(headers))
    return bytes(header + headers + padding + body)

"""Small stand-ins for tests of the board."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from trapline.lang.control import EXIT_LIMIT
from trapline.lang.state import Hart
from trapline.privilege.memory import NO_RESERVATION


class FakeHart(Hart):
    """A hart that no engine runs."""

    def __init__(self) -> None:
        super().__init__()
        self.time_ratio = 100
        self.reservation = NO_RESERVATION


class FakeEngine:
    """Retires instructions without doing anything; `script` gives (limit of this turn, exit) by instret."""

    def __init__(self) -> None:
        self.exits: dict[int, int] = {}
        self.turns: list[tuple[int, int]] = []

    def call_turns(self, function: Callable[..., None], hart: Hart, *args: Any) -> None:
        """Under CPython."""
        function(hart, *args)

    def run(self, hart: Hart, limit: int) -> int:
        """Retire up to `limit`, or up to the next scripted exit."""
        start = int(hart.instret)
        stops = sorted(at for at in self.exits if start < at <= start + limit)
        end = stops[0] if stops else start + limit
        self.turns.append((start, end))
        hart.instret = end
        return self.exits[end] if stops else EXIT_LIMIT


def make_elf(
    code: bytes,
    address: int = 0x8000_0000,
    *,
    entry: int | None = None,
    symbols: dict[str, int] | None = None,
    memory_size: int | None = None,
    machine: int = 243,
    bits: int = 2,
    order: int = 1,
    kind: int = 2,
    executable: bool = True,
) -> bytes:
    """Build a small ELF64 with one segment and a symbol table."""
    names, table = b"\0.symtab\0.strtab\0", bytes(24)
    for name, value in (symbols or {}).items():
        table += struct.pack("<IBBHQQ", len(names), 0x10, 0, 1, value, 8)
        names += name.encode() + b"\0"
    code_at = 64 + 56
    table_at = code_at + len(code)
    names_at = table_at + len(table)
    sections_at = names_at + len(names)
    ident = b"\x7fELF" + bytes((bits, order, 1)) + bytes(9)
    byte_order = ">" if order == 2 else "<"
    header = ident + struct.pack(
        byte_order + "HHIQQQIHHHHHH",
        kind,
        machine,
        1,
        address if entry is None else entry,
        64,
        sections_at,
        0,
        64,
        56,
        1,
        64,
        3,
        2,
    )
    flags = 5 if executable else 6
    size = len(code) if memory_size is None else memory_size
    program = struct.pack("<IIQQQQQQ", 1, flags, code_at, address, address, len(code), size, 4096)
    sections = bytes(64)
    sections += struct.pack("<IIQQQQIIQQ", 1, 2, 0, 0, table_at, len(table), 2, 1, 8, 24)
    sections += struct.pack("<IIQQQQIIQQ", 9, 3, 0, 0, names_at, len(names), 0, 0, 1, 0)
    return header + program + code + table + names + sections

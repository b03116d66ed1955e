"""Writing a small static ELF64 for RISC-V: segments and global symbols, nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from trapline.lang.elf_format import (
    EM_RISCV,
    ET_EXEC,
    HEADER,
    MAGIC,
    PROGRAM,
    PT_LOAD,
    SECTION,
    SHT_STRTAB,
    SHT_SYMTAB,
    SYMBOL,
)

_RWX, _NULL = 7, 0
_RVC, _DOUBLE_FLOAT_ABI = 1, 4
_GLOBAL, _ABSOLUTE = 1 << 4, 0xFFF1


@dataclass(frozen=True)
class Part:
    """Bytes at a physical address."""

    address: int
    data: bytes


def write_elf(parts: Iterable[Part], symbols: dict[str, int], entry: int, *, compressed: bool = True) -> bytes:
    """Return an executable with one segment a part and these symbols; `compressed` says that it has such code."""
    parts = tuple(parts)
    names = b"\0.symtab\0.strtab\0" + b"".join(name.encode() + b"\0" for name in symbols)
    table = bytes(SYMBOL.size)
    for name, value in symbols.items():
        table += SYMBOL.pack(names.index(b"\0" + name.encode() + b"\0") + 1, _GLOBAL, 0, _ABSOLUTE, value, 0)
    at = HEADER.size + PROGRAM.size * len(parts)
    programs = b""
    for part in parts:
        size = len(part.data)
        programs += PROGRAM.pack(PT_LOAD, _RWX, at, part.address, part.address, size, size, 1)
        at += size
    at_table, at_names = at, at + len(table)
    at_sections = at_names + len(names)
    header = HEADER.pack(
        MAGIC + b"\x02\x01\x01", ET_EXEC, EM_RISCV, 1, entry, HEADER.size, at_sections,
        _DOUBLE_FLOAT_ABI | (_RVC if compressed else 0), HEADER.size, PROGRAM.size, len(parts), SECTION.size, 3, 2,
    )  # fmt: skip
    sections = _section(0, _NULL)
    sections += _section(1, SHT_SYMTAB, at_table, len(table), link=2, info=1, entry=SYMBOL.size)
    sections += _section(9, SHT_STRTAB, at_names, len(names))
    return header + programs + b"".join(part.data for part in parts) + table + names + sections


def _section(
    name: int, kind: int, offset: int = 0, size: int = 0, link: int = 0, info: int = 0, entry: int = 0
) -> bytes:
    return SECTION.pack(name, kind, 0, 0, offset, size, link, info, 8 if offset else 0, entry)

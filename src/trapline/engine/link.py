"""A small linker: relocatable x86-64 ELF objects become one flat image that runs at any address."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Sequence
from typing import Any

from trapline.dataclass import dataclass
from trapline.lang.elf_format import R_X86_64_PC32, R_X86_64_PLT32, SHF_ALLOC


class LinkError(RuntimeError):
    """The object needs something that the image cannot give; names it."""


@dataclass(frozen=True, slots=True)
class Image:
    """Bytes that run at any page-aligned address, and offsets of the named functions."""

    code: bytes
    symbols: dict[str, int]


def link(objects: Sequence[bytes], names: Iterable[str]) -> Image:
    """Lay the objects' sections out, resolve their relocations, and look the names up.

    A name that an object does not define is another's; functions that an object keeps to itself may have equal names.
    """
    image = bytearray()
    laid = [_lay_out(obj, image) for obj in objects]
    found: dict[str, int] = {}
    for one in laid:
        found |= dict(one.where.values())
    shared = {name: place for one in laid for name, place in one.shared.items()}
    for one in laid:
        for number, name in one.wanted.items():
            if name in shared:
                one.where[number] = name, shared[name]
        for base, relocation in one.relocations:
            relocate(image, base, relocation, one.where, one.table)
    found |= shared
    missing = [n for n in names if n not in found]
    if missing:
        raise LinkError(f"the compiled object lacks {missing[0]!r} and {len(missing) - 1} more")
    return Image(bytes(image), {n: o for n, o in found.items() if n})


@dataclass(frozen=True, slots=True)
class _Laid:
    """An object in the image: where its symbols are, by number and, of what others may name, by name."""

    table: Any
    where: dict[int, tuple[str, int]]
    shared: dict[str, int]
    wanted: dict[int, str]
    relocations: list[tuple[int, Any]]


def _lay_out(obj: bytes, image: bytearray) -> _Laid:
    from elftools.elf.elffile import ELFFile
    from elftools.elf.relocation import RelocationSection

    elf = ELFFile(io.BytesIO(obj))
    if elf["e_machine"] != "EM_X86_64":
        raise LinkError(f"native code for {elf['e_machine']} is not supported: use --engine reference")
    places = {}
    for index, section in enumerate(elf.iter_sections()):
        if section["sh_flags"] & SHF_ALLOC and section["sh_size"] and section.name != ".eh_frame":
            image += bytes(-len(image) % max(section["sh_addralign"], 1))
            places[index] = len(image)
            image += section.data() if section["sh_type"] != "SHT_NOBITS" else bytes(section["sh_size"])
    table: Any = elf.get_section_by_name(".symtab")
    laid = _Laid(table, {}, {}, {}, [])
    for number, symbol in enumerate(table.iter_symbols()):
        if symbol["st_shndx"] in places:
            place = places[symbol["st_shndx"]] + symbol["st_value"]
            laid.where[number] = symbol.name, place
            if symbol["st_info"]["bind"] == "STB_GLOBAL":
                laid.shared[symbol.name] = place
        elif symbol["st_shndx"] == "SHN_UNDEF" and symbol.name:
            laid.wanted[number] = symbol.name
    for section in elf.iter_sections():
        if isinstance(section, RelocationSection) and section["sh_info"] in places:
            base = places[section["sh_info"]]
            laid.relocations.extend((base, relocation) for relocation in section.iter_relocations())
    return laid


def relocate(image: bytearray, base: int, reloc: object, where: dict[int, tuple[str, int]], table: object) -> None:
    """Resolve one relocation; only position-independent ones are accepted."""
    info = reloc["r_info_type"]  # type: ignore[index]
    number = reloc["r_info_sym"]  # type: ignore[index]
    if number not in where or info not in (R_X86_64_PC32, R_X86_64_PLT32):
        name = table.get_symbol(number).name  # type: ignore[attr-defined]
        raise LinkError(f"the compiled code refers to {name!r} by relocation type {info}, which no host library gives")
    place = base + reloc["r_offset"]  # type: ignore[index]
    value = where[number][1] + reloc["r_addend"] - place  # type: ignore[index]
    struct.pack_into("<i", image, place, value)

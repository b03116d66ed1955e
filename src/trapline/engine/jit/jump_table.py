"""Where a jump through a register may go: the tables that compilers make of a `switch`.

    slli a5, a5, 2          ; the case
    add  a5, a5, a2         ; a2: the table's address, from auipc (or lui) and addi
    lw   a5, 0(a5)
    add  a5, a5, a2         ; words are distances from the table; without this line they are addresses
    jr   a5

All of this is a guess, like everything that a region knows of other places: the code compares the target.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from trapline.engine.jit.source import MASK, PAGE
from trapline.isa.lookup import written_x

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trapline.engine.jit.source import Pages
    from trapline.isa.decode import Decoded

    Search = Callable[[int], Decoded | None]

MOST = 256  # entries
BACK, ON = 8, 10  # instructions that are looked at: in front of the jump, behind the upper half of an address


def targets(pages: Pages, before: list[Decoded], jump: tuple[int, Decoded], search: Search) -> list[int]:
    """The places of a table's entries for a jump at a place behind some instructions; empty without such a table."""
    place, found = jump
    shape = shape_of(before[-BACK:], found.operands["rs1"])
    if shape is None:
        return []
    registers, size, relative = shape
    for register in registers:
        for address in addresses(pages, register, search):
            entries = read(pages, place, address, size, address if relative else 0)
            if len(entries) > 1:
                return entries
    return []


def shape_of(before: list[Decoded], register: int) -> tuple[list[int], int, bool] | None:
    """Registers that may hold the table's address, bytes of an entry, and whether entries are distances from it."""
    base: int | None = None
    wanted, size = register, 0
    for found in reversed(before):
        if written_x(found) != wanted:
            continue
        name, operands = found.instruction.name, found.operands
        pair = [operands[n] for n in ("rs1", "rs2") if n in operands]
        if name == "add" and not size and base is None and wanted in pair:
            base = pair[0] if pair[1] == wanted else pair[1]
        elif name in ("lw", "ld", "lwu") and not size and operands["imm"] == 0:
            size, wanted = 8 if name == "ld" else 4, operands["rs1"]
        elif name in ("add", "sh2add", "sh3add") and size:
            return ([base], size, True) if base in pair else (pair, size, False) if base is None else None
        else:
            return None
    return None


def addresses(pages: Pages, register: int, search: Search) -> Iterator[int]:
    """What auipc or lui, and addi, put into a register somewhere in the pages."""
    for number, data in enumerate(pages.data):
        for offset in range(0, PAGE - 4, 2):
            low = data[offset] | data[offset + 1] << 8
            if low & 0x5F == 0x17 and low >> 7 & 31 == register:
                upper = search(int.from_bytes(data[offset : offset + 4], "little"))
                lower = added(data, offset + 4, register, search)
                at = pages.address(number << 12 | offset)
                if upper is not None and lower is not None and at is not None:
                    yield (at * (upper.instruction.name == "auipc") + upper.operands["imm"] + lower) & MASK


def added(data: bytes, offset: int, register: int, search: Search) -> int | None:
    """What the next addi adds to a register that nothing else writes before."""
    for _ in range(ON):
        bits = int.from_bytes(data[offset : offset + 4], "little")
        found = search(bits if bits & 3 == 3 else bits & 0xFFFF) if offset + 4 <= PAGE else None
        if found is None:
            return None
        if written_x(found) == register:
            ours = found.instruction.name == "addi" and found.operands["rs1"] == register
            return found.operands["imm"] if ours else None
        offset += found.length
    return None


def read(pages: Pages, place: int, address: int, size: int, base: int) -> list[int]:
    """The places to which a table's entries lead, up to the first that leads nowhere."""
    at, out = pages.address(place), []
    data = pages.read(address, MOST * size)
    for (entry,) in struct.iter_unpack("<i" if size == 4 else "<q", data[: len(data) // size * size]):
        target = base + entry & MASK
        distance = (target - at + (1 << 63) & MASK) - (1 << 63) if at is not None else PAGE * PAGE
        if target & 1 or abs(distance) > 4 * PAGE:
            break
        found = pages.place(place, distance)
        if found is not None and found not in out:
            out.append(found)
    return out

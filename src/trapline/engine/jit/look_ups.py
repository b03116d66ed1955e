"""Which accesses of a block read a small table: its address in a register that stays, plus a number that is small.

    andi a5, a5, 63
    add  a5, a5, a2     ; a2 does not change in the loop
    lbu  a5, 0(a5)

Wherever the number comes from, the access is probably in the page of the one before to the same table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trapline.isa.lookup import scalar_access, written_x

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from trapline.engine.jit.region import Block
    from trapline.isa.decode import Decoded

SMALL = 2048  # bytes
MASK, WORD = (1 << 64) - 1, (1 << 32) - 1
BYTES = {"lbu": 0xFF, "lhu": 0xFFFF}


def tables(block: Block, invariant: AbstractSet[int]) -> dict[int, int]:
    """By place of an access, the register that holds the address of its table."""
    most: dict[int, int] = {0: 0}  # by register, the largest number that it may hold, if that is less than any
    holds: dict[int, int] = {}  # registers that hold the address of something in the table of another
    found: dict[int, int] = {}
    for place, decoded in block.code:
        if scalar_access(decoded.instruction) is not None and decoded.operands.get("rs1") in holds:
            found[place] = holds[decoded.operands["rs1"]]
        target = written_x(decoded)
        if target is None:
            continue
        table, bound = table_of(decoded, most, invariant), bound_of(decoded, most)
        holds.pop(target, None)
        most.pop(target, None)
        if table is not None:
            holds[target] = table
        elif bound is not None and target:
            most[target] = bound
    return found


def table_of(found: Decoded, most: dict[int, int], invariant: AbstractSet[int]) -> int | None:
    """The register with a table's address to which an instruction adds a small number."""
    name, operands = found.instruction.name, found.operands
    shift = {"add": 0, "sh1add": 1, "sh2add": 2, "sh3add": 3}.get(name)
    if shift is None:
        return None
    ways = [(operands["rs1"], operands["rs2"])] + [(operands["rs2"], operands["rs1"])] * (shift == 0)
    for number, table in ways:
        if table and table in invariant and number in most and most[number] << shift < SMALL:
            return table
    return None


def bound_of(found: Decoded, most: dict[int, int]) -> int | None:
    """The largest number that an instruction may make, where that is known to be less than any."""
    name, operands = found.instruction.name, found.operands
    a, b = (most.get(operands[n]) if n in operands else None for n in ("rs1", "rs2"))
    value, shift = operands.get("imm", 0), operands.get("shamt", 0)
    bound: int | None = BYTES.get(name)
    if name == "andi" and value >= 0:
        bound = value if a is None else min(a, value)
    elif name == "addi" and a is not None and value >= 0:
        bound = a + value
    elif name == "srli":
        bound = (MASK if a is None else a) >> shift
    elif name == "srliw" and shift:
        bound = (WORD if a is None else min(a, WORD)) >> shift
    elif name == "slli" and a is not None:
        bound = a << shift
    elif name in ("slliw", "addiw", "addw") and a is not None:
        bound = {
            "slliw": a << shift,
            "addiw": a + value if value >= 0 else MASK,
            "addw": a + (MASK if b is None else b),
        }[name]
        bound = bound if bound < 1 << 31 else None
    elif name == "and" and (a is not None or b is not None):
        bound = min(n for n in (a, b) if n is not None)
    elif a is not None and b is not None and name in ("or", "xor", "add"):
        bound = a + b if name == "add" else (1 << max(a.bit_length(), b.bit_length())) - 1
    return bound if bound is not None and bound < MASK else None

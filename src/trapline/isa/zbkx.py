"""Zbkx: crossbar permutations; an index beyond the source gives 0."""

from __future__ import annotations

from trapline.lang.functions import cold, instruction
from trapline.lang.state import Hart
from trapline.lang.values import U64


@cold
def permute_bytes(table: U64, indices: U64) -> U64:
    """Each byte of `indices` selects a byte of `table`."""
    result = U64(0)
    for i in range(8):
        index = (indices >> (i * 8)) & 255
        if index < 8:
            result = result | (((table >> ((index * 8) & 63)) & 255) << (i * 8))
    return result


@cold
def permute_nibbles(table: U64, indices: U64) -> U64:
    """Each four bits of `indices` select four bits of `table`."""
    result = U64(0)
    for i in range(16):
        index = (indices >> (i * 4)) & 15
        result = result | (((table >> ((index * 4) & 63)) & 15) << (i * 4))
    return result


@instruction("xperm8 rd, rs1, rs2", "0010100 rs2 rs1 100 rd 0110011", extension="Zbkx")
def xperm8(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = permute_bytes(hart.x[rs1], hart.x[rs2])


@instruction("xperm4 rd, rs1, rs2", "0010100 rs2 rs1 010 rd 0110011", extension="Zbkx")
def xperm4(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = permute_nibbles(hart.x[rs1], hart.x[rs2])

"""Zbc: carry-less multiplication; clmul and clmulh also belong to Zbkc."""

from __future__ import annotations

from trapline.lang.functions import cold, instruction
from trapline.lang.state import Hart
from trapline.lang.values import U64


@cold
def carryless_low(a: U64, b: U64) -> U64:
    """Low 64 bits of the 127-bit product."""
    product = U64(0)
    for i in range(64):
        if (b >> i) & 1 != 0:
            product = product ^ (a << i)
    return product


@cold
def carryless_reversed(a: U64, b: U64) -> U64:
    """Bits 126..63 of the 127-bit product."""
    product = U64(0)
    for i in range(64):
        if (b >> i) & 1 != 0:
            product = product ^ (a >> (63 - i))
    return product


@instruction("clmul rd, rs1, rs2", "0000101 rs2 rs1 001 rd 0110011", extension="Zbc|Zbkc")
def clmul(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = carryless_low(hart.x[rs1], hart.x[rs2])


@instruction("clmulh rd, rs1, rs2", "0000101 rs2 rs1 011 rd 0110011", extension="Zbc|Zbkc")
def clmulh(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = carryless_reversed(hart.x[rs1], hart.x[rs2]) >> 1


@instruction("clmulr rd, rs1, rs2", "0000101 rs2 rs1 010 rd 0110011", extension="Zbc")
def clmulr(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = carryless_reversed(hart.x[rs1], hart.x[rs2])

"""Zbkb: bit manipulation for cryptography; what it shares with Zbb is in zbb.py."""

from __future__ import annotations

from trapline.lang.functions import instruction
from trapline.lang.state import Hart
from trapline.lang.values import U64, sext, zext

# Alternate groups of 1, 2 and 4 bits.
BITS_1 = 0x5555_5555_5555_5555
BITS_2 = 0x3333_3333_3333_3333
BITS_4 = 0x0F0F_0F0F_0F0F_0F0F


@instruction("pack rd, rs1, rs2", "0000100 rs2 rs1 100 rd 0110011", extension="Zbkb")
def pack(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = zext(hart.x[rs1], 32) | (hart.x[rs2] << 32)


@instruction("packh rd, rs1, rs2", "0000100 rs2 rs1 111 rd 0110011", extension="Zbkb")
def packh(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = zext(hart.x[rs1], 8) | (zext(hart.x[rs2], 8) << 8)


@instruction("packw rd, rs1, rs2", "0000100 rs2 rs1 100 rd 0111011", extension="Zbkb")
def packw(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = sext(zext(hart.x[rs1], 16) | (zext(hart.x[rs2], 16) << 16), 32)


@instruction("brev8 rd, rs1", "011010000111 rs1 101 rd 0010011", extension="Zbkb")
def brev8(hart: Hart, rd: U64, rs1: U64) -> None:
    value = hart.x[rs1]
    value = ((value & BITS_1) << 1) | ((value >> 1) & BITS_1)
    value = ((value & BITS_2) << 2) | ((value >> 2) & BITS_2)
    hart.x[rd] = ((value & BITS_4) << 4) | ((value >> 4) & BITS_4)

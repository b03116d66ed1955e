"""Zbb: basic bit manipulation; rotations, inverted logic and rev8 also belong to Zbkb."""

from __future__ import annotations

from trapline.lang.functions import inline, instruction
from trapline.lang.state import Hart
from trapline.lang.values import U64, byte_reverse, popcount, sext, signed, zext
from trapline.lang.values import clz as leading_zeros
from trapline.lang.values import ctz as trailing_zeros

BIT_32 = 1 << 32
LOW_7_OF_BYTES = 0x7F7F_7F7F_7F7F_7F7F
LOW_1_OF_BYTES = 0x0101_0101_0101_0101


@inline
def rotate_right(value: U64, count: U64) -> U64:
    """Rotate 64 bits right by the low six bits of count."""
    return (value >> (count & 63)) | (value << ((64 - count) & 63))


@inline
def rotate_right_word(value: U64, count: U64) -> U64:
    """Rotate the low 32 bits right by the low five bits of count; sign-extended."""
    word = zext(value, 32)
    return sext((word >> (count & 31)) | (word << ((32 - count) & 31)), 32)


@instruction("andn rd, rs1, rs2", "0100000 rs2 rs1 111 rd 0110011", extension="Zbb|Zbkb")
def andn(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = hart.x[rs1] & ~hart.x[rs2]


@instruction("orn rd, rs1, rs2", "0100000 rs2 rs1 110 rd 0110011", extension="Zbb|Zbkb")
def orn(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = hart.x[rs1] | ~hart.x[rs2]


@instruction("xnor rd, rs1, rs2", "0100000 rs2 rs1 100 rd 0110011", extension="Zbb|Zbkb")
def xnor(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = ~(hart.x[rs1] ^ hart.x[rs2])


@instruction("clz rd, rs1", "0110000 00000 rs1 001 rd 0010011", extension="Zbb")
def clz(hart: Hart, rd: U64, rs1: U64) -> None:
    hart.x[rd] = leading_zeros(hart.x[rs1])


@instruction("clzw rd, rs1", "0110000 00000 rs1 001 rd 0011011", extension="Zbb")
def clzw(hart: Hart, rd: U64, rs1: U64) -> None:
    hart.x[rd] = leading_zeros(zext(hart.x[rs1], 32)) - 32


@instruction("ctz rd, rs1", "0110000 00001 rs1 001 rd 0010011", extension="Zbb")
def ctz(hart: Hart, rd: U64, rs1: U64) -> None:
    hart.x[rd] = trailing_zeros(hart.x[rs1])


@instruction("ctzw rd, rs1", "0110000 00001 rs1 001 rd 0011011", extension="Zbb")
def ctzw(hart: Hart, rd: U64, rs1: U64) -> None:
    hart.x[rd] = trailing_zeros(hart.x[rs1] | BIT_32)


@instruction("cpop rd, rs1", "0110000 00010 rs1 001 rd 0010011", extension="Zbb")
def cpop(hart: Hart, rd: U64, rs1: U64) -> None:
    hart.x[rd] = popcount(hart.x[rs1])


@instruction("cpopw rd, rs1", "0110000 00010 rs1 001 rd 0011011", extension="Zbb")
def cpopw(hart: Hart, rd: U64, rs1: U64) -> None:
    hart.x[rd] = popcount(zext(hart.x[rs1], 32))


@instruction("max rd, rs1, rs2", "0000101 rs2 rs1 110 rd 0110011", extension="Zbb")
def max_(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = hart.x[rs1] if signed(hart.x[rs1]) > signed(hart.x[rs2]) else hart.x[rs2]


@instruction("maxu rd, rs1, rs2", "0000101 rs2 rs1 111 rd 0110011", extension="Zbb")
def maxu(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = hart.x[rs1] if hart.x[rs1] > hart.x[rs2] else hart.x[rs2]


@instruction("min rd, rs1, rs2", "0000101 rs2 rs1 100 rd 0110011", extension="Zbb")
def min_(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = hart.x[rs1] if signed(hart.x[rs1]) < signed(hart.x[rs2]) else hart.x[rs2]


@instruction("minu rd, rs1, rs2", "0000101 rs2 rs1 101 rd 0110011", extension="Zbb")
def minu(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = hart.x[rs1] if hart.x[rs1] < hart.x[rs2] else hart.x[rs2]


@instruction("sext.b rd, rs1", "0110000 00100 rs1 001 rd 0010011", extension="Zbb")
def sext_b(hart: Hart, rd: U64, rs1: U64) -> None:
    hart.x[rd] = sext(hart.x[rs1], 8)


@instruction("sext.h rd, rs1", "0110000 00101 rs1 001 rd 0010011", extension="Zbb")
def sext_h(hart: Hart, rd: U64, rs1: U64) -> None:
    hart.x[rd] = sext(hart.x[rs1], 16)


@instruction("zext.h rd, rs1", "0000100 00000 rs1 100 rd 0111011", extension="Zbb")
def zext_h(hart: Hart, rd: U64, rs1: U64) -> None:
    hart.x[rd] = zext(hart.x[rs1], 16)


@instruction("orc.b rd, rs1", "001010000111 rs1 101 rd 0010011", extension="Zbb")
def orc_b(hart: Hart, rd: U64, rs1: U64) -> None:
    value = hart.x[rs1]
    # The top bit of each byte: is any of its bits set? Adding 0x7f to seven bits never carries out of a byte.
    any_set = (((value & LOW_7_OF_BYTES) + LOW_7_OF_BYTES) | value) >> 7
    hart.x[rd] = (any_set & LOW_1_OF_BYTES) * 255


@instruction("rev8 rd, rs1", "011010111000 rs1 101 rd 0010011", extension="Zbb|Zbkb")
def rev8(hart: Hart, rd: U64, rs1: U64) -> None:
    hart.x[rd] = byte_reverse(hart.x[rs1])


@instruction("rol rd, rs1, rs2", "0110000 rs2 rs1 001 rd 0110011", extension="Zbb|Zbkb")
def rol(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = rotate_right(hart.x[rs1], 64 - hart.x[rs2])


@instruction("rolw rd, rs1, rs2", "0110000 rs2 rs1 001 rd 0111011", extension="Zbb|Zbkb")
def rolw(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = rotate_right_word(hart.x[rs1], 32 - hart.x[rs2])


@instruction("ror rd, rs1, rs2", "0110000 rs2 rs1 101 rd 0110011", extension="Zbb|Zbkb")
def ror(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = rotate_right(hart.x[rs1], hart.x[rs2])


@instruction("rori rd, rs1, shamt", "011000 shamt[5:0] rs1 101 rd 0010011", extension="Zbb|Zbkb")
def rori(hart: Hart, rd: U64, rs1: U64, shamt: U64) -> None:
    hart.x[rd] = rotate_right(hart.x[rs1], shamt)


@instruction("roriw rd, rs1, shamt", "0110000 shamt[4:0] rs1 101 rd 0011011", extension="Zbb|Zbkb")
def roriw(hart: Hart, rd: U64, rs1: U64, shamt: U64) -> None:
    hart.x[rd] = rotate_right_word(hart.x[rs1], shamt)


@instruction("rorw rd, rs1, rs2", "0110000 rs2 rs1 101 rd 0111011", extension="Zbb|Zbkb")
def rorw(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = rotate_right_word(hart.x[rs1], hart.x[rs2])

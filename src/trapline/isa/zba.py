"""Zba: address generation."""

from __future__ import annotations

from trapline.lang.functions import instruction
from trapline.lang.state import Hart
from trapline.lang.values import U64, zext


@instruction("sh1add rd, rs1, rs2", "0010000 rs2 rs1 010 rd 0110011", extension="Zba")
def sh1add(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = (hart.x[rs1] << 1) + hart.x[rs2]


@instruction("sh2add rd, rs1, rs2", "0010000 rs2 rs1 100 rd 0110011", extension="Zba")
def sh2add(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = (hart.x[rs1] << 2) + hart.x[rs2]


@instruction("sh3add rd, rs1, rs2", "0010000 rs2 rs1 110 rd 0110011", extension="Zba")
def sh3add(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = (hart.x[rs1] << 3) + hart.x[rs2]


@instruction("add.uw rd, rs1, rs2", "0000100 rs2 rs1 000 rd 0111011", extension="Zba")
def add_uw(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = zext(hart.x[rs1], 32) + hart.x[rs2]


@instruction("sh1add.uw rd, rs1, rs2", "0010000 rs2 rs1 010 rd 0111011", extension="Zba")
def sh1add_uw(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = (zext(hart.x[rs1], 32) << 1) + hart.x[rs2]


@instruction("sh2add.uw rd, rs1, rs2", "0010000 rs2 rs1 100 rd 0111011", extension="Zba")
def sh2add_uw(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = (zext(hart.x[rs1], 32) << 2) + hart.x[rs2]


@instruction("sh3add.uw rd, rs1, rs2", "0010000 rs2 rs1 110 rd 0111011", extension="Zba")
def sh3add_uw(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = (zext(hart.x[rs1], 32) << 3) + hart.x[rs2]


@instruction("slli.uw rd, rs1, shamt", "000010 shamt[5:0] rs1 001 rd 0011011", extension="Zba")
def slli_uw(hart: Hart, rd: U64, rs1: U64, shamt: U64) -> None:
    hart.x[rd] = zext(hart.x[rs1], 32) << (shamt & 63)
